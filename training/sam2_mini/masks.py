"""Part 2: masks of boxes and clicks on images; trains encoder and decoder together."""

import torch
from losses import MaskLoss, mask_loss, total_loss
from recipe import TrainingRecipe
from rounds import chosen_masks, corrections, watch
from samples import StepBatches
from torch import Tensor, nn

from carsam.families.mini import load_sam_mini
from sam2_mini.decoder import (
    CELL,
    Decoded,
    Levels,
    decode,
    embed_prompts,
    fine_levels,
    no_mask,
)
from sam2_mini.hiera import GRID, CanvasHiera
from sam2_mini.initial import take_decoder_
from sam2_mini.part import Pictures, part_of
from sam2_mini.rounded import Rounded


class MaskTraining:
    """The mask losses of sam-mini's training, with its decoder's weights to begin with."""

    name, shares = "masks", 1

    def __init__(self, model: nn.Module, recipe: TrainingRecipe):
        self.recipe = recipe
        self.model = model
        names = ("vision_encoder", "prompt_encoder", "mask_decoder", "no_memory_embedding")
        self.trained = part_of(model, names)
        self.rounds = Rounded(MaskRounds(model))

    def start_(self) -> None:
        take_decoder_(self.model, load_sam_mini())

    def read_(self, pictures: Pictures) -> None:
        self.batches = StepBatches(self.recipe, *pictures, grid=GRID // CELL)

    def loss(self, step: int, share: int) -> tuple[Tensor, dict[str, float]]:
        correct = torch.rand(()).item() < self.recipe.stage(step).correction_probability
        return self.rounds(self.batches[step], correct)


class MaskRounds(nn.Module):
    """A round of boxes and clicks, sometimes a second one that corrects its masks."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.hiera = CanvasHiera(model.vision_encoder)

    def forward(self, batch: dict[str, Tensor], correct: bool) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of `samples.StepBatches`, and what to watch."""
        offset = tuple((CELL * batch["offset"]).tolist())
        levels = fine_levels(self.model.mask_decoder, self.hiera(batch["image"], offset))
        levels = levels._replace(
            coarse=levels.coarse + self.model.no_memory_embedding.view(1, -1, 1, 1)
        )
        boxes, points = batch["boxes"], batch["points"]
        sparse = [
            embed_prompts(self.model, offset, boxes=boxes),
            embed_prompts(self.model, offset, points=points),
        ]
        dense = no_mask(self.model)
        answers = [decode(self.model, levels, offset, prompts, dense) for prompts in sparse]
        masks, ious = (torch.cat([answer[i] for answer in answers], 1) for i in range(2))
        found = self._compared(masks, batch)
        count = boxes.shape[1]
        loss = total_loss(found, ious, count)
        watched = watch(found, masks, count)
        if correct:
            previous = chosen_masks(masks.detach(), ious.detach(), count)
            second, watched["corrected_iou"] = self._second_round(batch, offset, levels, previous)
            loss = loss + second
        return loss, watched

    def _second_round(
        self, batch: dict[str, Tensor], offset: tuple[int, int], levels: Levels, previous: Tensor
    ) -> tuple[Tensor, float]:
        """Loss and mean IoU after a click where the previous logits, B x P x h x w, were wrong."""
        clicks, labels = corrections(previous, batch["masks"], torch.default_generator)
        boxes, points = batch["boxes"], batch["points"]
        count = boxes.shape[1]
        prompts = [
            {"boxes": boxes, "points": clicks[:, :count], "labels": labels[:, :count]},
            {
                "points": torch.cat([points, clicks[:, count:]], 2),
                "labels": torch.cat([torch.ones_like(labels[:, count:]), labels[:, count:]], 2),
            },
        ]
        answers = []
        for given, masks in zip(prompts, previous.split([count, points.shape[1]], 1), strict=True):
            sparse = embed_prompts(self.model, offset, **given)
            answers.append(self._with_masks(levels, offset, sparse, masks))
        masks, ious = (torch.cat([answer[i] for answer in answers], 1) for i in range(2))
        found = self._compared(masks[:, :, :1], batch)
        loss = found.loss.mean() + (ious[..., :1] - found.iou).square().mean()
        return loss, found.iou.mean().item()

    def _with_masks(
        self, levels: Levels, offset: tuple[int, int], sparse: Tensor, masks: Tensor
    ) -> Decoded:
        """Decode B x P prompts, each with the logits of a mask, B x P x 4h x 4w."""
        batch, prompts = sparse.shape[:2]
        weight = self.model.prompt_encoder.mask_embed.conv1.weight
        given = masks.flatten(0, 1)[:, None].clamp(-32, 32).to(weight.dtype)
        repeated = Levels(*(level.repeat_interleave(prompts, 0) for level in levels))
        dense = self.model.prompt_encoder.mask_embed(given)
        answer = decode(self.model, repeated, offset, sparse.flatten(0, 1)[:, None], dense)
        return Decoded(*(part.view(batch, prompts, *part.shape[2:]) for part in answer))

    def _compared(self, masks: Tensor, batch: dict[str, Tensor]) -> MaskLoss:
        return mask_loss(masks, batch["masks"], batch["close_up_boxes"], batch["close_ups"])
