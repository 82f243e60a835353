import pytest
import torch

from carsam.families import FAMILIES
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.training.interaction import interaction_loss, interaction_stages
from carsam.methods.steps.training.reconstruct import Reconstruct
from carsam.simulation import slots

BLOCK = "mask_decoder.transformer.layers"


@pytest.fixture
def make_followed(make_unit):
    """Function (paths) -> unit that knows what follows it."""
    from dataclasses import replace

    def make(*paths, **options):
        unit = make_unit(*paths, **options)
        stages = FAMILIES["sam"].stages(unit.model)
        names = [stage.path for stage in stages]
        place = names.index(unit.plan.stages[-1].path)
        return replace(unit, following=stages[place + 1 :])

    return make


def test_an_encoder_unit_is_followed_by_neck_prompts_and_two_way_blocks(make_followed):
    paths = [
        stage.path for stage in interaction_stages(make_followed("vision_encoder.layers.1.mlp"))
    ]
    assert paths[:2] == ["vision_encoder.neck", "mask_decoder.tokens"]
    assert paths[-1] == f"{BLOCK}.1.cross_attn_image_to_token"


def test_nothing_follows_the_last_two_way_block(make_followed):
    assert interaction_stages(make_followed(f"{BLOCK}.1.cross_attn_image_to_token")) == ()


def test_equal_outputs_have_no_loss_and_others_a_gradient(make_followed):
    unit = make_followed("vision_encoder.layers.1.mlp")
    stages, target = interaction_stages(unit), unit.targets[0]
    # With gradients, norms and GELU are torch's, which round differently.
    assert float(interaction_loss(unit, stages, target, target)) < 1e-9
    hidden = (target["hidden"] + 0.1).requires_grad_()
    loss = interaction_loss(unit, stages, {**target, "hidden": hidden}, target)
    loss.backward()
    assert float(loss) > 0
    assert bool(torch.isfinite(hidden.grad).all() & (hidden.grad != 0).any())


def trained(make_followed, interaction):
    """The losses of ten steps, and the scales that they end with."""
    unit = make_followed("vision_encoder.layers.1.mlp")
    with torch.no_grad():
        RoundToNearest(rounds_weights=False).run_(unit)
        Reconstruct(steps=10, keep=1.0, scale_rate=0.01, interaction=interaction).run_(unit)
    scales = [slots.quantizer(unit.model, site, "input").scale for site, _ in unit.sites]
    return unit.notes[-1]["loss_by_step"], torch.cat(scales)


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
def test_the_interaction_counts_in_the_loss_by_its_weight(make_followed):
    (without, *_), (once, *_), (twice, *_) = (
        trained(make_followed, weight)[0] for weight in (0.0, 1.0, 2.0)
    )
    assert once > 1.01 * without
    assert twice - without == pytest.approx(2 * (once - without), rel=1e-3)


def test_the_interaction_changes_what_is_learned(make_followed):
    scales = [trained(make_followed, weight)[1] for weight in (0.0, 1.0)]
    assert not torch.equal(*scales)
