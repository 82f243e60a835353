"""The operators in use: C++ where the extension is built, plain numpy otherwise."""

import os
from typing import Any

from carsam.errors import UserError
from carsam.threads import current_threads

try:
    from carsam.runtime import _kernels
except ImportError:
    from carsam.runtime.reference import (
        activate,
        empty,
        float_product,
        layer_norm,
        linear,
        linear_norm_on_grids,
        norm_on_grids,
        quantize,
        round_to_table,
        upscaled_masks,
        weighted_rows,
    )
    from carsam.runtime.reference_attention import attention
    from carsam.runtime.reference_memory import depthwise, rotate

    _kernels = None  # type: ignore[assignment]
else:
    from carsam.runtime.native import (
        activate,
        attention,
        depthwise,
        empty,
        float_product,
        layer_norm,
        linear,
        linear_norm_on_grids,
        norm_on_grids,
        quantize,
        rotate,
        round_to_table,
        upscaled_masks,
        weighted_rows,
    )

__all__ = [
    "activate",
    "attention",
    "depthwise",
    "empty",
    "float_product",
    "instruction_set",
    "layer_norm",
    "linear",
    "linear_norm_on_grids",
    "norm_on_grids",
    "quantize",
    "rotate",
    "round_to_table",
    "set_threads",
    "threads",
    "training",
    "upscaled_masks",
    "use_instruction_set",
    "weighted_rows",
]

INSTRUCTION_SET_VARIABLE = "CARSAM_ISA"

training: Any = _kernels
"""The extension, for the operators of training, which only torch needs; None without it."""


def instruction_set() -> str:
    """Name of the instruction set in use; `numpy` without the extension."""
    return "numpy" if _kernels is None else str(_kernels.current_set())


def use_instruction_set(name: str) -> None:
    """Use another instruction set than the best one.

    Raises:
        UserError: this build or this machine does not have it.
    """
    usable = ["numpy"] if _kernels is None else _kernels.usable_sets()
    if name not in usable:
        raise UserError(
            f"Instruction set {name} (from {INSTRUCTION_SET_VARIABLE}) cannot run here; "
            f"choose one of {', '.join(usable)}."
        )
    if _kernels is not None:
        _kernels.use_set(name)


def threads() -> int:
    """Return the threads that operators run on; without the extension, those of BLAS."""
    return current_threads() if _kernels is None else _kernels.threads()


def set_threads(count: int) -> None:
    """Let every operator run on `count` threads; by default, on those of `carsam.threads`."""
    if count < 1:
        raise UserError(f"{count} threads asked for; expected at least 1.")
    if _kernels is not None:
        _kernels.set_threads(count)


if INSTRUCTION_SET_VARIABLE in os.environ:
    use_instruction_set(os.environ[INSTRUCTION_SET_VARIABLE])
