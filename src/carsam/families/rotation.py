"""Rotary positions of images: pairs of channels turn by the column and by the row of a token."""

from functools import lru_cache

import torch
from torch import Tensor

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines (tokens, d)."""


def rotation(
    channels: int, theta: float, size: tuple[int, int], device: torch.device, step: float = 1.0
) -> Rotation:
    """Return the rotation of every cell of a (height, width) grid, row by row, of heads.

    The first half of a head's channels turns by the column, the second by the row; pair i of a
    half of h channels by step theta^(-2 i / h) a cell. Computed in float64 and rounded once.
    """
    cosines, sines = _table(channels, theta, *size, step)
    return cosines.to(device), sines.to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # training may be the next to ask
def _table(channels: int, theta: float, height: int, width: int, step: float) -> Rotation:
    half = channels // 2
    rates = theta ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)
    rows, columns = (step * torch.arange(n, dtype=torch.float64) for n in (height, width))
    by_row = (rows[:, None] * rates).repeat_interleave(width, 0)
    by_column = (columns[:, None] * rates).repeat(height, 1)
    angles = torch.cat([by_column, by_row], -1).repeat_interleave(2, -1)  # (h * w, channels)
    return angles.cos().float(), angles.sin().float()
