"""Hiera and its neck on a part of the canvas.

A window of 192 or 384 pixels, at a multiple of 192, holds whole attention windows of the canvas of
768 x 768, so that local blocks compute there what they compute on the canvas; only the two global
blocks see less. The position tables are those of the canvas, at the window's place.
"""

import torch
from pictures import PIXEL_MEAN, PIXEL_STD
from torch import Tensor, nn
from torch.nn import functional

from carsam.families.sam2.positions import image_positions

GRID = 192
"""Windows of the canvas start at multiples of as many pixels."""


class CanvasHiera(nn.Module):
    """The vision encoder of a `Sam2VideoModel`.

    Convolutions of kernel 1 are written as products, and nothing is computed that the outputs do
    not need.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Encode windows.

        Args:
            image: uint8, batch x 3 x height x width in pixels, multiples of `GRID`.
            offset: row and column of the windows on the canvas, in pixels, multiples of `GRID`.

        Returns:
            The three levels of the neck, the coarsest first: batch x C x height/16 x width/16,
            then x height/8 x width/8 and x height/4 x width/4.
        """
        row, column = (start // 4 for start in offset)
        height, width = (side // 4 for side in image.shape[2:])
        backbone = self.encoder.backbone
        side = backbone.config.image_size[0] // 4
        table = image_positions(backbone.pos_embed, backbone.pos_embed_window, (side, side))
        return self._run(image, table[:, row : row + height, column : column + width])

    def _run(self, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone = self.encoder.backbone
        mean, std = (
            torch.tensor(value, device=image.device).view(3, 1, 1)
            for value in (PIXEL_MEAN, PIXEL_STD)
        )
        patch = backbone.patch_embed.projection
        pixels = ((image.float() - mean) / std).to(patch.weight.dtype)
        tokens = patch(pixels).permute(0, 2, 3, 1)
        tokens = tokens + positions.to(tokens.dtype)
        ends = []
        for i, block in enumerate(backbone.blocks):
            tokens = self._block(block, tokens)
            if i in backbone.stage_ends:
                ends.append(tokens)
        return self._neck(ends)

    def _neck(self, ends: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The levels of strides 16, 8 and 4 from the ends of the four stages, B x h x w x C."""
        convs = self.encoder.neck.convs  # the first is of the coarsest stage
        fine, middle, coarse, coarsest = (
            functional.linear(end, conv.weight.flatten(1), conv.bias)
            for end, conv in zip(ends, reversed(list(convs)), strict=True)
        )
        batch, rows, columns, width = coarsest.shape
        above = coarsest[:, :, None, :, None].expand(batch, rows, 2, columns, 2, width)
        coarse = coarse + above.reshape(coarse.shape)
        return tuple(level.permute(0, 3, 1, 2) for level in (coarse, middle, fine))

    def _block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """One block: B x h x w x C, with a query stride to B x h/2 x w/2 x C'."""
        shortcut = tokens
        normed = block.layer_norm1(tokens)
        if block.dim != block.dim_out:
            shortcut = block.proj(normed)
        size = block.window_size or tokens.shape[1]
        attended = self._attend(block.attn, _windows(normed, size), size)
        if block.query_stride:
            size //= 2
            shortcut = _pooled(shortcut)
        tokens = shortcut + _canvas(attended, size, shortcut.shape)
        return tokens + block.mlp(block.layer_norm2(tokens))

    def _attend(self, attention: nn.Module, tokens: Tensor, size: int) -> Tensor:
        """Attention in windows, N x size^2 x C, to N x queries x C'."""
        heads = attention.num_attention_heads
        query, key, value = attention.qkv(tokens).chunk(3, -1)
        if attention.query_stride:
            query = _pooled(query.unflatten(1, (size, size))).flatten(1, 2)
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        weights = (query * attention.scale) @ key.transpose(-1, -2)
        return attention.proj((weights.softmax(-1) @ value).transpose(1, 2).flatten(2))


def _windows(tokens: Tensor, size: int) -> Tensor:
    """B x h x w x C to windows x size^2 x C."""
    tokens = tokens.unflatten(1, (-1, size)).unflatten(3, (-1, size))
    return tokens.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _canvas(windows: Tensor, size: int, shape: torch.Size) -> Tensor:
    """Windows x size^2 x C back to B x h x w x C."""
    batch, height, width, channels = shape
    tokens = windows.reshape(batch, height // size, width // size, size, size, channels)
    return tokens.transpose(2, 3).reshape(shape)


def _pooled(tokens: Tensor) -> Tensor:
    """The largest of every 2 x 2 tokens: B x h x w x C to B x h/2 x w/2 x C."""
    rows = torch.maximum(tokens[:, ::2], tokens[:, 1::2])
    return torch.maximum(rows[:, :, ::2], rows[:, :, 1::2])
