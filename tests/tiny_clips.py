"""Clips for a tiny SAM 2, with random pictures and memories of two frames and two objects."""

import torch

OBJECTS, REMEMBERED, CELLS, POINTERS, WIDTH = 2, 2, 64, 2, 64


def entries(seed: int = 0) -> dict[str, torch.Tensor]:
    """What a clip's state has beside its pixels."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.arange(CELLS).repeat(REMEMBERED)
    tokens = len(cells) + POINTERS
    return {
        "points": torch.zeros(1, OBJECTS, 1, 2),
        "labels": -torch.ones(1, OBJECTS, 1, dtype=torch.int64),
        "memory_masks": 5 * torch.randn(OBJECTS, REMEMBERED, 32, 32, generator=generator),
        "memory_scores": torch.tensor([[4.0, -1.0], [2.0, 3.0]]),  # one was gone in a frame
        "pointers": torch.randn(OBJECTS, POINTERS, WIDTH, generator=generator),
        "memory_positions": torch.randn(tokens, WIDTH, generator=generator),
        "memory_cells": torch.cat([cells, -torch.ones(POINTERS, dtype=torch.int64)]),
    }


def clip_state(family, seed: int = 0) -> dict[str, torch.Tensor]:
    """A clip before the first stage."""
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randn(1 + REMEMBERED, 3, 128, 128, generator=generator)
    return family.start(pixels, None, **entries(seed))
