import pytest

from carsam.calibration.quantize import quantize
from carsam.cli import main


@pytest.fixture
def run(tiny_sam, image_folder, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "model")
    quantize(tmp_path / "model", image_folder, "rtn", count=1).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def page(run, image_folder, tmp_path):
    """A report with photos and a diagnosis."""
    photos = ["--images", str(image_folder), "--count", "2"]
    assert main(["doctor", str(run), *photos, "--out", str(tmp_path / "doctor"), "--quiet"]) == 0
    out = tmp_path / "report.html"
    doctor = ["--doctor", str(tmp_path / "doctor")]
    assert main(["report", str(run), *photos, *doctor, "--out", str(out), "--quiet"]) == 0
    return out
