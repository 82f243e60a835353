import numpy as np
import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES
from carsam.images.prompts import Prompts
from carsam.simulation.model import from_checkpoint, prepare


@pytest.fixture
def tiny_sam_hq(tiny_sam, randomise_):
    from transformers import SamHQConfig, SamHQModel

    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    config = {part: getattr(tiny_sam.config, part).to_dict() for part in parts}
    config["mask_decoder_config"]["vit_dim"] = 32
    model = SamHQModel(SamHQConfig(**config)).eval()
    randomise_(model)
    return model


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
