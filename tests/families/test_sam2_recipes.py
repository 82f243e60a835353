"""Recipes on a tiny SAM 2 and a tiny tracker of SAM 3: as they say, and from disk, by both engines.

`test_sam2_video_recipes.py` has every recipe, on a model whose images go the same way.
"""

import numpy as np
import pytest
from tiny_runs import few_steps

import carsam
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import assert_strict
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts

BOX = Prompts(boxes=np.array([[10, 10, 80, 70]], np.float32))
LEVELS = ("encoder.neck", "encoder.fine_level")


@pytest.fixture
def tiny(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", ["rtn", "carsam-plus"])
@pytest.mark.parametrize("tiny", ["tiny_sam2", "tiny_sam3"], indirect=True)
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_it_is_quantized_strictly_and_runs(tiny, name, image_folder, photo, tmp_path):
    model = carsam.quantize(
        tiny, image_folder, name, settings=few_steps(name), count=1, prompts_per_image=2
    )
    assert_strict(model, [photo])
    model.save(tmp_path / "run")
    before = TorchEngine(model.family, model.module, model.mode)
    simulated, native = (carsam.load(tmp_path / "run", name) for name in ("simulated", "auto"))
    assert native.mode == "native" and native.framing == simulated.framing
    pixels, _ = preprocess(photo, native.framing)
    embedding = before.encode(pixels)
    for engine in (simulated, native):
        for found, expected in zip(engine.encode(pixels), embedding, strict=True):
            np.testing.assert_array_equal(found, expected)
    logits, ious = before.decode(embedding, BOX, True)
    for engine, near in ((simulated, 0), (native, 1e-5)):
        found, found_ious = engine.decode(embedding, BOX, True)
        np.testing.assert_allclose(found, logits, atol=near)
        np.testing.assert_allclose(found_ious, ious, atol=near)


def test_the_levels_are_centred(tiny_sam2, image_folder):
    settings = few_steps("carsam-plus")
    model = carsam.quantize(tiny_sam2, image_folder, settings=settings, count=1)
    sites = model.to_checkpoint().manifest["sites"]
    levels = [site for site in sites.values() if site["kind"] in LEVELS]
    assert [site["centre"] for site in levels] == ["channels"] * 6


@pytest.mark.parametrize("tiny", ["tiny_sam2", "tiny_sam3"], indirect=True)
def test_every_kind_can_be_quantized(tiny, image_folder, photo):
    model = carsam.quantize(
        tiny, image_folder, "rtn", rules=["*=w4a4"], count=1, prompts_per_image=2
    )
    assert_strict(model, [photo])
