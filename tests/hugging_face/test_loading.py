import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoModelForMaskGeneration,
    Sam2Model,
    Sam2VideoModel,
    SamHQModel,
    SamModel,
)

from carsam.calibration.quantize import quantize
from carsam.engines.load import load
from carsam.hugging_face import CarsamConfig, export
from carsam.images.prompts import Prompts

BOXES = np.array([[5, 8, 40, 30], [10, 20, 60, 50]], np.float32)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)


def answers(engine, pixels, multimask_output=True):
    return engine.decode(engine.encode(pixels), Prompts(boxes=BOXES), multimask_output)


def outputs(model, pixels, **options):
    result = model(
        pixel_values=torch.from_numpy(pixels)[None],
        input_boxes=torch.from_numpy(BOXES)[None],
        **options,
    )
    return result.pred_masks[0].numpy(), result.iou_scores[0].numpy()


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def change(folder, **keys):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"].update(keys)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("loader", [AutoModelForMaskGeneration, SamModel])
@pytest.mark.parametrize("engine", ["simulated", "native"])
def test_it_computes_the_bits_of_the_engine(folder, pixels, loader, engine):
    model, report = loader.from_pretrained(folder, engine=engine, output_loading_info=True)
    assert not any(report.values())
    assert type(model) is SamModel
    assert model.is_quantized
    for multimask in (True, False):
        expected = answers(load(folder, engine), pixels, multimask)
        assert_same(outputs(model, pixels, multimask_output=multimask), expected)


def test_gradients_make_no_difference(folder, pixels):
    model = SamModel.from_pretrained(folder)
    with torch.no_grad():
        expected = outputs(model, pixels)
        embedding = model.vision_encoder(torch.from_numpy(pixels)[None])[0]
    assert_same(outputs(model, pixels), expected)
    assert torch.equal(model.vision_encoder(torch.from_numpy(pixels)[None])[0], embedding)
    assert torch.is_grad_enabled()


def test_gradients_are_on_again_after_an_error(folder):
    model = SamModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="Either pixel_values or image_embeddings"):
        model()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("engine", ["simulated", "native"])
def test_points_masks_and_batches_of_images(folder, pixels, engine):
    model = SamModel.from_pretrained(folder, engine=engine)
    images = torch.from_numpy(np.stack([pixels, -pixels]))
    points = torch.tensor([[[[20.0, 30.0]]], [[[40.0, 10.0]]]])
    masks = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    both = model(pixel_values=images, input_points=points, input_masks=masks).pred_masks
    engine = load(folder, engine)
    for place, image in enumerate(images.numpy()):
        prompts = Prompts(
            points=points[place].numpy(),
            labels=np.ones((1, 1), np.int64),
            masks=masks[place].numpy(),
        )
        expected, _ = engine.decode(engine.encode(image), prompts, True)
        # The float mask head sums in another order where it has two images at once.
        np.testing.assert_allclose(both[place].numpy(), expected, atol=1e-5)


def test_what_is_saved_again_is_the_same_model(folder, pixels, tmp_path):
    model = SamModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    ours, again = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "again"))
    assert ours.keys() == again.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == again[name].dtype
        np.testing.assert_array_equal(tensor, again[name])
    assert_same(
        outputs(SamModel.from_pretrained(tmp_path / "again"), pixels), outputs(model, pixels)
    )


