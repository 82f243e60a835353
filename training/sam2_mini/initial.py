"""Initial weights of Hiera: products of unit gain, and positions known from the start."""

import math

import torch
from torch import Tensor, nn

POSITION_SHARE = 0.3  # of the position codes, beside patches of about unit variance


@torch.no_grad()
def initialise_(encoder: nn.Module) -> None:
    """Give a vision encoder of SAM 2 weights to learn with.

    With transformers' weights of 0.02 and tables of zeros a token knows neither its place on the
    canvas nor its place in its window, and the largest of four tokens is of no known place. The
    background table starts as waves along x and y, from the canvas's length down to three cells,
    the table that windows repeat as the waves that fit into it. What a block adds starts small.
    """
    blocks = encoder.backbone.blocks
    for module in encoder.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in blocks:
        block.attn.proj.weight.mul_(len(blocks) ** -0.5)
        block.mlp.proj_out.weight.mul_(len(blocks) ** -0.5)
    for table, cycles in (
        (encoder.backbone.pos_embed, torch.logspace(-1, 2, 8, base=2)),
        (encoder.backbone.pos_embed_window, torch.arange(1, 5).repeat(2)),
    ):
        table.copy_(POSITION_SHARE * _waves(table.shape[-1], cycles, table.shape[1]))


def _waves(size: int, cycles: Tensor, channels: int) -> Tensor:
    """Sines and cosines along x and y, channels x size x size; the first ones if there are more."""
    places = (torch.arange(size) + 0.5) / size
    angles = 2 * math.pi * cycles[:, None] * places  # waves x size
    lines = torch.stack([angles.sin(), angles.cos()], 1)
    across = lines[..., None, :].expand(-1, -1, size, -1)
    down = lines[..., None].expand(-1, -1, -1, size)
    return torch.stack([across, down], 1).flatten(0, 2)[:channels]
