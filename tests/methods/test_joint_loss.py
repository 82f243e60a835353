import pytest
import torch

from carsam.methods.steps.jcar.joint_loss import JointLoss
from carsam.simulation.trainable import drawn

FINAL = "mask_decoder.transformer.final_attn_token_to_image"
CROSS = [
    f"mask_decoder.transformer.layers.1.{part}"
    for part in ("cross_attn_token_to_image", "mlp", "cross_attn_image_to_token")
]


def test_outputs_count_by_their_own_energy(make_unit):
    unit = make_unit(*CROSS, merges=["cross+cross"])
    loss = JointLoss(unit)
    target = unit.targets[0]
    for name in ("tokens", "image"):
        energy = torch.stack([t[name].square().mean() for t in unit.targets]).mean()
        wrong = {**target, name: target[name] + 0.1}
        assert float(loss(wrong, target)) == pytest.approx(32 * 0.01 / float(energy), rel=1e-4)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_draws_are_true_as_often_as_asked(probability):
    mask = drawn(torch.empty(50001), probability, torch.Generator().manual_seed(0))
    assert mask.shape == (50001,)
    assert float(mask.float().mean()) == pytest.approx(probability, abs=0.01)
    halves = mask[:25000].float().mean() - mask[25000:].float().mean()
    assert abs(float(halves)) < 0.02


def test_a_vanishing_output_has_a_finite_loss(make_unit):
    from dataclasses import replace

    unit = make_unit(FINAL)
    zeros = tuple(
        {name: torch.zeros_like(value) for name, value in state.items()} for state in unit.targets
    )
    unit = replace(unit, targets=zeros)
    assert JointLoss(unit)(zeros[0], zeros[0]) == 0
