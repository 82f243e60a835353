"""What a checkpoint stores of each kind of grid; no torch, so that every reader can check it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.errors import UserError
from carsam.formats.packing import packed_columns

GRIDS = "grids"
"""Length of a tensor with one entry per grid: per output channel of a weight, 1 else."""

CODES = "codes"
"""Length of a tensor with one entry per code."""


@dataclass(frozen=True)
class Layout:
    """How one kind of grid is stored.

    Args:
        tensors: type and length of every tensor, by the end of its name; a length is a number,
            `GRIDS`, `CODES`, or one of the settings.
        settings: integers that describe the grid in the manifest, beside its bits.
        quantize_linear: whether ONNX's QuantizeLinear and DequantizeLinear express the grid, so
            that other runtimes can be given it.
    """

    tensors: Mapping[str, tuple[type[np.generic], int | str]]
    settings: tuple[str, ...] = ()
    quantize_linear: bool = False


LAYOUTS = {
    "uniform": Layout(
        {"scale": (np.float32, GRIDS), "zero_point": (np.uint8, GRIDS)}, quantize_linear=True
    ),
    "codebook": Layout(
        {"scale": (np.float32, 1), "zero_point": (np.uint8, 1), "entries": (np.uint8, CODES)}
    ),
    "log2": Layout({"scale": (np.float32, 1)}, ("granularity",)),
    "log1p": Layout({"scale": (np.float32, 1), "curvature": (np.float32, 1)}),
    "twin-uniform": Layout({"scale": (np.float32, 1)}, ("shift", "signed")),
    "log-uniform": Layout({"scale": (np.float32, 2), "offset": (np.float32, 1)}, ("log_codes",)),
    "grouped-uniform": Layout(
        {
            "scale": (np.float32, "groups"),
            "zero_point": (np.uint8, "groups"),
            "group": (np.uint8, "channels"),
        },
        ("groups", "channels"),
    ),
    "row-maximum": Layout({"scale": (np.float32, 1), "numerator": (np.uint8, CODES)}),
}
"""Layouts by the name of the grid; `carsam.grids.registry` holds the grids themselves."""


def layout(description: Mapping[str, Any], what: str) -> Layout:
    """Return the layout of the grid that a manifest describes.

    Args:
        description: the manifest's entry.
        what: the tensor that lies on the grid, for messages.

    Raises:
        UserError: the grid is not known, lacks a setting, or has other than 1 to 8 bits.
    """
    name = description["grid"]
    if name not in LAYOUTS:
        raise UserError(
            f"Grid {name} (of {what}) is not known; this carsam has {', '.join(LAYOUTS)}. "
            "Install the carsam that wrote the checkpoint, or quantize again."
        )
    missing = [setting for setting in LAYOUTS[name].settings if setting not in description]
    if missing:
        raise UserError(f"Grid {name} of {what} lacks {', '.join(missing)} in the manifest.")
    if description["bits"] not in range(1, 9):
        raise UserError(f"Grid {name} of {what} has {description['bits']} bits; expected 1 to 8.")
    return LAYOUTS[name]


def site_tensors(
    path: str, site: Mapping[str, Any]
) -> Iterator[tuple[str, np.dtype, tuple[int, ...]]]:
    """Yield name, type and shape of every tensor that quantization adds at a site.

    Args:
        path: module path of the site.
        site: its entry in the manifest.

    Raises:
        UserError: a grid is not known.
    """
    weight = site["weight"]
    if weight is not None:
        rows, columns = weight_rows(site["type"], weight["shape"])
        shape = (rows, packed_columns(columns, weight["bits"]))
        yield f"{path}.weight_packed", np.dtype(np.uint8), shape
        yield from _grid_tensors(f"{path}.weight", weight, rows)
    for operand, grid in site["operands"].items():
        yield from _grid_tensors(f"{path}.{operand}", grid, 1)


def weight_rows(site_type: str, shape: list[int]) -> tuple[int, int]:
    """Return (output channels, weights per channel) of a weight of the given original shape."""
    output_axis = 1 if site_type == "conv_transpose" else 0
    rows = shape[output_axis]
    return rows, int(np.prod(shape, dtype=np.int64)) // rows


def _grid_tensors(
    prefix: str, description: Mapping[str, Any], grids: int
) -> Iterator[tuple[str, np.dtype, tuple[int, ...]]]:
    for name, (dtype, length) in layout(description, prefix).tensors.items():
        if length == GRIDS:
            length = grids
        elif length == CODES:
            length = 2 ** int(description["bits"])
        elif isinstance(length, str):
            length = int(description[length])
        yield f"{prefix}_{name}", np.dtype(dtype), (length,)
