"""Codes of 1 to 8 bits, stored without a gap."""

import numpy as np


def packed_columns(columns: int, bits: int) -> int:
    """Return the bytes that `columns` codes of `bits` bits take."""
    return -(-columns * bits // 8)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack each row of `codes` into a little-endian bit stream of its own.

    Code j of a row takes the bits [j * bits, (j + 1) * bits) of that row's stream, lowest bit
    first; at 4 bits the low nibble of a byte comes first. Unused bits of the last byte are 0.

    Args:
        codes: (rows, columns) uint8, each below 2**bits.
        bits: 1 to 8.

    Returns:
        (rows, ceil(columns * bits / 8)) uint8.

    Raises:
        ValueError: a code does not fit, or the array is not two-dimensional uint8.
    """
    _check_bits(bits)
    if codes.ndim != 2 or codes.dtype != np.uint8:
        raise ValueError(f"Codes are {codes.dtype} of shape {codes.shape}; expected 2-D uint8.")
    if codes.size and int(codes.max()) >= 1 << bits:
        raise ValueError(f"Code {int(codes.max())} does not fit {bits} bits.")
    if bits == 8:
        return codes.copy()
    rows, columns = codes.shape
    stream = np.unpackbits(codes[:, :, None], axis=2, bitorder="little")[:, :, :bits]
    return np.packbits(stream.reshape(rows, columns * bits), axis=1, bitorder="little")


def unpack(packed: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """Undo `pack`: (rows, bytes) uint8 to codes (rows, columns) uint8.

    Raises:
        ValueError: the array has not the width that `columns` codes of `bits` bits take.
    """
    _check_bits(bits)
    expected = packed_columns(columns, bits)
    if packed.ndim != 2 or packed.dtype != np.uint8 or packed.shape[1] != expected:
        raise ValueError(
            f"Packed codes are {packed.dtype} of shape {packed.shape}; "
            f"expected uint8 with {expected} columns for {columns} codes of {bits} bits."
        )
    if bits == 8:
        return packed.copy()
    rows = len(packed)
    stream = np.unpackbits(packed, axis=1, bitorder="little")[:, : columns * bits]
    return np.packbits(stream.reshape(rows * columns, bits), axis=1, bitorder="little").reshape(
        rows, columns
    )


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"{bits} bits asked for; codes have 1 to 8 bits.")
