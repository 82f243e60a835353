"""Hiera's positions: a small table enlarged over the image, and one that every window repeats."""

import torch
from torch import Tensor

from carsam.runtime.positions import bicubic_filter


def image_positions(background: Tensor, window: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the positions (1, h, w, C) of an image of size (h, w).

    Args:
        background: (1, C, n, m), enlarged with the bicubic filter.
        window: (1, C, k, k), repeated; k divides h and w.

    The enlarging is two products with matrices in float64, rounded once, so that the result does
    not depend on the order of its sums.
    """
    double = background.double()
    rows, columns = (
        torch.from_numpy(bicubic_filter(source, target)).to(double)
        for source, target in zip(background.shape[2:], size, strict=True)
    )
    enlarged = (rows @ double @ columns.T).float()
    repeats = [length // window.shape[2] for length in size]
    return (enlarged + window.repeat(1, 1, *repeats)).permute(0, 2, 3, 1)
