import pytest
import torch

from carsam.methods.steps.jcar.joint_loss import DAMPING, UnitLoss, mask_effects
from carsam.simulation.trainable import drawn

FINAL = "mask_decoder.transformer.final_attn_token_to_image"
CROSS = [
    f"mask_decoder.transformer.layers.1.{part}"
    for part in ("cross_attn_token_to_image", "mlp", "cross_attn_image_to_token")
]


def with_following(unit):
    """The unit with the stages behind it."""
    from dataclasses import replace

    from carsam.families import FAMILIES

    stages = FAMILIES["sam"].stages(unit.model)
    paths = [stage.path for stage in stages]
    following = stages[paths.index(unit.plan.stages[-1].path) + 1 :]
    return replace(unit, following=following)


def test_only_tokens_that_the_mask_head_reads_have_an_effect(make_unit):
    unit = with_following(make_unit(FINAL))
    (effect,) = mask_effects(unit, images=3).values()  # 5 output tokens, 2 corners of the box
    floor = DAMPING * effect.mean() / (1 + DAMPING)
    torch.testing.assert_close(effect[5:], floor.expand(2, 32))
    assert (effect[:5].mean(1) > 1.2 * floor).all()


def test_the_loss_of_an_error_grows_with_its_effect(make_unit):
    unit = with_following(make_unit(FINAL))
    loss = UnitLoss(unit, effect_images=3)
    target = unit.targets[0]
    losses = []
    for token in (1, 6):  # the mask of box prompts, and a corner
        tokens = target["tokens"].clone()
        tokens[:, :, token] += 0.1
        losses.append(float(loss({**target, "tokens": tokens}, target)))
    assert float(loss(target, target)) == 0 < 1.2 * losses[1] < losses[0]


def test_without_effects_outputs_count_by_their_own_energy(make_unit):
    unit = with_following(make_unit(*CROSS, merges=["cross+cross"]))
    loss = UnitLoss(unit, effect_images=0)
    target = unit.targets[0]
    for name in ("tokens", "image"):
        energy = torch.stack([t[name].square().mean() for t in unit.targets]).mean()
        wrong = {**target, name: target[name] + 0.1}
        assert float(loss(wrong, target)) == pytest.approx(32 * 0.01 / float(energy), rel=1e-4)


def test_effects_of_both_outputs_of_a_joint_unit_share_one_measure(make_unit):
    unit = with_following(make_unit(*CROSS, merges=["cross+cross"]))
    effects = mask_effects(unit, images=2)
    assert {name: tuple(e.shape) for name, e in effects.items()} == {
        "tokens": (7, 32),
        "image": (64, 32),
    }
    floors = [float(effect.min()) for effect in effects.values()]
    count = sum(e.numel() for e in effects.values())
    mean = sum(float(e.sum()) for e in effects.values()) / count
    assert min(floors) >= DAMPING * mean / (1 + DAMPING) - 1e-9


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_draws_are_true_as_often_as_asked(probability):
    mask = drawn(torch.empty(50001), probability, torch.Generator().manual_seed(0))
    assert mask.shape == (50001,)
    assert float(mask.float().mean()) == pytest.approx(probability, abs=0.01)
    halves = mask[:25000].float().mean() - mask[25000:].float().mean()
    assert abs(float(halves)) < 0.02


def test_a_sharp_start_rounds_to_the_same_values():
    from carsam.grids.base import UniformGrid
    from carsam.simulation.trainable import SoftRounding

    layer = torch.nn.Linear(8, 4)
    low, high = layer.weight.detach().aminmax(dim=1, keepdim=True)
    grid = UniformGrid.from_range(low, high, 3)
    soft, sharp = (SoftRounding(layer, grid, sharpness) for sharpness in (0.0, 0.5))
    distances = [(each(layer.weight) - grid(layer.weight)).abs() for each in (soft, sharp)]
    torch.testing.assert_close(distances[1], distances[0] / 2, atol=1e-5, rtol=1e-4)
    sharp.hard = True
    torch.testing.assert_close(sharp(layer.weight), grid(layer.weight))


def test_a_vanishing_output_has_a_finite_loss(make_unit):
    from dataclasses import replace

    unit = make_unit(FINAL)
    zeros = tuple(
        {name: torch.zeros_like(value) for name, value in state.items()} for state in unit.targets
    )
    unit = replace(unit, targets=zeros)
    assert UnitLoss(unit, effect_images=0)(zeros[0], zeros[0]) == 0
