"""A float model in the package's folder of models is found by its name."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from carsam import families  # noqa: E402 - after the checks for what it needs
from carsam.errors import UserError  # noqa: E402
from carsam.formats import bundled  # noqa: E402
from carsam.formats.model_paths import find_float_model, find_run  # noqa: E402


@pytest.fixture
def packaged(tmp_path, monkeypatch, tiny_sam2_video):
    """A package with one float model of SAM 2 for videos."""
    for module in (bundled, families):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "models")
    tiny_sam2_video.save_pretrained(tmp_path / "models" / "tiny-sam2")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tiny_sam2_video


def test_the_package_has_sam_mini() -> None:
    assert "sam-mini" in bundled.bundled_models()


def test_it_is_loaded_by_its_name(packaged) -> None:
    assert bundled.bundled_models() == ("tiny-sam2",)
    assert find_float_model("tiny-sam2") == "tiny-sam2"
    family, model = families.load_model("tiny-sam2")
    assert family.name == "sam2_video"
    for name, tensor in packaged.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_it_is_no_run(packaged) -> None:
    with pytest.raises(UserError, match="tiny-sam2 is a bundled float model, not a run"):
        find_run("tiny-sam2")
