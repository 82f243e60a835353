"""The mask loss knows right from wrong masks, for small objects too, and finds their IoU."""

import pytest

torch = pytest.importorskip("torch")


def example(left, right, size=64):
    """A square object from left to right: masks at a quarter, close-up box, close-up."""
    fine = torch.zeros(size, size)
    fine[left:right, left:right] = 1
    masks = torch.nn.functional.avg_pool2d(fine[None, None], 4)
    margin = (right - left) / 4
    box = torch.tensor([[[left - margin, left - margin, right + margin, right + margin]]])
    steps = left - margin + (torch.arange(40) + 0.5) / 40 * (right - left + 2 * margin)
    inside = ((steps > left) & (steps < right)).float()
    return masks, box, (inside[:, None] * inside)[None, None]


def logits_of(masks):
    return (masks[:, :, None] - 0.5) * 20


def test_the_right_mask_costs_little_and_the_empty_and_the_full_one_much():
    from losses import mask_loss

    masks, box, close_up = example(16, 48)
    logits = torch.cat([logits_of(masks), torch.full((1, 1, 1, 16, 16), -10.0)], 2)
    logits = torch.cat([logits, torch.full((1, 1, 1, 16, 16), 10.0)], 2)
    found = mask_loss(logits, masks, box, close_up)
    right, empty, full = found.loss[0, 0]
    assert right < 0.3 and empty > 3 and full > 3
    assert found.iou[0, 0, 0] > 0.9
    assert found.iou[0, 0, 1] == 0
    assert found.iou[0, 0, 2] == pytest.approx(32**2 / 64**2, abs=0.02)


def test_missing_a_small_object_costs_at_least_half_of_missing_a_large_one():
    from losses import mask_loss

    costs = []
    for left, right in ((24, 32), (12, 52)):
        masks, box, close_up = example(left, right)
        empty = torch.full((1, 1, 1, 16, 16), -10.0)
        costs.append(mask_loss(empty, masks, box, close_up).loss.item())
    assert costs[0] > 0.5 * costs[1]


def test_boxes_are_answered_by_mask_0_and_clicks_by_the_best_of_the_others():
    from losses import MaskLoss, total_loss

    loss = torch.tensor([[[1.0, 9.0, 9.0, 5.0], [1.0, 9.0, 9.0, 5.0]]])
    iou = torch.zeros(1, 2, 4)
    total = total_loss(MaskLoss(loss, iou), iou, boxes=1)
    assert total.item() == pytest.approx(((1.0 + 0.25 * 5) + (0.5 + 0.75 * 5)) / 2)


def test_a_pixel_somewhat_likelier_background_is_better_inside():
    """With an IoU below 1 the best mask holds every pixel of probability IoU / (1 + IoU)."""
    from losses import mask_loss

    core, ring = torch.zeros(16, 16), torch.zeros(16, 16)
    ring[2:14, 2:14] = 1
    core[5:11, 5:11] = 1
    ring -= core
    random = torch.Generator().manual_seed(0)
    seen = core + ring * (torch.rand(16, 16, generator=random) < 0.45)
    box, close_up = torch.tensor([[[0.0, 0.0, 64.0, 64.0]]]), seen.repeat_interleave(4, 0)
    close_up = close_up.repeat_interleave(4, 1)[None, None]
    logits = torch.stack([core + ring, core])[None, None] * 8 - 4
    included, left_out = mask_loss(logits, seen[None, None], box, close_up).loss[0, 0]
    assert included < left_out
