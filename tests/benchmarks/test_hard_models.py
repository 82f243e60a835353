"""Hard models answer as the model they were made from, and their operands look as intended."""

import copy

import numpy as np
import pytest
import torch

from carsam.engines.torch_engine import TorchEngine
from carsam.families import load_model
from carsam.images.prompts import Prompts

STRENGTHS = {
    "key-peaks": 8.0,
    "constant-channels": 170.0,
    "key-scales": 32.0,
    "query-scales": 8.0,
    "norm-channels": 16.0,
    "hidden-outliers": 64.0,
    "output-means": 4.0,
}


def logits(family, model) -> torch.Tensor:
    """Mask logits and IoUs of two boxes and two clicks on noise, from pixels to masks."""
    engine = TorchEngine(family, model, "float")
    side = engine.image_size
    random = np.random.default_rng(0)
    embedding = engine.encode(random.standard_normal((3, side, side)).astype(np.float32))
    boxes = np.array([[0.1, 0.2, 0.6, 0.7], [0, 0, 1, 1]], np.float32) * side
    clicks = np.array([[[0.3, 0.4]], [[0.9, 0.1]]], np.float32) * side
    by_box, _ = engine.decode(embedding, Prompts(boxes=boxes), False)
    by_click, _ = engine.decode(embedding, Prompts(clicks, np.ones((2, 1), np.int64)), True)
    return np.concatenate([by_box.ravel(), by_click.ravel()])


@pytest.fixture(params=["tiny", "sam-mini"])
def fp16_model(request, tiny_sam):
    """Family and model, whose parameters fp16 holds."""
    family, model = load_model(tiny_sam if request.param == "tiny" else "sam-mini")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return family, model


@pytest.mark.parametrize("name", STRENGTHS)
def test_an_edit_leaves_the_float_masks_alone(name, fp16_model):
    from hard_edits import EDITS, apply_

    assert set(EDITS) == set(STRENGTHS)
    family, model = fp16_model
    before = logits(family, model)
    edited, stored = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        EDITS[name](family, edited, STRENGTHS[name], torch.Generator().manual_seed(1))
    apply_(family, stored, {name: STRENGTHS[name]}, seed=1)
    largest = np.abs(before).max()
    assert np.abs(logits(family, edited) - before).max() <= 1e-4 * largest
    assert np.abs(logits(family, stored) - before).max() <= 5e-3 * largest
    after = edited.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in model.state_dict().items())
