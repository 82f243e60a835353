"""From one round of prompts to the next, which corrects it, and what to watch of a round."""

import torch
from losses import LOW_RESOLUTION, MaskLoss
from torch import Tensor


def chosen_masks(logits: Tensor, predicted_iou: Tensor, boxes: int) -> Tensor:
    """The mask to go on with: mask 0 for boxes, that of the best predicted IoU for clicks."""
    best = predicted_iou[..., 1:].argmax(-1) + 1
    best[:, :boxes] = 0
    index = best[..., None, None, None].expand(-1, -1, 1, *logits.shape[-2:])
    return logits.gather(2, index)[:, :, 0]


def corrections(logits: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A click on the error of each mask, in pixels of the window, and its label (1: object)."""
    wanted = masks >= 0.5
    error = ((logits > 0) != wanted).flatten(2).float()
    error = torch.where(error.sum(-1, keepdim=True) > 0, error, wanted.flatten(2).float() + 1e-6)
    index = torch.multinomial(error.flatten(0, 1), 1, generator=generator).view(*masks.shape[:2], 1)
    labels = wanted.flatten(2).gather(2, index).to(torch.int64)
    width = masks.shape[-1]
    clicks = (
        torch.stack([index % width, index // width], -1) * LOW_RESOLUTION + (LOW_RESOLUTION - 1) / 2
    )
    return clicks, labels


def watch(found: MaskLoss, logits: Tensor, boxes: int) -> dict[str, float]:
    """What to watch of a round whose first prompts are boxes, the others clicks."""
    return {
        "box_iou": found.iou[:, :boxes, 0].mean().item(),
        "click_iou": found.iou[:, boxes:, 1:].amax(-1).mean().item(),
        "iou_of_mask_0_of_clicks": found.iou[:, boxes:, 0].mean().item(),
        "share_predicted": (logits[:, :, 0] > 0).float().mean().item(),
    }
