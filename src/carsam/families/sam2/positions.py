"""Hiera's positions: a small table enlarged over the image, and one that every window repeats."""

import torch
from torch import Tensor

SHARPNESS = -0.75
"""a of the cubic kernel (Keys, 1981), as torch takes it for `bicubic`."""


def image_positions(background: Tensor, window: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the positions (1, h, w, C) of an image of size (h, w).

    Args:
        background: (1, C, n, m), enlarged with the bicubic filter.
        window: (1, C, k, k), repeated; k divides h and w.

    The enlarging is two products with matrices in float64, rounded once, so that the result does
    not depend on the order of its sums.
    """
    rows, columns = (
        _enlarging(source, target)
        for source, target in zip(background.shape[2:], size, strict=True)
    )
    double = background.double()
    enlarged = (rows.to(double) @ double @ columns.to(double).T).float()
    repeats = [length // window.shape[2] for length in size]
    return (enlarged + window.repeat(1, 1, *repeats)).permute(0, 2, 3, 1)


def _enlarging(source: int, target: int) -> Tensor:
    """Return the bicubic filter from source to target pixels, (target, source) float64.

    Pixel centres are aligned (`align_corners=False`); beyond the border the last pixel counts.
    """
    places = (torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5
    first = places.floor()
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for tap in (-1, 0, 1, 2):
        weights = _cubic((places - first - tap).abs())
        pixels = (first.long() + tap).clamp(0, source - 1)
        matrix.scatter_add_(1, pixels[:, None], weights[:, None])
    return matrix


def _cubic(distance: Tensor) -> Tensor:
    """Return the kernel's weight at distances (n,) below 2."""
    a, x = SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, far)
