import pytest
import torch

from carsam.methods.steps.jcar.joint_loss import JointLoss

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


def test_a_vanishing_output_has_a_finite_loss(make_unit):
    from dataclasses import replace

    unit = make_unit(FINAL)
    zeros = tuple(
        {name: torch.zeros_like(value) for name, value in state.items()} for state in unit.targets
    )
    unit = replace(unit, targets=zeros)
    assert JointLoss(unit)(zeros[0], zeros[0]) == 0
