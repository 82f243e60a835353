import pytest

from carsam.calibration.quantize import quantize
from carsam.cli import main


@pytest.fixture
def run(tiny_sam, image_folder, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "model")
    quantize(tmp_path / "model", image_folder, "rtn", count=1).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def pages() -> list[bytes]:
    """The bytes of `page`, once one test has made them."""
    return []


@pytest.fixture
def page(request, pages, tmp_path):
    """A report with photos and a diagnosis."""
    out = tmp_path / "report.html"
    if not pages:
        run, images = map(request.getfixturevalue, ("run", "image_folder"))
        photos = ["--images", str(images), "--count", "2", "--quiet"]
        assert main(["doctor", str(run), *photos, "--out", str(tmp_path / "doctor")]) == 0
        doctor = ["--doctor", str(tmp_path / "doctor")]
        assert main(["report", str(run), *photos, *doctor, "--out", str(out)]) == 0
        pages.append(out.read_bytes())
    out.write_bytes(pages[0])
    return out
