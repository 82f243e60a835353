"""Parts 3 and 4: the memory, on clips that the frozen encoder has seen before."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from losses import AMBIGUOUS_MASKS, mask_loss
from recipe import TrainingRecipe
from torch import Tensor, nn
from torch.nn import functional

from carsam.video.arithmetic import MASK_LOGIT
from sam2_mini.clip_cache import ClipBatch, ClipCache
from sam2_mini.decoder import Decoded, Levels, decode, embed_prompts, no_mask
from sam2_mini.initial import initialise_memory_
from sam2_mini.memory import CanvasMemory
from sam2_mini.part import Pictures, part_of
from sam2_mini.rounded import Rounded

TRAINED = (
    "prompt_encoder",
    "mask_decoder",
    "no_memory_embedding",
    "memory_attention",
    "memory_encoder",
    "memory_temporal_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
    "mask_downsample",
    "object_pointer_proj",
    "temporal_positional_encoding_projection_layer",
)
PROMPTS = ("mask", "box", "click")
PROMPT_SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True)
class Clips:
    """What a part is trained on.

    Attributes:
        count: number of clips, of `frames` frames each.
        lengths: of what is cut out of them, for every stage of the recipe.
        forced_steps: over which true masks are remembered ever less often, instead of those found.
    """

    count: int
    frames: int
    lengths: tuple[int, ...]
    forced_steps: int


class Tracking:
    """Objects are prompted in a first frame and followed from frame to frame, through time."""

    shares = 2

    def __init__(
        self, name: str, model: nn.Module, recipe: TrainingRecipe, clips: Clips, folder: Path
    ):
        self.name, self.model, self.recipe, self.clips = name, model, recipe, clips
        self.folder = folder
        self.trained = part_of(model, TRAINED)
        self.follow = Rounded(Follow(model))

    def start_(self) -> None:
        if self.name == "memory":
            initialise_memory_(self.model)

    def read_(self, pictures: Pictures) -> None:
        (window,) = {stage.window for stage in self.recipe.stages}
        self.cache = ClipCache(
            self.folder,
            self.model,
            pictures,
            window,
            self.clips.count,
            self.clips.frames,
            self.recipe.seed,
        )

    def loss(self, step: int, share: int) -> tuple[Tensor, dict[str, float]]:
        random = np.random.default_rng([self.recipe.seed, 2, step, share])
        stage = self.recipe.stage(step)
        length = self.clips.lengths[self.recipe.stages.index(stage)]
        batch = self.cache.draw(random, stage.batch, length)
        prompt = random.choice(PROMPTS, p=PROMPT_SHARES)
        share = 1 - step / self.clips.forced_steps if self.clips.forced_steps else 0.0
        forced = torch.from_numpy(random.random((length, stage.batch)) < share)
        return self.follow(batch, prompt, forced)


class Follow(nn.Module):
    """Follows a batch of objects, and compares what it finds in each frame."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.memory = CanvasMemory(model)

    def forward(
        self, batch: ClipBatch, prompt: str, forced: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a frame, and what to watch.

        Args:
            prompt: one of `PROMPTS`, of the first frame.
            forced: bool, T x B; where the true mask is remembered.
        """
        memory = {}
        dtype = self.model.no_memory_embedding.dtype
        losses, ious, rights = [], [], []
        for frame in range(len(batch.masks)):
            levels = Levels(*(level[frame].to(dtype) for level in batch.levels))
            there = batch.masks[frame].flatten(1).any(1)
            if frame:
                coarse = self.memory.recall(levels.coarse, batch.offset, memory, frame)
                found = self._decoded(levels._replace(coarse=coarse), batch.offset, None)
                several = True
            else:
                found, several = self._prompted(levels, batch, prompt)
            given = frame == 0 and prompt == "mask"
            rows = torch.arange(len(there))
            best = found.ious[:, 0, AMBIGUOUS_MASKS].argmax(-1) + 1 if several else 0 * rows
            logits, tokens = found.masks[rows, 0, best], found.tokens[rows, 0, best]
            scores = found.scores[:, 0]
            loss, iou = self._compared(found, batch, frame, several)
            if given:
                logits = self.memory.prompt_of_mask(batch.masks[0])[1]
                loss = torch.zeros_like(loss)
            else:
                ious.append(iou[rows, best][there])
                rights.append(((scores > 0) == there).float())
            target = there.float()
            presence = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
            losses.append((loss * target + presence).mean())
            true = (2 * batch.shares[frame] - 1) * MASK_LOGIT
            sure = forced[frame] | given
            remembered = torch.where(forced[frame][:, None, None], true, logits)
            scores = torch.where(sure, (2 * target - 1) * MASK_LOGIT, scores)
            memory[frame] = self.memory.remember(levels.coarse, remembered, tokens, scores)
        last = ious[-1].mean().item() if len(ious[-1]) else 0.0
        return torch.stack(losses).mean(), {
            f"iou_after_{prompt}": torch.cat(ious).mean().item(),
            "last_iou": last,
            "presence": torch.cat(rights).mean().item(),
        }

    def _prompted(self, levels: Levels, batch: ClipBatch, prompt: str) -> tuple[Decoded, bool]:
        """What the decoder finds in the first frame, and whether several masks answer."""
        if prompt == "mask":  # decoded for the pointer alone, without what stands for no memory
            dense, _ = self.memory.prompt_of_mask(batch.masks[0])
            return self._decoded(levels, batch.offset, None, dense), False
        levels = levels._replace(
            coarse=levels.coarse + self.model.no_memory_embedding.view(1, -1, 1, 1)
        )
        if prompt == "box":
            sparse = embed_prompts(self.model, batch.offset, boxes=batch.boxes[:, None])
        else:
            sparse = embed_prompts(self.model, batch.offset, points=batch.points[:, None, None])
        return self._decoded(levels, batch.offset, sparse), prompt == "click"

    def _decoded(
        self,
        levels: Levels,
        offset: tuple[int, int],
        sparse: Tensor | None,
        dense: Tensor | None = None,
    ) -> Decoded:
        """Decode; an object without a prompt has two points that are none."""
        if sparse is None:
            nothing = self.model.prompt_encoder.not_a_point_embed.weight
            sparse = nothing.expand(len(levels.coarse), 1, 2, -1)
        dense = no_mask(self.model) if dense is None else dense
        return decode(self.model, levels, offset, sparse, dense)

    def _compared(
        self, found: Decoded, batch: ClipBatch, frame: int, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Loss of every object, B, and the true IoUs of its masks, B x 4."""
        masks = mask_loss(
            found.masks,
            batch.shares[frame][:, None],
            batch.close_up_boxes[frame][:, None],
            batch.close_ups[frame][:, None],
        )
        loss, iou = masks.loss[:, 0], masks.iou[:, 0]
        weight = 0.25 if several else 1.0
        wanted = weight * loss[:, 0] + (1.25 - weight) * loss[:, AMBIGUOUS_MASKS].amin(-1)
        return wanted + (found.ious[:, 0] - iou).square().mean(-1), iou
