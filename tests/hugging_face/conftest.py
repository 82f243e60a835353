import pytest

from carsam.calibration.quantize import quantize
from carsam.hugging_face import export


@pytest.fixture
def run(tiny_sam, image_folder, tmp_path):
    quantize(tiny_sam, image_folder, "rtn", count=1).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def folder(run, tmp_path):
    export(run, tmp_path / "exported")
    return tmp_path / "exported"
