"""The loss: cross-entropy and IoU of masks, whole and close up, and the error in predicted IoU."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LOW_RESOLUTION = 4  # pixels of the input per pixel of the mask logits
AMBIGUOUS_MASKS = slice(
    1, None
)  # mask 0 answers unambiguous prompts, the best of the others an ambiguous one
SHARE_OF_EXCESS = 0.7  # outlines are less sure on photographs that are not trained on


class MaskLoss(NamedTuple):
    """Loss of every mask and its true IoU, each batch x prompts x masks."""

    loss: Tensor
    iou: Tensor


def total_loss(found: MaskLoss, predicted_iou: Tensor, boxes: int) -> Tensor:
    """Loss of one round of prompts.

    Args:
        found: losses and true IoUs of the four masks.
        predicted_iou: batch x prompts x 4.
        boxes: number of prompts, the first ones, that are unambiguous; mask 0 counts more for them.
    """
    single = found.loss[..., 0]
    best = found.loss[..., AMBIGUOUS_MASKS].amin(-1)
    weight = torch.full_like(single, 0.5)
    weight[:, :boxes] = 1.0
    masks = (weight * single + (1.25 - weight) * best).mean()
    return masks + (predicted_iou - found.iou).square().mean()


def mask_loss(logits: Tensor, masks: Tensor, close_up_boxes: Tensor, close_ups: Tensor) -> MaskLoss:
    """Compare mask logits with targets, in the window and in a grid of points around each object.

    The grid makes small objects count as much as large ones, and it sees their outlines between
    the pixels of the logits, as the enlargement to the image's resolution does.

    Args:
        logits: batch x prompts x masks x height x width, a quarter of the window's resolution.
        masks: covered shares, batch x prompts x height x width.
        close_up_boxes: batch x prompts x 4, left, top, right, bottom in pixels of the window.
        close_ups: the masks in those boxes, batch x prompts x points x points.
    """
    near = _close_up(logits, close_up_boxes, close_ups.shape[-1])
    near_target, target = close_ups[:, :, None].expand_as(near), masks[:, :, None].expand_as(logits)
    loss = 0.4 * _cross_entropy(near, near_target) + 1.5 * _one_minus_iou(near, near_target)
    loss = loss + 0.4 * _cross_entropy(logits, target) + 0.5 * _one_minus_iou(logits, target)
    with torch.no_grad():
        iou = _true_iou(logits > 0, near > 0, near_target >= 0.5, close_up_boxes)
    return MaskLoss(loss, iou)


def _close_up(logits: Tensor, boxes: Tensor, points: int) -> Tensor:
    """Logits at a grid of points in each box: batch x prompts x masks x points x points."""
    batch, prompts, _, height, width = logits.shape
    boxes = boxes.flatten(0, 1) / LOW_RESOLUTION
    steps = (torch.arange(points, device=logits.device) + 0.5) / points
    x = (boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])) * 2 / width - 1
    y = (boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])) * 2 / height - 1
    grid = torch.stack(
        [x[:, None].expand(-1, points, -1), y[:, :, None].expand(-1, -1, points)], -1
    )
    near = functional.grid_sample(
        logits.flatten(0, 1), grid, padding_mode="border", align_corners=False
    )
    return near.unflatten(0, (batch, prompts))


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of each mask."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(
        (-2, -1)
    )


def _one_minus_iou(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the IoU of each mask, with probabilities instead of zeros and ones.

    Where the outline is uncertain, cross-entropy leaves out what is more likely background; the
    IoU is best with everything of a probability above IoU / (1 + IoU), about 0.4. What a mask has
    too much counts less than what it lacks, by `SHARE_OF_EXCESS`.
    """
    probability = logits.sigmoid()
    shared = (probability * target).sum((-2, -1))
    excess = probability.sum((-2, -1)) - shared
    return 1 - (shared + 0.5) / (target.sum((-2, -1)) + SHARE_OF_EXCESS * excess + 0.5)


def _true_iou(found: Tensor, near: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """IoU of binary masks: counted on the close-up, plus what was found outside of it.

    Args:
        found: batch x prompts x masks x height x width, at a quarter of the window's resolution.
        near, target: batch x prompts x masks x points x points, in `boxes`.
        boxes: batch x prompts x 4 in pixels.
    """
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    area_of_point = (area / near[0, 0, 0].numel())[..., None]
    found_area = found.sum((-2, -1)) * LOW_RESOLUTION**2
    outside = (found_area - near.sum((-2, -1)) * area_of_point).clamp(min=0)
    shared = (near & target).sum((-2, -1)) * area_of_point
    union = (near | target).sum((-2, -1)) * area_of_point + outside
    return shared / union.clamp(min=1e-6)
