"""SAM 3's tracker from folders of transformers: by itself, and out of all of SAM 3."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from carsam.errors import UserError
from carsam.families import load_model

DETECTORS = "detector_model.vision_encoder.neck.fpn_layers.0.proj1.weight"


@pytest.fixture
def whole_folder(tiny_sam3_video, tmp_path):
    """A folder of all of SAM 3, of which the tracker is `tiny_sam3_video`."""
    folder = tmp_path / "whole"
    tiny_sam3_video.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "sam3_video", "tracker_config": config}
    (folder / "config.json").write_text(json.dumps(whole))
    tensors = {}
    for name, tensor in tiny_sam3_video.state_dict().items():
        if name.startswith("vision_encoder.backbone."):
            name = f"detector_model.{name}"
        elif name.startswith("vision_encoder.neck."):
            name = name.replace("vision_encoder.neck", "tracker_neck")
        else:
            name = f"tracker_model.{name}"
        tensors[name] = tensor.contiguous().clone()
    save_file({**tensors, DETECTORS: torch.ones(2, 2)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", ["tiny_sam3", "tiny_sam3_video"])
def test_a_folder_of_transformers_is_loaded(name, request, tmp_path, assert_tensors):
    model = request.getfixturevalue(name)
    model.save_pretrained(tmp_path / "model")
    family, loaded = load_model(tmp_path / "model")
    assert family.name == model.config.model_type
    assert_tensors(loaded, model.state_dict())
    for one, other in zip(loaded.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(one, other)  # those that no file holds, too


def test_the_tracker_of_all_of_sam3_is_loaded(whole_folder, tiny_sam3_video, assert_tensors):
    with pytest.warns(UserWarning, match="only its tracker is loaded"):
        family, loaded = load_model(whole_folder)
    assert family.name == "sam3_tracker_video"
    assert_tensors(loaded, tiny_sam3_video.state_dict())


def test_a_tracker_can_be_loaded_for_images(tiny_sam3_video, tmp_path):
    tiny_sam3_video.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    kept = {part: config[part] for part in parts}
    for part in parts[1:]:
        kept[part]["model_type"] = kept[part]["model_type"].replace("_video", "")
    path.write_text(json.dumps({"model_type": "sam3_tracker", **kept}))
    with pytest.warns(UserWarning, match="only what images need is loaded"):
        family, loaded = load_model(tmp_path / "model")
    assert family.name == "sam3_tracker"
    expected = tiny_sam3_video.state_dict()
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_a_folder_that_lacks_a_tensor_is_refused(tiny_sam3, tmp_path):
    tiny_sam3.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(next(name for name in tensors if name.endswith("conv_s0.weight")))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks mask_decoder\.conv_s0\.weight"):
        load_model(tmp_path)


def test_it_takes_another_size(tiny_sam3):
    family, resized = load_model(tiny_sam3, image_size=140)
    assert family.framing(resized.config).side == 140
    pixels = torch.randn(1, 3, 140, 140, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = resized.get_image_embeddings(pixels)
        image, s1, s0 = family.encode(resized, pixels)
    for found, other in zip((s0, s1, image), expected, strict=True):
        torch.testing.assert_close(found, other, atol=3e-5, rtol=1e-4)
    with pytest.raises(UserError, match="multiple of 14 from 42"):
        load_model(tiny_sam3, image_size=128)
