"""Grids by name, to and from the tensors of a checkpoint."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.formats.grid_layouts import layout
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.grids.tables import Log1pGrid, LogGrid, LogUniformGrid, TwinUniformGrid

GRIDS: dict[str, Callable[..., Grid]] = {
    kind.name: kind
    for kind in (
        UniformGrid,
        CodebookGrid,
        LogGrid,
        Log1pGrid,
        TwinUniformGrid,
        LogUniformGrid,
        GroupedUniformGrid,
        RowMaximumGrid,
    )
}
"""Grids by the name that checkpoints use; `formats.grid_layouts.LAYOUTS` says what is stored."""


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Return the manifest's entry of a grid."""
    return {"grid": grid.name, "bits": grid.bits, **grid.settings}


def store_grid(prefix: str, grid: Grid) -> dict[str, np.ndarray]:
    """Return the tensors of a grid under the names that begin with a prefix."""
    tensors = layout(describe_grid(grid), prefix).tensors
    return {
        f"{prefix}_{name}": getattr(grid, name).flatten().cpu().numpy().astype(dtype)
        for name, (dtype, _) in tensors.items()
    }


def load_grid(
    prefix: str, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray], rows: bool
) -> Grid:
    """Undo `describe_grid` and `store_grid`.

    Args:
        rows: make the tensors (rows, 1), one grid per row of a weight.

    Raises:
        UserError: the grid is not known.
    """
    stored = layout(description, prefix)
    lengths = {length for _, length in stored.tensors.values()}  # the tensors tell these
    arguments = {name: description[name] for name in stored.settings if name not in lengths}
    for name in stored.tensors:
        tensor: Tensor = torch.from_numpy(tensors[f"{prefix}_{name}"].copy())
        arguments[name] = tensor[:, None] if rows else tensor
    return GRIDS[description["grid"]](bits=description["bits"], **arguments)
