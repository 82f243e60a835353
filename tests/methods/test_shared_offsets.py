import pytest
import torch

from carsam.families import FAMILIES
from carsam.methods.base import WholeModel
from carsam.methods.steps.folding.centre_inputs import CentreInputs, move_
from carsam.methods.steps.training.mask_loss import run_stages, stages_to_masks
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]
BOXES = torch.tensor([[[4.0, 5, 50, 40], [10, 20, 30, 60]]])


@pytest.fixture
def whole(tiny_sam):
    model = prepare(FAMILY, tiny_sam)
    generator = torch.Generator().manual_seed(0)
    states = tuple(
        FAMILY.start(torch.randn(1, 3, 64, 64, generator=generator), BOXES) for _ in range(2)
    )
    return WholeModel(model, stages_to_masks(FAMILY.stages(model)), (), states)


@torch.no_grad()
def masks(whole):
    return torch.cat([run_stages(whole.model, whole.stages, s)["masks"] for s in whole.states])


@torch.no_grad()
def test_every_offset_moves_without_a_change_of_the_float_masks(whole):
    offsets = [stage.shared for stage in whole.stages if stage.shared]
    assert len(offsets) == 8  # image, four norms of the first block, three of the last
    generator = torch.Generator().manual_seed(0)
    before = masks(whole)
    for offset in offsets:
        move_(whole.model, offset, torch.randn(32, generator=generator))
    torch.testing.assert_close(masks(whole), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_first_readers_have_no_mean_any_more(whole):
    before = masks(whole)
    means = {}

    def watch(path):
        def hook(_, inputs):
            rows = inputs[0].flatten(0, -2)
            total, count = means.get(path, (0, 0))
            means[path] = total + rows.sum(0), count + len(rows)

        return hook

    CentreInputs().run_(whole)
    for stage in whole.stages:
        if stage.shared:
            path = stage.shared.readers[0]
            whole.model.get_submodule(path).register_forward_pre_hook(watch(path))
    after = masks(whole)
    assert len(means) == 8
    for total, count in means.values():
        assert (total / count).abs().max() < 2e-3
    assert (after - before).abs().max() < 1e-2 * before.abs().max()


@torch.no_grad()
def test_masks_as_prompts_give_the_same_result(whole):
    def decode():
        prompts = {"input_boxes": BOXES, "input_masks": torch.ones(1, 1, 32, 32)}
        embedding = FAMILY.encode(whole.model, whole.states[0]["hidden"])
        return FAMILY.decode(whole.model, embedding, False, **prompts)[0]

    before = decode()
    CentreInputs().run_(whole)
    assert (decode() - before).abs().max() < 1e-2 * before.abs().max()
