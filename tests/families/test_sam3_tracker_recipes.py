"""Recipes on a tiny tracker of SAM 3: quantized as the recipe says, and run from disk."""

import json

import numpy as np
import pytest
from families.test_sam2_recipes import BOX, few_steps

import carsam
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UnsupportedError, UserError
from carsam.evaluation.strict import assert_strict
from carsam.images.preprocess import preprocess


@pytest.mark.parametrize("name", ["rtn", "carsam-plus"])
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_it_is_quantized_strictly_and_runs(name, tiny_sam3, image_folder, photo, tmp_path):
    model = carsam.quantize(
        tiny_sam3, image_folder, name, settings=few_steps(name), count=1, prompts_per_image=2
    )
    assert_strict(model, [photo])
    model.save(tmp_path / "run")
    before = TorchEngine(model.family, model.module, model.mode)
    simulated, native = (carsam.load(tmp_path / "run", name) for name in ("simulated", "auto"))
    assert native.mode == "native" and native.framing == simulated.framing
    pixels, _ = preprocess(photo, native.framing)
    assert float(pixels.min()) >= -1 and float(pixels.max()) <= 1
    embedding = before.encode(pixels)
    for engine in (simulated, native):
        for found, expected in zip(engine.encode(pixels), embedding, strict=True):
            np.testing.assert_array_equal(found, expected)
    logits, ious = before.decode(embedding, BOX, True)
    for engine, near in ((simulated, 0), (native, 1e-5)):
        found, found_ious = engine.decode(embedding, BOX, True)
        np.testing.assert_allclose(found, logits, atol=near)
        np.testing.assert_allclose(found_ious, ious, atol=near)


def test_other_levels_are_refused(tiny_sam3, image_folder, tmp_path):
    model = carsam.quantize(tiny_sam3, image_folder, "rtn", count=1, prompts_per_image=2)
    model.save(tmp_path / "run")
    path = tmp_path / "run" / "carsam.json"
    manifest = json.loads(path.read_text())
    manifest["model_config"]["vision_config"]["scale_factors"] = [2.0, 1.0, 0.5]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UnsupportedError, match=r"levels of \[4\.0, 2\.0, 1\.0\].*found \[2\.0"):
        carsam.load(tmp_path / "run", "native")
    tiny_sam3.config.vision_config.scale_factors = [2.0, 1.0, 0.5]
    with pytest.raises(UserError, match=r"Found a SAM 3 with levels of \[2\.0, 1\.0, 0\.5\]"):
        model.family.stages(tiny_sam3)


def test_every_kind_can_be_quantized(tiny_sam3, image_folder, photo):
    model = carsam.quantize(
        tiny_sam3, image_folder, "rtn", rules=["*=w4a4"], count=1, prompts_per_image=2
    )
    assert_strict(model, [photo])
