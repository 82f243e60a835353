"""SAM 2's memory on a part of the canvas, for a batch of objects at once.

Ravi et al., SAM 2 (arXiv 2408.00714), section 4. What is computed of a frame and its memory is what
`carsam.families.sam2_video` and `carsam.video` compute on the whole canvas.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from carsam.families.sam2_video.memory_attention import POSITION_SHARE, rotation_table
from carsam.video.arithmetic import ABSENT, MASK_LOGIT, sines
from sam2_mini.decoder import CELL


class Remembered(NamedTuple):
    """What is remembered of one frame: tokens B x n x D of its cells, and pointers B x C."""

    tokens: Tensor
    pointers: Tensor


class CanvasMemory(nn.Module):
    """The memory attention, memory encoder and pointers of a `Sam2VideoModel`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def recall(
        self, coarse: Tensor, offset: tuple[int, int], memory: dict[int, Remembered], frame: int
    ) -> Tensor:
        """What the memory makes of a frame's coarse level, B x C x h x w.

        Args:
            memory: by frame; frame 0 was prompted, the others were followed.
            frame: the number of the present one, later than all.
        """
        model, size = self.model, coarse.shape[2:]
        near = model.num_maskmem - 1
        frames = [0, *range(max(1, frame - near), frame)]
        tokens = [memory[other].tokens for other in frames]
        places = self._sine(
            model.memory_encoder.position_encoding, tokens[0].shape[-1], offset, size
        )
        times = model.memory_temporal_positional_encoding[:, 0, 0]
        distances = [frame - other if other else len(times) for other in frames]
        positions = [places.to(times.dtype) + times[distance - 1] for distance in distances]
        recalled = range(max(0, frame - model.config.max_object_pointers_in_encoder + 1), frame)
        steps = [frame, *(frame - other for other in recalled if other)]
        pointers = [memory[frame - step].pointers for step in steps]
        pieces = torch.stack(pointers, 1).unflatten(2, (-1, tokens[0].shape[-1]))  # B x P x 2 x D
        most = max(1, model.config.max_object_pointers_in_encoder - 1)
        layer = model.temporal_positional_encoding_projection_layer
        encoded = sines(torch.tensor(steps).numpy() / most, layer.in_features)
        encoded = layer(torch.from_numpy(encoded).to(layer.weight.dtype))
        count = pieces.shape[1] * pieces.shape[2]
        positions.append(encoded.repeat_interleave(pieces.shape[2], 0))
        keys = torch.cat([*tokens, pieces.flatten(1, 2)], 1)
        rotation = self._rotation(offset, size)
        own = self._sine(model.vision_encoder.neck.position_encoding, coarse.shape[1], offset, size)
        hidden = coarse.flatten(2).transpose(1, 2) + POSITION_SHARE * own.to(coarse.dtype)
        hidden = hidden[:, None]
        for part in model.memory_attention.layers:
            hidden = part(hidden, keys[:, None], torch.cat(positions)[None, None], rotation, count)
        hidden = model.memory_attention.layer_norm(hidden[:, 0])
        return hidden.transpose(1, 2).unflatten(2, size)

    def remember(
        self, coarse: Tensor, logits: Tensor, tokens: Tensor, scores: Tensor
    ) -> Remembered:
        """Remember a frame.

        Args:
            coarse: of the encoder, B x C x h x w.
            logits: of the objects' masks, B x 4h x 4w.
            tokens: of these masks, B x C.
            scores: logits of the objects being there, B.
        """
        model, there = self.model, (scores > 0)[:, None]
        logits = torch.where(there[..., None], logits, ABSENT)
        size = [CELL * side for side in coarse.shape[2:]]
        mask = functional.interpolate(logits[:, None], size, mode="bilinear").sigmoid()
        config = model.config
        mask = mask * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory, _ = model.memory_encoder(coarse, mask.to(coarse.dtype))
        memory = memory.flatten(2).transpose(1, 2)
        absent = model.occlusion_spatial_embedding_parameter
        memory = memory + (~there)[..., None].to(memory.dtype) * absent
        pointers = torch.where(there, model.object_pointer_proj(tokens), model.no_object_pointer)
        return Remembered(memory, pointers)

    def prompt_of_mask(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's dense embedding of masks, B x S x S of 0 and 1, and their logits."""
        kernel = self.model.mask_downsample
        given = kernel(masks[:, None].to(kernel.weight.dtype))
        size = [side // 4 for side in masks.shape[1:]]
        logits = functional.interpolate(
            (2 * masks[:, None] - 1) * MASK_LOGIT, size, mode="bilinear", antialias=True
        )
        return self.model.prompt_encoder.mask_embed(given), logits[:, 0]

    def _rotation(self, offset: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The rotation of the window's cells, each 1 x 1 x n x C."""
        attention = self.model.memory_attention.layers[0].self_attn
        side = self._side()
        tables = rotation_table(attention, side, side, torch.device("cpu"))
        return tuple(
            _cut(table.T.unflatten(1, (side, side)), offset, size).flatten(1).T[None, None]
            for table in tables
        )

    def _sine(
        self, encoding: nn.Module, channels: int, offset: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        """The sine positions of the window's cells, n x channels."""
        side = self._side()
        table = encoding((1, channels, side, side), torch.device("cpu"), torch.float32)[0]
        return _cut(table, offset, size).flatten(1).T

    def _side(self) -> int:
        return self.model.config.image_size // CELL


def _cut(table: Tensor, offset: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The window's part of a table, channels x rows x columns of the canvas."""
    row, column = (start // CELL for start in offset)
    return table[:, row : row + size[0], column : column + size[1]]
