"""Every recipe runs through, obeys the strict rules, survives the checkpoint, and runs natively."""

import numpy as np
import pytest
from tiny_runs import few_steps

from carsam.calibration.quantize import quantize
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import assert_strict
from carsam.export.onnx.check import session
from carsam.export.onnx.models import read_exporter
from carsam.images.prompts import Prompts
from carsam.methods.registry import RECIPES
from carsam.simulation.model import from_checkpoint


@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_recipe_is_strict_and_can_be_stored_and_exported(tiny_sam, image_folder, photo, name):
    """Its ONNX form has the bits of the native engine in exact mode."""
    model = quantize(tiny_sam, image_folder, name, "w4a4", count=1, settings=few_steps(name))
    assert_strict(model, [photo])
    checkpoint = model.to_checkpoint()
    loaded = from_checkpoint(checkpoint)
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    boxes = Prompts(boxes=np.array([[4, 5, 50, 40]], np.float32))
    masks = []
    for each in (model, loaded):
        engine = TorchEngine(each.family, each.module, "simulated")
        masks.append(engine.decode(engine.encode(pixels), boxes, multimask_output=True)[0])
    np.testing.assert_array_equal(*masks)
    native = NativeEngine(checkpoint)
    embedding = native.encode(pixels)
    np.testing.assert_array_equal(embedding[0], engine.encode(pixels)[0])
    found, _ = native.decode(embedding, boxes, multimask_output=True)
    np.testing.assert_allclose(found, masks[0], atol=1e-4 * np.ptp(masks[0]))
    exporter = read_exporter(checkpoint, exact=True)
    encoder = session(exporter.encoder_of_pixels().SerializeToString())
    np.testing.assert_array_equal(encoder.run(None, {"x": pixels[None]})[0][0], embedding[0])
    session(exporter.decoder_of_points(64).SerializeToString())


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
@pytest.mark.parametrize(
    ("name", "settings"),
    [("ahcqsam", ["reconstruct.steps=1"]), ("repq-vit", []), ("ptq4vit", [])],
)
def test_finished_units_come_back_with_grids_and_norms(
    tiny_sam, image_folder, tmp_path, name, settings
):
    arguments = {"count": 1, "settings": settings, "resume": tmp_path / "run"}
    first, again = (quantize(tiny_sam, image_folder, name, **arguments) for _ in range(2))
    tensors, restored = (model.to_checkpoint().tensors for model in (first, again))
    assert tensors.keys() == restored.keys()
    for path, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, restored[path], err_msg=path)
