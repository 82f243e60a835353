import re

import pytest
import torch
from without_torch import run_without_torch

from carsam.calibration.quantize import quantize
from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.engines.video import VideoEngine
from carsam.grids.tables import LogGrid
from carsam.simulation import slots
from carsam.video.predictor import video_engine


@pytest.mark.parametrize(
    ("engine", "mode"), [("auto", "native"), ("native", "native"), ("simulated", "simulated")]
)
def test_a_run_is_loaded_with_the_engine_asked_for(run, engine, mode):
    loaded = load(run, engine)
    assert isinstance(loaded, Engine)
    assert (loaded.mode, loaded.framing.side) == (mode, 64)


def test_a_model_for_videos_is_loaded_with_its_memory(tiny_sam2_video, image_folder, tmp_path, run):
    quantize(tiny_sam2_video, image_folder, "rtn", count=1).save(tmp_path / "video")
    for name, mode in (("auto", "native"), ("native", "native"), ("simulated", "simulated")):
        engine = load(tmp_path / "video", name)
        assert isinstance(engine, VideoEngine)
        assert engine.mode == mode
    assert video_engine(tmp_path / "video").mode == "native"
    with pytest.raises(ValueError, match=r"NativeEngine \(native\) has no memory"):
        video_engine(run)


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


def test_an_unknown_engine_is_refused(run):
    with pytest.raises(ValueError, match="Engine magic is not known; expected auto, float, native"):
        load(run, "magic")


def test_a_run_is_refused_where_a_float_model_belongs(run, kept):
    origin = re.escape(str(kept / "model"))
    with pytest.raises(ValueError, match=rf"is a run of `carsam quantize`.*made from \({origin}\)"):
        load(run, "float")


@pytest.mark.parametrize("engine", ["auto", "float", "native", "simulated"])
@pytest.mark.parametrize("file", ["carsam.json", "model.safetensors"])
def test_a_file_of_a_run_leads_to_its_folder(run, engine, file):
    with pytest.raises(ValueError, match=rf"{file} is a file of the run"):
        load(run / file, engine)


@pytest.mark.parametrize("engine", ["native", "simulated"])
def test_a_float_model_is_refused_where_a_run_belongs(tiny_sam, tmp_path, engine):
    tiny_sam.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="is a float model of transformers, not a run"):
        load(tmp_path / "model", engine)


def test_a_run_with_a_plain_configuration_beside_it_stays_a_run(run, tiny_sam):
    tiny_sam.config.save_pretrained(run)
    assert load(run).mode == "native"


@pytest.mark.parametrize("engine", ["auto", "float", "native", "simulated"])
def test_a_mistyped_path_is_blamed(run, engine):
    with pytest.raises(ValueError, match=r"no file or folder .*rum\. Did you mean .*run\?"):
        load(run.with_name("rum"), engine)


def test_a_mistyped_path_is_blamed_without_torch(tmp_path):
    code = "import sys; from carsam.engines.load import load; load(sys.argv[1])"
    result = run_without_torch(code, str(tmp_path / "sam.pth"))
    assert "There is no file or folder" in result.stderr


def test_what_is_left_out_of_a_file_is_told(tiny_sam, tmp_path):
    state = {f"sam.{name}": tensor for name, tensor in tiny_sam.state_dict().items()}
    tiny_sam.config.save_pretrained(tmp_path)
    torch.save({**state, "head.weight": torch.ones(1)}, tmp_path / "sam.pth")
    told = []
    assert load(tmp_path / "sam.pth", warn=told.append).mode == "float"
    assert len(told) == 1 and "left out: head.weight" in told[0]


def test_an_unknown_device_is_refused(run):
    with pytest.raises(ValueError, match="Device tpu is not known"):
        load(run, "simulated", device="tpu")
