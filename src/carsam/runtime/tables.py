"""Grids of listed values, to the bit those of `carsam.grids.tables`, without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carsam.errors import UserError


@dataclass(frozen=True)
class CodeTable:
    """A grid of listed values; a number is rounded to the nearest, halfway to the lower.

    Args:
        values: (1 to 2**bits,) float32, finite, ascending.
        bits: 1 to 8.

    Raises:
        UserError: the values are not of this form.
    """

    values: np.ndarray
    bits: int

    def __post_init__(self) -> None:
        finite = bool(np.isfinite(self.values).all())
        if not (1 <= self.bits <= 8 and 1 <= len(self.values) <= 1 << self.bits and finite):
            raise UserError(
                f"A table of {len(self.values)} values on a {self.bits}-bit grid; expected finite "
                "values, at most one per code of 1 to 8 bits. Quantize the model again."
            )

    @cached_property
    def middles(self) -> np.ndarray:
        """(len(values) - 1,) float32; code c is how many of them are below a number."""
        lower, upper = self.values[:-1], self.values[1:]
        # Halfway between neighbouring floats may round up to the larger entry, which stays itself.
        return np.minimum((upper + lower) / np.float32(2), np.nextafter(upper, lower))

    @cached_property
    def padded(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Values (2**bits,), the last repeated, their middles (2**bits - 1,), and bits."""
        missing = (1 << self.bits) - len(self.values)
        values = np.pad(self.values, (0, missing), mode="edge")
        return values, np.pad(self.middles, (0, missing), constant_values=np.inf), self.bits

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the codes (uint8) of float32 numbers."""
        return np.searchsorted(self.middles, numbers).astype(np.uint8)


def read_table(description: Mapping[str, Any], tensors: Callable[[str], np.ndarray]) -> CodeTable:
    """Build the grid of a manifest's entry.

    Args:
        description: of a grid that `TABLES` has.
        tensors: returns the grid's tensor of a name, such as `scale`.
    """
    bits = int(description["bits"])
    return CodeTable(TABLES[description["grid"]](bits, description, tensors), bits)


def _log2(bits: int, settings: Mapping[str, Any], tensors: Callable) -> np.ndarray:
    powers = _powers((1 << bits) - 1, int(settings["granularity"]))
    return tensors("scale") * np.append(np.float32(0), powers)


def _log1p(bits: int, settings: Mapping[str, Any], tensors: Callable) -> np.ndarray:
    shares = np.arange(1 << bits) / ((1 << bits) - 1)
    curvature = tensors("curvature").astype(np.float64)
    return tensors("scale") * (np.expm1(np.log1p(curvature) * shares) / curvature).astype("f4")


def _twin_uniform(bits: int, settings: Mapping[str, Any], tensors: Callable) -> np.ndarray:
    steps = np.arange(1 << (bits - 1), dtype=np.float32)
    fine = -steps if settings["signed"] else steps
    coarse = steps * np.exp2(np.float32(settings["shift"]))
    return tensors("scale") * np.unique(np.concatenate([fine, coarse]))


def _log_uniform(bits: int, settings: Mapping[str, Any], tensors: Callable) -> np.ndarray:
    (threshold, step), log_codes = tensors("scale"), int(settings["log_codes"])
    if not 1 <= log_codes <= 1 << bits:
        raise UserError(f"{log_codes} logarithmic codes of {bits} bits. Quantize the model again.")
    steps = np.arange(1, (1 << bits) - log_codes + 1, dtype=np.float32)
    logarithmic = threshold * np.append(np.float32(0), _powers(log_codes - 1, 1))
    return tensors("offset") + np.concatenate([logarithmic, threshold + steps * step])


def _powers(count: int, granularity: int) -> np.ndarray:
    """2**(-j / granularity) for j = count - 1 down to 0, float32."""
    return np.exp2(np.arange(1 - count, 1) / granularity).astype(np.float32)


TABLES: dict[str, Callable[[int, Mapping[str, Any], Callable], np.ndarray]] = {
    "log2": _log2,
    "log1p": _log1p,
    "twin-uniform": _twin_uniform,
    "log-uniform": _log_uniform,
}
"""The values of grids by name: of bits, the manifest's entry and what returns the tensors."""
