import numpy as np
import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES, load_model
from carsam.families.meta_weights import meta_names
from carsam.images.prompts import Prompts
from carsam.simulation.model import from_checkpoint, prepare

METAS_NAMES = {
    "hq_token": "hf_token",
    "hq_mask_mlp.proj_in": "hf_mlp.layers.0",
    "hq_mask_mlp.layers.0": "hf_mlp.layers.1",
    "hq_mask_mlp.proj_out": "hf_mlp.layers.2",
    "compress_vit_conv1": "compress_vit_feat.0",
    "compress_vit_norm": "compress_vit_feat.1",
    "compress_vit_conv2": "compress_vit_feat.3",
    "encoder_conv1": "embedding_encoder.0",
    "encoder_norm": "embedding_encoder.1",
    "encoder_conv2": "embedding_encoder.3",
    "mask_conv1": "embedding_maskfeature.0",
    "mask_norm": "embedding_maskfeature.1",
    "mask_conv2": "embedding_maskfeature.3",
}
"""Modules of the decoder that SAM has not: transformers' name -> that of SAM-HQ's authors."""


@pytest.fixture
def authors_state(tiny_sam_hq):
    """The tensors under the names of SAM-HQ's authors, whose SAM is Meta's."""
    state = tiny_sam_hq.state_dict()
    sam_names = meta_names(state)
    renamed = {}
    for name, tensor in state.items():
        module, _, last = name.removeprefix("mask_decoder.").rpartition(".")
        theirs = METAS_NAMES.get(module) if name.startswith("mask_decoder.") else None
        renamed[sam_names[name] if theirs is None else f"mask_decoder.{theirs}.{last}"] = tensor
    return renamed


def test_a_file_of_its_authors_loads(tiny_sam_hq, authors_state, tmp_path, assert_tensors):
    torch.save({"model": authors_state}, tmp_path / "sam_hq.pth")
    family, model = load_model(tmp_path / "sam_hq.pth", pytest.fail)
    assert family.name == "sam_hq"
    assert_tensors(model, tiny_sam_hq.state_dict())


def test_a_part_of_a_file_of_its_authors_is_refused(authors_state, tmp_path):
    del authors_state["mask_decoder.embedding_encoder.1.weight"]
    torch.save(authors_state, tmp_path / "sam_hq.pth")
    with pytest.raises(UserError, match=r"lacks mask_decoder\.embedding_encoder\.1\.weight"):
        load_model(tmp_path / "sam_hq.pth")


def test_a_token_alone_makes_no_sam_hq(tiny_sam, tmp_path):
    names = meta_names(tiny_sam.state_dict())
    state = {names[name]: tensor for name, tensor in tiny_sam.state_dict().items()}
    torch.save({**state, "mask_decoder.hf_token.weight": torch.ones(1, 32)}, tmp_path / "hq.pth")
    with pytest.raises(UserError, match="expected all tensors of a SAM-HQ"):
        load_model(tmp_path / "hq.pth")


def test_a_folder_of_transformers_loads(tiny_sam_hq, tmp_path, assert_tensors):
    tiny_sam_hq.save_pretrained(tmp_path / "hq")
    family, model = load_model(tmp_path / "hq", pytest.fail)
    assert family.name == "sam_hq"
    assert_tensors(model, tiny_sam_hq.state_dict())


def test_a_prepared_model_computes_what_the_original_does(tiny_sam_hq):
    family = FAMILIES["sam_hq"]
    for parameter in tiny_sam_hq.parameters():
        parameter.data = parameter.data.half().float()
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    prompts = Prompts(boxes=np.array([[5, 6, 40, 50], [20, 3, 60, 33]], np.float32))
    prepared = prepare(family, tiny_sam_hq)
    results = []
    for module in (tiny_sam_hq, prepared):
        engine = TorchEngine(family, module, "float")
        results.append(engine.decode(engine.encode(pixels), prompts, multimask_output=False))
    (expected, _), (found, _) = results
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_it_is_quantized_strictly_and_comes_back(tiny_sam_hq, image_folder, photo):
    model = quantize(tiny_sam_hq, image_folder, "rtn", count=2)
    assert_strict(model, [photo])
    again = from_checkpoint(model.to_checkpoint())
    for name, tensor in model.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], tensor, atol=0, rtol=0)
