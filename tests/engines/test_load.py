import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.grids.tables import LogGrid
from carsam.simulation import slots


@pytest.fixture
def run(tiny_sam, image_folder, tmp_path):
    quantize(tiny_sam, image_folder, "rtn", count=1).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("engine", "mode"), [("auto", "native"), ("native", "native"), ("simulated", "simulated")]
)
def test_a_run_is_loaded_with_the_engine_asked_for(run, engine, mode):
    loaded = load(run, engine)
    assert isinstance(loaded, Engine)
    assert (loaded.mode, loaded.image_size) == (mode, 64)


def test_a_grid_that_native_has_not_falls_back_to_simulated(tiny_sam, image_folder, tmp_path):
    model = quantize(tiny_sam, image_folder, "rtn", count=1)
    site = next(site for site in model.sites if site.type == "attention")
    grid = LogGrid(torch.tensor([0.5]), 1, 4)
    slots.set_quantizer_(model.module, site, "key", grid)
    model.save(tmp_path / "run")
    assert load(tmp_path / "run").mode == "simulated"
    with pytest.raises(ValueError, match=f"no log2 grid for the key of {site.path}"):
        load(tmp_path / "run", "native")


def test_a_float_model_runs_in_float(tiny_sam, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").mode == "float"


@pytest.mark.parametrize(
    ("engine", "message"),
    [("float", "is quantized; to run it in float"), ("magic", "Engine magic is not known")],
)
def test_an_engine_that_does_not_fit_a_run_is_refused(run, engine, message):
    with pytest.raises(ValueError, match=message):
        load(run, engine)


def test_a_folder_that_is_no_run_is_refused_by_the_native_engine(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        load(tmp_path, "native")


def test_an_unknown_device_is_refused(run):
    with pytest.raises(ValueError, match="Device tpu is not known"):
        load(run, "simulated", device="tpu")
