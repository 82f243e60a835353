"""Runs every kernel once under callgrind, on each instruction set that it knows.

Started by regression.py, with the path of callgrind_marks.c's library. The first call of a kernel
is not counted: it grows the working memory. All operands are drawn from seeds and small, as every
instruction takes about fifty times as long here.
"""

import ctypes
import sys
from collections.abc import Callable

import numpy as np

from carsam.runtime import _kernels, native
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import Codebook, CodeGrid, Codes
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights
from carsam.runtime.softmax_grids import RowMaximumCodes, SoftmaxGrid
from carsam.runtime.tables import CodeTable
from carsam.threads import set_threads

GRID = CodeGrid(np.float32(0.3), 7, 4)
NUMERATORS = np.linspace(0, 255, 16).astype(np.uint8)
SOFTMAX_GRIDS: dict[str, SoftmaxGrid] = {
    "uniform": CodeGrid(np.float32(1 / 60), 0, 4),
    "row maximum": RowMaximumCodes(np.float32(0.9), NUMERATORS),
    "listed values": CodeTable((np.arange(16, dtype=np.float32) / 15) ** 3, 4),
}

Work = Callable[[], object]


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])
    set_threads(1)
    work = {**linear_layers(), **attentions(), **passes()}
    sets = [(name, _kernels.use_set) for name in _kernels.usable_sets()]
    for name, use in sets:
        use(name)
        for run in work.values():
            run()
    marks.begin()
    for name, use in sets:
        use(name)
        for kernel, run in work.items():
            marks.reset()
            run()
            marks.dump(f"{name}/{kernel}".encode())


def linear_layers() -> dict[str, Work]:
    """Return layers of many rows, as in an encoder, and of few, as in a decoder."""
    book = Codebook(np.float32(0.3), 60, 7, np.arange(4, 128, 8, np.uint8))
    cases: dict[str, tuple[int, int, str | None, CodeGrid | None]] = {
        "linear w4a4, GELU, codes": (4, 192, "gelu", GRID),
        "linear w4a4, codebook": (4, 192, None, book),
        "linear w8a8, float": (8, 192, None, None),
        "linear w4a4, few rows": (4, 8, None, None),
    }

    def layer(bits: int, rows: int, activation: str | None, output: CodeGrid | None) -> Work:
        tensor = codes(0, rows, 384, bits)
        weight = PackedMatrix.from_codes(
            codes(1, 384, 384, bits).array,
            bits,
            np.full(384, 0.02, np.float32),
            np.full(384, 1 << (bits - 1), np.uint8),
        )
        bias = floats(2, 384)
        return lambda: native.linear(tensor, weight, bias, activation, None, output)

    tensor, residual, positions = codes(3, 192, 128, 4), floats(4, 192, 256), floats(5, 192, 256)
    weight = PackedMatrix.from_codes(
        codes(6, 256, 128, 4).array, 4, np.full(256, 0.02, np.float32), np.full(256, 8, np.uint8)
    )
    norm = floats(7, 256), floats(8, 256), 1e-6
    targets = [(GRID, positions, False), (GRID, None, False)]
    return {
        **{name: layer(*case) for name, case in cases.items()},
        "linear, norm, codes": lambda: native.linear_norm_on_grids(
            tensor, weight, None, residual, norm, targets
        ),
    }


def attentions() -> dict[str, Work]:
    """Return attention in windows, and over the whole image with every grid of probabilities."""
    side, width = 14, 64
    # The last row is what windows are padded with.
    query, key, value = (codes(seed, side * side + 1, width, 4) for seed in range(3))
    whole = TokenMap.of_groups(1, (1, side * side), (1, side * side))

    def attention(tokens: TokenMap, grid: SoftmaxGrid, window: int) -> Work:
        tables = floats(3, 2, 2 * window - 1, width // 2).astype(np.float16)
        relative = RelativePositions.from_tables(*tables)
        return lambda: native.attention(
            query, key, value, tokens, 2, 0.2, grid, relative, CodeGrid(np.float32(0.1), 7, 4)
        )

    few = TokenMap.of_groups(1, (1, side * side), (1, 7))

    def attention_to_few(grid: SoftmaxGrid) -> Work:
        return lambda: native.attention(query, key, value, few, 2, 0.2, grid, None, GRID)

    windows = attention(TokenMap.of_windows(side, 5), SOFTMAX_GRIDS["uniform"], 5)
    found = {f"attention, {name}": attention(whole, g, side) for name, g in SOFTMAX_GRIDS.items()}
    to_few = {
        f"attention to few keys, {name}": attention_to_few(SOFTMAX_GRIDS[name])
        for name in ("uniform", "row maximum")
    }
    return {"attention in windows": windows, **found, **to_few}


def passes() -> dict[str, Work]:
    """Return what goes over numbers once, and products of floats."""
    values, addend = floats(0, 256, 384), floats(1, 256, 384)
    weight, bias = floats(2, 384), floats(3, 384)
    patches, projection = floats(4, 64, 192), floats(5, 96, 192).astype(np.float64)
    table = SOFTMAX_GRIDS["listed values"]
    assert isinstance(table, CodeTable)
    rows = np.random.default_rng(6).integers(0, 256, (512, 2))
    shares = floats(7, 512, 2)
    upscaling = UpscalingWeights(
        *(floats(8, 256, 128), floats(9, 256), floats(10, 64), floats(11, 64), 1e-6),
        *(floats(12, 128, 64), floats(13, 128)),
    )
    image, masks = floats(14, 1, 64, 128), floats(15, 1, 3, 32)
    return {
        "norm, codes": lambda: native.layer_norm(values, weight, bias, 1e-6, None, GRID),
        "rounding": lambda: native.quantize(values, GRID, addend),
        "rounding to listed values": lambda: native.round_to_table(values, table),
        "GELU": lambda: native.activate(values, bias, "gelu"),
        "float product": lambda: native.float_product(patches, projection),
        "mask upscaling": lambda: native.upscaled_masks(image, masks, upscaling),
        "weighted rows": lambda: native.weighted_rows(values, rows, shares),
    }


def codes(seed: int, rows: int, columns: int, bits: int) -> Codes:
    """Return random codes on a grid of so many bits."""
    array = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), np.uint8)
    return Codes(array, CodeGrid(np.float32(0.1), 1 << (bits - 1), bits))


def floats(seed: int, *shape: int) -> np.ndarray:
    """Return normal random numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


if __name__ == "__main__":
    main()
