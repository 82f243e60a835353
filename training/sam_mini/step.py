"""One step's prompts: a round of boxes and clicks, sometimes a second one that corrects it."""

from collections.abc import Callable

import torch
from losses import MaskLoss, total_loss
from rounds import chosen_masks, corrections, watch
from torch import Tensor

from sam_mini.canvas import CanvasSam

PATCH = 16


def step_loss(
    sam: CanvasSam,
    batch: dict[str, Tensor],
    correct: bool,
    mask_loss: Callable[..., MaskLoss],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch of `samples.StepBatches`.

    Args:
        sam: the model in training.
        batch: tensors on the model's device.
        correct: whether a second round with corrective clicks and mask prompts follows the first.
        mask_loss: that of `losses`, or the same compiled.
        generator: draws the corrective clicks; on the model's device.

    Returns:
        The loss, and what to watch: mean IoU of box and click prompts, share of pixels found.
    """
    offset = tuple(batch["offset"].tolist())
    embedding = sam.encode(batch["image"], offset)
    boxes, points = _on_canvas(batch["boxes"], offset), _on_canvas(batch["points"], offset)
    prompt_encoder = sam.model.prompt_encoder
    sparse = torch.cat([_embed(sam, boxes=boxes), _embed(sam, points=points)], 1)  # B x P x 2 x C
    dense = prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    logits, predicted_iou = sam.decode(embedding, offset, sparse, dense)
    targets = batch["masks"], batch["close_up_boxes"], batch["close_ups"]
    found = mask_loss(logits, *targets)
    number_of_boxes = boxes.shape[1]
    loss = total_loss(found, predicted_iou, number_of_boxes)
    watched = watch(found, logits, number_of_boxes)
    if correct:
        chosen = chosen_masks(logits.detach(), predicted_iou.detach(), number_of_boxes)
        second, watched["corrected_iou"] = _second_round(
            sam, batch, embedding, chosen, mask_loss, generator
        )
        loss = loss + second
    return loss, watched


def _second_round(sam, batch, embedding, previous, mask_loss, generator) -> tuple[Tensor, float]:
    """Loss and mean IoU after a click where the previous logits, B x P x h x w, were wrong."""
    offset = tuple(batch["offset"].tolist())
    clicks, labels = corrections(previous, batch["masks"], generator)  # B x P x 1 x 2 and B x P x 1
    clicks = _on_canvas(clicks, offset)
    boxes, points = _on_canvas(batch["boxes"], offset), _on_canvas(batch["points"], offset)
    count = boxes.shape[1]
    with_box = _embed(sam, boxes=boxes, points=clicks[:, :count], labels=labels[:, :count])
    two_points = torch.cat([points, clicks[:, count:]], 2)
    two_labels = torch.cat([torch.ones_like(labels[:, count:]), labels[:, count:]], 2)
    with_points = _embed(sam, points=two_points, labels=two_labels)
    sparse = torch.cat([with_box, with_points], 1)  # B x P x 3 x C
    prompts = sparse.shape[1]
    dense = sam.model.prompt_encoder.mask_embed(
        previous.flatten(0, 1)[:, None].clamp(-32, 32)
    )  # BP x C x rows x columns
    logits, predicted_iou = sam.decode(
        embedding.repeat_interleave(prompts, 0), offset, sparse.flatten(0, 1)[:, None], dense
    )
    logits, predicted_iou = (
        logits.view(*sparse.shape[:2], *logits.shape[2:]),
        predicted_iou.view(*sparse.shape[:2], -1),
    )
    found = mask_loss(logits[:, :, :1], batch["masks"], batch["close_up_boxes"], batch["close_ups"])
    loss = found.loss.mean() + (predicted_iou[..., :1] - found.iou).square().mean()
    return loss, found.iou.mean().item()


def _embed(sam: CanvasSam, boxes=None, points=None, labels=None) -> Tensor:
    """Sparse embedding, B x P x tokens x channels; clicks without labels are on the object."""
    if points is not None and labels is None:
        labels = torch.ones(points.shape[:3], dtype=torch.int64, device=points.device)
    return sam.model.prompt_encoder(points, labels, boxes, None)[0]


def _on_canvas(coordinates: Tensor, offset: tuple[int, int]) -> Tensor:
    """Move x and y (last dimension: pairs) from the window to the canvas, in pixels."""
    row, column = offset
    shift = torch.tensor(
        [column * PATCH, row * PATCH], device=coordinates.device, dtype=coordinates.dtype
    )
    return (coordinates.unflatten(-1, (-1, 2)) + shift).flatten(-2)
