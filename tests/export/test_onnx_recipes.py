"""Every recipe's run has an ONNX form, with the bits of the native engine in exact mode."""

import numpy as np
import pytest

import carsam
from carsam.engines.native_engine import NativeEngine
from carsam.formats.checkpoint import read_checkpoint
from carsam.images.preprocess import preprocess
from carsam.methods.registry import RECIPES

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from carsam.export.onnx.check import session
from carsam.export.onnx.models import read_exporter

FEW_STEPS = ("reconstruct", "reconstruct-unfinished", "polish")


def few_steps(name: str) -> list[str]:
    recipe = carsam.make_recipe(name, "w4a4")
    steps = [step.name for step in (*recipe.opening, *recipe.steps, *recipe.closing)]
    return [f"{step}.steps=2" for step in steps if step in FEW_STEPS]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_a_run_of_it_is_exported(name, tiny_sam, image_folder, photo, tmp_path) -> None:
    quantized = carsam.quantize(
        tiny_sam, image_folder, name, settings=few_steps(name), count=1, prompts_per_image=2
    )
    quantized.save(tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run")
    engine = NativeEngine(checkpoint)
    pixels, _ = preprocess(photo, engine.framing)
    exporter = read_exporter(checkpoint, exact=True)
    (found,) = session(exporter.encoder_of_pixels().SerializeToString()).run(
        None, {"x": pixels[None]}
    )
    np.testing.assert_array_equal(found[0], engine.encode(pixels)[0])
    session(exporter.decoder_of_points(64).SerializeToString())
