"""Weight matrices whose codes stay packed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from carsam.formats.packing import pack, packed_columns, unpack
from carsam.runtime.functions import LANES


@dataclass(frozen=True)
class PackedMatrix:
    """A weight matrix (rows, columns) as a bit stream per row, one grid per row.

    value[n, k] = (code[n, k] - zero_point[n]) * scale[n].

    Args:
        packed: (rows, ceil(columns * bits / 8)) uint8; may be a view of a memory-mapped file.
        bits: 1 to 8.
        columns: numbers per row.
        scale: (rows,) float32.
        zero_point: (rows,) uint8.
    """

    packed: np.ndarray
    bits: int
    columns: int
    scale: np.ndarray
    zero_point: np.ndarray

    def __post_init__(self) -> None:
        width = packed_columns(self.columns, self.bits)
        if self.packed.dtype != np.uint8 or self.packed.shape != (self.rows, width):
            raise ValueError(
                f"Packed weights are {self.packed.dtype} of shape {self.packed.shape}; expected "
                f"uint8 of shape {(self.rows, width)} for {self.bits} bits."
            )
        if self.zero_point.shape != (self.rows,):
            raise ValueError(
                f"Zero points of shape {self.zero_point.shape}; expected {(self.rows,)}."
            )

    @property
    def rows(self) -> int:
        return len(self.scale)

    @property
    def offset(self) -> int:
        """What is subtracted from codes and zero points to make the codes signed."""
        return 1 << (self.bits - 1)

    def codes(self) -> np.ndarray:
        """(rows, columns) uint8."""
        return unpack(self.packed, self.bits, self.columns)

    def signed_codes(self) -> np.ndarray:
        """(rows, columns) int8: codes less `offset`."""
        return (self.codes() - np.uint8(self.offset)).view(np.int8)

    def signed_zero_point(self) -> np.ndarray:
        """(rows,) int32: zero points less `offset`."""
        return self.zero_point.astype(np.int32) - self.offset

    @cached_property
    def padded_zero_point(self) -> np.ndarray:
        """`signed_zero_point` padded with zeros to a multiple of 16 rows, for the kernels."""
        return np.pad(self.signed_zero_point(), (0, -self.rows % LANES))

    def values(self) -> np.ndarray:
        """(rows, columns) float32."""
        return (self.codes() - self.zero_point[:, None].astype(np.float32)) * self.scale[:, None]

    @staticmethod
    def from_codes(
        codes: np.ndarray, bits: int, scale: np.ndarray, zero_point: np.ndarray
    ) -> "PackedMatrix":
        """Pack (rows, columns) uint8 `codes`."""
        return PackedMatrix(pack(codes, bits), bits, codes.shape[1], scale, zero_point)


@dataclass(frozen=True)
class UpscalingWeights:
    """Float weights of mask upscaling; outputs of a convolution are ordered (y, x, channel).

    Args:
        weight1: (4 * C1, C) float32.
        bias1: (4 * C1,) float32.
        norm_weight, norm_bias: (C1,) float32.
        epsilon: of the norm.
        weight2: (4 * C2, C1) float32.
        bias2: (4 * C2,) float32.
    """

    weight1: np.ndarray
    bias1: np.ndarray
    norm_weight: np.ndarray
    norm_bias: np.ndarray
    epsilon: float
    weight2: np.ndarray
    bias2: np.ndarray

    @cached_property
    def panels1(self) -> np.ndarray:
        """(4 * C1 / 16, C, 16): `weight1` as the C++ kernel reads it."""
        return _panels(self.weight1)

    @cached_property
    def panels2(self) -> np.ndarray:
        """(4 * C2 / 16, C1, 16): the same of `weight2`."""
        return _panels(self.weight2)


def integer_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right.T of small integers, exact, as int32, or int64 where they might not fit.

    Runs in float BLAS: float32 where every partial sum is below 2**24, float64 otherwise.

    Args:
        left: (..., M, K) uint8 or int8.
        right: (..., N, K) uint8 or int8.
    """
    largest = left.shape[-1] * _magnitude(left) * _magnitude(right)
    dtype = np.float32 if largest < 1 << 24 else np.float64
    product = left.astype(dtype) @ np.swapaxes(right, -1, -2).astype(dtype)
    return product.astype(np.int32 if largest < 1 << 31 else np.int64)


def _magnitude(codes: np.ndarray) -> int:
    if not codes.size:
        return 0
    return max(abs(int(codes.max())), abs(int(codes.min())))


def _panels(weight: np.ndarray) -> np.ndarray:
    rows, columns = weight.shape
    panels = weight.reshape(rows // LANES, LANES, columns).transpose(0, 2, 1)
    return np.ascontiguousarray(panels, np.float32)
