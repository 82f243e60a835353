"""Hard models answer as the model they were made from, and their operands look as intended."""

import copy

import numpy as np
import pytest
import torch

from carsam.diagnosis.damage import Case
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
    side = engine.framing.side
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


def test_the_sparsest_direction_is_found():
    from hard_training import sparsest

    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(4000, 6, generator=random).double()
    hidden[:, 2] = torch.where(torch.rand(4000, generator=random) < 0.01, 10.0, 0.1 * hidden[:, 2])
    mix = torch.randn(6, 6, generator=random).double()
    found = mix @ sparsest(hidden @ mix)
    assert found[2].abs() > 20 * found[[0, 1, 3, 4, 5]].abs().max()
    assert (hidden @ found).std() == pytest.approx(1, rel=0.01)


def test_the_direction_that_moves_most_is_found():
    from hard_training import most_moving

    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(500, 5, generator=random).double() for _ in range(8)]
    for number, part in enumerate(parts):
        part[:, 1] += number
        part[:, 3] *= 20  # varies more, and its means differ by chance
    found = most_moving(parts)
    assert found[1].abs() > 5 * found[[0, 2, 3, 4]].abs().max()


@pytest.fixture
def cases():
    random = np.random.default_rng(0)
    boxes = np.array([[5, 5, 30, 30], [20, 10, 60, 50]], np.float32)
    pixels = random.standard_normal((3, 3, 64, 64)).astype(np.float32)
    return [Case(picture, Prompts(boxes=boxes)) for picture in pixels]


def test_training_that_was_stopped_ends_as_if_it_had_not_been(
    tiny_sam, cases, tmp_path, monkeypatch
):
    import hard_training

    monkeypatch.setattr(hard_training, "STEPS", 6)
    monkeypatch.setattr(hard_training, "SAVED_EVERY", 2)
    family, model = load_model(tiny_sam)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def run(name):
        return hard_training.outlier_keys(family, model, cases, 3, tmp_path / name)

    whole = run("whole").state_dict()
    steps = iter(range(5))

    def stopping(*arguments):
        if next(steps) == 4:
            raise KeyboardInterrupt
        return loss(*arguments)

    loss = hard_training._loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hard_training, "_loss", stopping)
        run("stopped")
    resumed = run("stopped").state_dict()
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
    keys = "mask_decoder.transformer.layers.0.cross_attn_token_to_image.k_proj.weight"
    assert not torch.equal(whole[keys], before[keys])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_outlier_keys_are_outliers(tiny_sam, cases, tmp_path, monkeypatch):
    import hard_training
    from hard_statistics import statistics

    monkeypatch.setattr(hard_training, "STEPS", 0)
    family, model = load_model(tiny_sam)
    edited = hard_training.outlier_keys(family, model, cases, 0, tmp_path / "training")
    before, after = (statistics(family, one, cases) for one in (model, edited))
    for path, found in after["attentions"].items():
        assert found["outlier"] > 1.3 * before["attentions"][path]["outlier"]
        assert max(map(abs, found["keys"])) > 0.25 * hard_training.MOST


def test_statistics_of_sums_that_are_known(tiny_sam, cases):
    from hard_edits import EDITS
    from hard_statistics import _kurtosis, statistics

    family, model = load_model(tiny_sam)
    before = statistics(family, model, cases)
    with torch.no_grad():
        EDITS["key-peaks"](family, model, 50.0, torch.Generator().manual_seed(0))
        EDITS["norm-channels"](family, model, 64.0, torch.Generator().manual_seed(0))
    after = statistics(family, model, cases)
    for path, found in after["attentions"].items():
        low, high = found["keys"]
        assert low < -45 and high > 45 and found["peaks"] == 2
        assert found["queries"] == pytest.approx(before["attentions"][path]["queries"], abs=0.01)
    for role, values in after["visible"].items():
        assert values == pytest.approx(before["visible"][role], abs=0.01)
    assert after["kurtosis"]["qkv"][1] > 5 * before["kurtosis"]["qkv"][1]
    assert _kurtosis(torch.tensor([-1.0, 1.0])) == 1.0
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    assert _kurtosis(normal) == pytest.approx(3, abs=0.1)