def test_a_native_model_is_not_saved(folder, tmp_path):
    model = SamModel.from_pretrained(folder, engine="native")
    with pytest.raises(ValueError, match="no longer holds its weights; copy the folder"):
        model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize(
    ("fixture", "kind", "side"),
    [("tiny_sam_hq", SamHQModel, 64), ("tiny_sam2", Sam2Model, 128)],
)
def test_other_families_compute_the_bits_of_the_simulation(
    request, image_folder, tmp_path, fixture, kind, side
):
    pixels = np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)
    quantize(request.getfixturevalue(fixture), image_folder, "rtn", count=1).save(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported")
    model = AutoModelForMaskGeneration.from_pretrained(tmp_path / "exported")
    assert type(model) is kind
    assert_same(outputs(model, pixels), answers(load(tmp_path / "run", "simulated"), pixels))


def test_sam2_of_videos_is_loaded_for_images(tiny_sam2_video, image_folder, tmp_path):
    pixels = np.random.default_rng(0).normal(size=(3, 128, 128)).astype(np.float32)
    quantize(tiny_sam2_video, image_folder, "rtn", count=1).save(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported")
    model = AutoModelForMaskGeneration.from_pretrained(tmp_path / "exported")
    assert type(model) is Sam2Model
    expected = answers(load(tmp_path / "run", "simulated"), pixels)
    for one, other in zip(outputs(model, pixels), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # whose mask head sums in float64
    with pytest.raises(ValueError, match=r"Sam2VideoModel follows objects.*carsam track"):
        Sam2VideoModel.from_pretrained(tmp_path / "exported")
    with pytest.raises(ValueError, match="stands behind SamModel only; this is a Sam2Model"):
        Sam2Model.from_pretrained(tmp_path / "exported", engine="native")


LOAD = """
import json, sys
from transformers import AutoModelForMaskGeneration, SamModel
said = {}
for place in sys.argv[1:]:
    said[place] = []
    for loader in (AutoModelForMaskGeneration, SamModel):
        try:
            loader.from_pretrained(place)
        except Exception as error:
            said[place].append(f"{type(error).__name__} {error}")
print(json.dumps(said))
"""


def test_nothing_loads_at_random_without_the_import(folder, run, tiny_sam, tmp_path):
    """What AutoModelForMaskGeneration and SamModel say, in a process that never imports carsam."""
    SamModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    configured = shutil.copytree(run, tmp_path / "configured")
    tiny_sam.config.save_pretrained(configured)
    expected = {
        folder: ["`import carsam.hugging_face` first"] * 2,
        tmp_path / "saved": ["RuntimeError", "RuntimeError"],
        run: ["Unrecognized model", "RuntimeError"],
        configured: ["RuntimeError", "RuntimeError"],
    }
    command = [sys.executable, "-c", LOAD, *map(str, expected)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for place, reasons in expected.items():
        for line, reason in zip(said[str(place)], reasons, strict=True):
            assert reason in line


def test_a_run_is_refused_by_the_size_that_transformers_assumes(tmp_path):
    """Without a config.json transformers takes SAM-B, whose names a run of SAM-B has."""
    from carsam.formats.refusal import refusing_tensors

    path = "mask_decoder.transformer.final_attn_token_to_image.k_proj"
    site = {"weight": {"bits": 4}}
    (tmp_path / "run").mkdir()
    save_file(refusing_tensors({path: site}), tmp_path / "run" / "model.safetensors")
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        SamModel.from_pretrained(tmp_path / "run")


def test_a_tensor_that_is_missing_or_misshaped_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("neck.layer_norm1.bias"))
    values = tensors.pop(name)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"{name} is missing or of another shape"):
        SamModel.from_pretrained(folder)
    save_file({**tensors, name: values[:-1]}, path)
    with pytest.raises(ValueError, match=rf"{name} is missing or of another shape"):
        SamModel.from_pretrained(folder)


def test_numbers_of_no_grid_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("input_scale"))
    save_file({**tensors, name: -tensors[name]}, path)
    with pytest.raises(ValueError, match=rf"is damaged: {name} is not positive"):
        SamModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"version": 3}, "has version 3 of carsam's format; this carsam reads up to 2"),
        ({"sites": None}, "is damaged: it lacks sites"),
        ({"sites": {"a": 3}}, "is damaged: site a is no object"),
        (
            {"sites": {"a": {"kind": "k", "type": "linear", "weight": None, "operands": {}}}},
            "has sites that its model lacks: a",
        ),
    ],
)
def test_a_configuration_that_no_carsam_wrote_is_refused(folder, keys, message):
    change(folder, **keys)
    with pytest.raises(ValueError, match=message):
        SamModel.from_pretrained(folder)


def test_an_unknown_engine_is_refused(folder):
    with pytest.raises(ValueError, match="Engine 'magic' is not known; expected simulated or"):
        SamModel.from_pretrained(folder, engine="magic")


def test_other_types_than_float32_are_not_taken(folder):
    with pytest.warns(UserWarning, match="compute in float32, not torch.float16"):
        assert SamModel.from_pretrained(folder, dtype=torch.float16).dtype == torch.float32


def test_a_float_model_is_not_quantized_by_its_configuration(tiny_sam, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "float")
    with pytest.raises(ValueError, match="does require the model to be pre-quantized"):
        SamModel.from_pretrained(tmp_path / "float", quantization_config=CarsamConfig())
