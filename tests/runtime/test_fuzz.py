"""Kernels on odd shapes, strides, alignments and codes, and on arguments that do not fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.runtime import reference, reference_attention, reference_memory
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights
from carsam.runtime.patches import largest_of_squares
from carsam.runtime.tables import CodeTable

_kernels = pytest.importorskip("carsam.runtime._kernels")
native = pytest.importorskip("carsam.runtime.native")

BITS = st.integers(1, 8)
FILL = st.sampled_from(["random", "lowest", "highest"])
LAYOUT = st.sampled_from(["whole", "columns of a wider one", "every second row", "odd address"])
SEED = st.integers(0, 2**32 - 1)


pytestmark = pytest.mark.usefixtures("instruction_set")


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers, elsewhere in memory."""
    rows, columns = array.shape
    if layout == "columns of a wider one":
        wide = np.full((rows, columns + 5), 7, array.dtype)
        wide[:, 3 : 3 + columns] = array
        return wide[:, 3 : 3 + columns]
    if layout == "every second row":
        tall = np.full((2 * rows, columns), 7, array.dtype)
        tall[::2] = array
        return tall[::2]
    if layout == "odd address":
        size = array.dtype.itemsize
        buffer = np.zeros(array.nbytes + 16, np.uint8)
        start = (-buffer.ctypes.data) % 16 + size  # aligned for one number, not for a register
        moved = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        moved[:] = array
        return moved
    return array


def random_codes(
    random: np.random.Generator, shape: tuple[int, int], bits: int, fill: str, layout: str
) -> Codes:
    grid = CodeGrid(np.float32(random.uniform(0.01, 0.1)), int(random.integers(1 << bits)), bits)
    array = random.integers(0, 1 << bits, shape, dtype=np.uint8)
    array = {"lowest": array * 0, "highest": array * 0 + np.uint8(grid.maximum)}.get(fill, array)
    return Codes(laid_out(array, layout), grid)


def random_values(random: np.random.Generator, shape: tuple[int, int], layout: str) -> np.ndarray:
    size = 10.0 ** random.integers(-3, 6)
    return laid_out((random.normal(size=shape) * size).astype(np.float32), layout)


@given(SEED, BITS, BITS, FILL, FILL, LAYOUT, LAYOUT, st.data())
def test_linear(seed, bits, weight_bits, fill, weight_fill, layout, residual_layout, data) -> None:
    random = np.random.default_rng(seed)
    rows, columns, outputs = (data.draw(st.integers(low, 70)) for low in (0, 1, 0))
    tensor = random_codes(random, (rows, columns), bits, fill, layout)
    weight_codes = random_codes(random, (outputs, columns), weight_bits, weight_fill, "whole").array
    scale = random.uniform(0.01, 0.1, outputs).astype(np.float32)
    zero = random.integers(0, 1 << weight_bits, outputs, dtype=np.uint8)
    weight = PackedMatrix.from_codes(weight_codes, weight_bits, scale, zero)
    bias = random.normal(size=outputs).astype(np.float32) if data.draw(st.booleans()) else None
    activation = data.draw(st.sampled_from([None, "relu", "gelu"]))
    residual = None
    if data.draw(st.booleans()):
        residual = random_values(random, (rows, outputs), residual_layout)
    output = data.draw(st.sampled_from([None, "one", "per column"]))
    grids = [CodeGrid(np.float32(random.uniform(0.1, 1)), 1, b) for b in (4, 8)]
    split = outputs // 3
    output = {
        "one": grids[0],
        "per column": ColumnGrids(((grids[0], split), (grids[1], outputs - split))),
    }.get(output)
    arguments = (tensor, weight, bias, activation, residual, output)
    np.testing.assert_array_equal(native.linear(*arguments), reference.linear(*arguments))


@given(SEED, LAYOUT, st.integers(0, 40), st.integers(1, 70), st.booleans())
def test_rows(seed, layout, rows, columns, to_codes) -> None:
    random = np.random.default_rng(seed)
    values = random_values(random, (rows, columns), layout)
    weight, bias = random.normal(size=(2, columns)).astype(np.float32)
    grid = CodeGrid(np.float32(0.3), int(random.integers(256)), 8)
    for name, arguments in {
        "layer_norm": (values, weight, bias, 1e-6, "gelu", grid if to_codes else None),
        "activate": (values, bias, "gelu", random_values(random, (rows, columns), layout)),
        "quantize": (values, grid),
    }.items():
        found, expected = (getattr(module, name)(*arguments) for module in (native, reference))
        np.testing.assert_array_equal(found, expected, err_msg=name)


@given(SEED, LAYOUT, st.integers(0, 40), st.integers(1, 70), BITS, st.sampled_from([0, 10, 140]))
def test_tables(seed, layout, rows, columns, bits, octaves) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=random.integers(1, (1 << bits) + 1))
    values *= np.exp2(-random.uniform(0, octaves, values.shape))
    table = CodeTable(np.unique(values.astype(np.float32)), bits)
    numbers = random_values(random, (rows, columns), layout)
    borders = np.concatenate([table.middles, [0, -0.0]]).astype(np.float32)
    beside = [np.nextafter(borders, np.float32(end)) for end in (-np.inf, np.inf)]
    borders = np.concatenate([borders, *beside])
    at_border = random.random(numbers.shape) < 0.5
    numbers[at_border] = random.choice(borders, at_border.sum())
    found, expected = (m.round_to_table(numbers, table) for m in (native, reference))
    np.testing.assert_array_equal(found, expected)


@given(
    SEED,
    LAYOUT,
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
)
def test_upscaling(seed, layout, prompts, size, channels, masks, has_levels) -> None:
    random = np.random.default_rng(seed)
    first, second = 16 * random.integers(1, 3, 2)

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    weights = UpscalingWeights(
        draw(4 * first, channels),
        draw(4 * first),
        draw(first),
        draw(first),
        1e-6,
        draw(4 * second, first),
        draw(4 * second),
    )
    flat = laid_out(draw(prompts * size * size, channels), layout)
    image = flat.reshape(prompts, size * size, channels)
    kernels = draw(prompts, masks, second)
    fine = None
    if has_levels:
        finer = laid_out(draw(4 * size * size, first), layout)
        finest = draw(4 * size, 4 * size, second)
        fine = finer.reshape(2 * size, 2 * size, first), finest
    found = native.upscaled_masks(image, kernels, weights, fine)
    assert found.shape == (prompts, masks, 4 * size, 4 * size)
    if prompts and size:
        expected = reference.upscaled_masks(image, kernels, weights, fine)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@given(SEED, st.tuples(BITS, BITS, BITS, BITS), FILL, LAYOUT, st.data())
def test_attention(seed, bits, fill, layout, data) -> None:
    random = np.random.default_rng(seed)
    groups, heads = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    queries, keys, head_dim = (data.draw(st.integers(low, 40)) for low in (0, 1, 1))
    width = heads * head_dim
    query = random_codes(random, (groups * queries, width), bits[0], fill, layout)
    key = random_codes(random, (keys, width), bits[1], "random", layout)
    value = random_codes(random, (keys, width), bits[2], fill, "whole")
    tokens = TokenMap.of_groups(groups, (groups, queries), (1, keys))
    probabilities = CodeGrid(np.float32(0.02), int(random.integers(1 << bits[3])), bits[3])
    output = CodeGrid(np.float32(0.05), 5, 4) if data.draw(st.booleans()) else None
    arguments = (query, key, value, tokens, heads, 0.3, probabilities, None, output)
    np.testing.assert_array_equal(
        native.attention(*arguments), reference_attention.attention(*arguments)
    )


@given(SEED, st.integers(1, 12), st.integers(1, 17), st.integers(1, 33))
def test_windows_with_relative_positions(seed, size, window, head_dim) -> None:
    random = np.random.default_rng(seed)
    operands = [
        random_codes(random, (size * size + 1, 2 * head_dim), 4, "random", "whole")
        for _ in range(3)
    ]
    tables = random.normal(size=(2, 2 * window - 1, head_dim)).astype(np.float16)
    relative, tokens = RelativePositions.from_tables(*tables), TokenMap.of_windows(size, window)
    arguments = (*operands, tokens, 2, 0.3, CodeGrid(np.float32(0.05), 1, 4), relative, None)
    np.testing.assert_array_equal(
        native.attention(*arguments), reference_attention.attention(*arguments)
    )


@given(SEED, st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 33), BITS)
def test_windows_with_pooled_queries(seed, height, width, window, head_dim, bits) -> None:
    random, size = np.random.default_rng(seed), (2 * height, 2 * width)
    tokens = TokenMap.of_pooled_windows(size, 2 * window, 2)
    joint = random_codes(random, (size[0] * size[1] + 1, 6 * head_dim), bits, "random", "whole")
    query, key, value = (
        Codes(joint.array[:, start : start + 2 * head_dim], joint.grid)
        for start in range(0, 6 * head_dim, 2 * head_dim)
    )
    pooled = Codes(largest_of_squares(query.array[:-1], size[1], 2), joint.grid)
    arguments = (pooled, key, value, tokens, 2, 0.3, CodeGrid(np.float32(0.05), 1, bits))
    np.testing.assert_array_equal(
        native.attention(*arguments), reference_attention.attention(*arguments)
    )


@given(SEED, st.integers(1, 7), BITS, st.sampled_from(["query", "key", "value"]), st.data())
def test_codes_above_their_grid_harm_no_memory(seed, bits, other_bits, wrong, data) -> None:
    random = np.random.default_rng(seed)
    rows, columns, outputs = (data.draw(st.integers(1, 40)) for _ in range(3))
    weight_codes = random_codes(random, (outputs, columns), other_bits, "random", "whole").array
    scale, zero = np.ones(outputs, np.float32), np.zeros(outputs, np.uint8)
    weight = PackedMatrix.from_codes(weight_codes, other_bits, scale, zero)
    output = CodeGrid(np.float32(0.3), 1, 4)
    codes = random_codes(random, (rows, columns), 8, "random", "whole").array
    codes[-1, -1] = 255
    tensor = Codes(codes, CodeGrid(np.float32(0.1), 1, bits))
    operands = {
        name: random_codes(random, (rows, columns), other_bits, "random", "whole")
        for name in ("query", "key", "value")
    }
    operands[wrong] = tensor
    tokens = TokenMap.of_groups(1, (1, rows), (1, rows))
    grids = (CodeGrid(np.float32(0.02), 0, other_bits), None, output)
    for work in (
        lambda: native.linear(tensor, weight, output=output),
        lambda: native.attention(*operands.values(), tokens, 1, 0.3, *grids),
    ):
        if _kernels.checks_codes:
            with pytest.raises(ValueError, match="codes up to the highest of their grid"):
                work()
        else:
            assert work().max() <= output.maximum


@given(SEED, LAYOUT, st.integers(0, 40), st.integers(1, 70), st.integers(0, 5))
def test_weighted_rows(seed, layout, rows, columns, taps) -> None:
    random = np.random.default_rng(seed)
    values = random_values(random, (30, columns), layout)
    sources = random.integers(0, 30, (rows, taps), dtype=np.int32)
    weights = random_values(random, (rows, taps), "whole")
    found, expected = (m.weighted_rows(values, sources, weights) for m in (native, reference))
    np.testing.assert_array_equal(found, expected)


@given(SEED, LAYOUT, st.integers(0, 40), st.integers(1, 3), st.integers(1, 40), st.integers(1, 50))
def test_rotate(seed, layout, rows, heads, pairs, places) -> None:
    random = np.random.default_rng(seed)
    values = random_values(random, (rows, heads * 2 * pairs), layout)
    cells = random.integers(-1, places, rows, dtype=np.int32)
    cosines, sines = random.normal(size=(2, places, pairs)).astype(np.float32)
    expected = reference_memory.rotate(values, cells, cosines, sines)
    np.testing.assert_array_equal(native.rotate(values, cells, cosines, sines), expected)
    for module in (native, reference_memory):
        place = np.ascontiguousarray(values).copy()
        assert module.rotate(place, cells, cosines, sines, into=place) is place
        np.testing.assert_array_equal(place, expected)


@given(SEED, BITS, BITS, FILL, FILL, LAYOUT, st.sampled_from([1, 3, 7, 15]), st.data())
def test_depthwise(seed, bits, weight_bits, fill, weight_fill, layout, side, data) -> None:
    random = np.random.default_rng(seed)
    height, width, channels = (data.draw(st.integers(1, most)) for most in (12, 12, 140))
    flat = random_codes(random, (height * width, channels), bits, fill, layout)
    tensor = Codes(flat.array.reshape(height, width, channels), flat.grid)
    shape = channels, side * side
    weight_codes = random_codes(random, shape, weight_bits, weight_fill, "whole").array
    scale = random.uniform(0.01, 0.1, channels).astype(np.float32)
    zero = random.integers(0, 1 << weight_bits, channels, dtype=np.uint8)
    weight = PackedMatrix.from_codes(weight_codes, weight_bits, scale, zero)
    bias = random.normal(size=channels).astype(np.float32) if data.draw(st.booleans()) else None
    found, expected = (m.depthwise(tensor, weight, bias) for m in (native, reference_memory))
    np.testing.assert_array_equal(found, expected)


GRID = (0.1, 10.0, 3, 15)
NUMERATORS_GRID = (1.0, 255.0, 0, 255)


def zeros(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.zeros(shape, dtype)


SOUND: dict[str, dict[str, Any]] = {
    "linear": {
        "codes": zeros(5, 20, dtype="u1"),
        "grid": GRID,
        "packed": zeros(18, 10, dtype="u1"),
        "bits": 4,
        "scale": zeros(32),
        "weight_zero": zeros(32, dtype="i4"),
        "bias": zeros(32),
        "activation": 0,
        "residual": zeros(5, 18),
        "values": zeros(5, 18),
        "output": None,
        "output_inverse_scale": None,
        "output_zero": None,
        "output_maximum": None,
        "norm": (zeros(18), zeros(18), 1e-6, [(None, False, GRID, None, zeros(5, 18, dtype="u1"))]),
    },
    "layer_norm": {
        "values": zeros(4, 20),
        "weight": zeros(20),
        "bias": zeros(20),
        "epsilon": 1e-6,
        "activation": 2,
        "result": None,
        "output": zeros(4, 20, dtype="u1"),
        "grid": GRID,
    },
    "norm_on_grids": {
        "values": zeros(4, 20),
        "weight": zeros(20),
        "bias": zeros(20),
        "epsilon": 1e-6,
        "result": zeros(4, 20),
        "outputs": [(zeros(2, 20), True, GRID, zeros(256, dtype="u1"), zeros(4, 20, dtype="u1"))],
    },
    "float_product": {
        "values": zeros(4, 20),
        "weight": zeros(7, 20),
        "result": zeros(4, 7),
    },
    "activate": {
        "values": zeros(4, 20),
        "bias": zeros(20),
        "activation": 1,
        "residual": zeros(4, 20),
        "result": zeros(4, 20),
    },
    "quantize": {
        "values": zeros(4, 20),
        "addend": zeros(2, 20),
        "undone": True,
        "grid": GRID,
        "inverse_scale": None,
        "zero": None,
        "maximum": None,
        "output": zeros(4, 20, dtype="u1"),
    },
    "look_up": {
        "codes": zeros(4, 20, dtype="u1"),
        "table": zeros(256, dtype="u1"),
    },
    "round_to_table": {
        "numbers": zeros(4, 20),
        "table": (zeros(16), zeros(15), 4),
        "result": zeros(4, 20),
    },
    "weighted_rows": {
        "values": zeros(6, 20),
        "rows": zeros(4, 3, dtype="i4"),
        "weights": zeros(4, 3),
        "result": zeros(4, 20),
    },
    "rotate": {
        "values": zeros(4, 20),
        "cells": zeros(4, dtype="i4"),
        "cosines": zeros(6, 5),
        "sines": zeros(6, 5),
        "result": zeros(4, 20),
    },
    "depthwise": {
        "codes": zeros(4, 5, 20, dtype="u1"),
        "zero_point": 3,
        "weights": zeros(9, 20, dtype="i4"),
        "scale": zeros(20),
        "bias": zeros(20),
        "result": zeros(4, 5, 20),
    },
    "upscale": {
        "image": zeros(2, 9, 20),
        "size": 3,
        "panels1": zeros(4, 20, 16),
        "bias1": zeros(64),
        "norm_weight": zeros(16),
        "norm_bias": zeros(16),
        "epsilon": 1e-6,
        "panels2": zeros(4, 16, 16),
        "bias2": zeros(64),
        "kernels": zeros(2, 3, 16),
        "finer": zeros(6, 6, 16),
        "finest": zeros(12, 12, 16),
        "result": zeros(2, 3, 12, 12),
    },
    "attention": {
        "query": zeros(9, 20, dtype="u1"),
        "key": zeros(9, 20, dtype="u1"),
        "value": zeros(9, 20, dtype="u1"),
        "grids": (GRID, GRID, NUMERATORS_GRID, GRID),
        "query_rows": zeros(1, 9, dtype="i4"),
        "key_rows": zeros(1, 9, dtype="i4"),
        "output_rows": zeros(1, 9, dtype="i4"),
        "heads": 2,
        "scales": (1.0, 1.0, 1.0),
        "numerators": zeros(256, dtype="u1"),
        "table": None,
        "relative_rows": zeros(10, 18),
        "relative_columns": zeros(10, 18),
        "lines": 3,
        "values": zeros(9, 20),
        "output": None,
        "output_grid": None,
    },
}


@pytest.mark.parametrize("name", SOUND)
def test_the_arguments_below_are_sound_but_for_one(name) -> None:
    getattr(_kernels, name)(**SOUND[name])


WRONG_ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "a row less": lambda array: array[:-1].copy(),
    "an element more per row": lambda array: np.zeros((*array.shape[:-1], array.shape[-1] + 1)),
    "wider numbers": lambda array: array.astype("f8" if array.dtype.kind == "f" else "i8"),
    "a dimension more": lambda array: array[None],
    "a list": lambda array: array.tolist(),
    "backwards": lambda array: array[..., ::-1],
    "nothing": lambda array: array[:0],
}
FITTING = {
    ("look_up", "codes", "a row less"),  # it is the result
    ("look_up", "codes", "nothing"),
    ("attention", "query", "a row less"),  # all rows that are asked for are there
    ("attention", "values", "a row less"),
    ("weighted_rows", "values", "a row less"),
    ("quantize", "addend", "a row less"),  # one row is added to all
    ("float_product", "weight", "wider numbers"),  # the sum is in the type of the weight
}
"""Damages that leave an argument that fits."""

WRONG = [
    (name, argument, damage)
    for name, arguments in SOUND.items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray)
    for damage in WRONG_ARRAYS
    if (name, argument, damage) not in FITTING
]


@pytest.mark.parametrize(("name", "argument", "damage"), WRONG)
def test_an_array_that_does_not_fit_is_refused(name, argument, damage) -> None:
    wrong = {**SOUND[name], argument: WRONG_ARRAYS[damage](SOUND[name][argument])}
    with pytest.raises((TypeError, ValueError)):
        getattr(_kernels, name)(**wrong)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("linear", "bits", 0),
        ("linear", "bits", 9),
        ("linear", "activation", 3),
        ("linear", "activation", -1),
        ("linear", "grid", (0.1, 10.0, 3)),
        ("linear", "grid", (0.1, 10.0, 3, 256)),
        ("linear", "grid", (0.1, 10.0, 0, 0)),
        ("linear", "grid", (0.1, 10.0, 3, 10)),
        ("linear", "grid", (0.1, 10.0, 16, 15)),
        ("linear", "grid", (0.1, 10.0, -1, 15)),
        ("linear", "weight_zero", np.full(32, 8, "i4")),
        ("linear", "weight_zero", np.full(32, -9, "i4")),
        ("linear", "grid", ("a", 10.0, 3, 15)),
        ("linear", "values", None),
        ("linear", "norm", (zeros(18), zeros(18), 1e-6)),
        ("linear", "norm", (zeros(18), zeros(17), 1e-6, [])),
        ("linear", "norm", (zeros(18), zeros(18), "a", [])),
        ("linear", "norm", (zeros(18), zeros(18), 1e-6, [None])),
        ("linear", "norm", (zeros(18), zeros(18), 1e-6, [(None, False, GRID, None, zeros(5, 18))])),
        ("linear", "output", zeros(5, 18, dtype="u1")),
        ("layer_norm", "grid", None),
        ("norm_on_grids", "outputs", [(zeros(3, 20), False, GRID, None, zeros(4, 20, dtype="u1"))]),
        ("norm_on_grids", "outputs", [(None, False, None, None, zeros(4, 20, dtype="u1"))]),
        ("norm_on_grids", "outputs", [(None, False, GRID, zeros(9), zeros(4, 20, dtype="u1"))]),
        ("norm_on_grids", "outputs", [(None, False, GRID, None, zeros(4, 19, dtype="u1"))]),
        ("norm_on_grids", "outputs", [(None, False, GRID, None, zeros(4, 20))]),
        ("norm_on_grids", "outputs", [(None, False, GRID, None)]),
        ("quantize", "grid", None),
        ("round_to_table", "table", (zeros(16), zeros(15), 5)),
        ("round_to_table", "table", (zeros(16), zeros(14), 4)),
        ("round_to_table", "table", (zeros(16), zeros(15), 9)),
        ("round_to_table", "table", None),
        ("weighted_rows", "rows", np.full((4, 3), 6, "i4")),
        ("weighted_rows", "rows", np.full((4, 3), -1, "i4")),
        ("rotate", "cells", np.full(4, 6, "i4")),
        ("rotate", "cells", np.full(4, -2, "i4")),
        ("depthwise", "zero_point", 256),
        ("depthwise", "zero_point", -1),
        ("depthwise", "weights", np.full((9, 20), 256, "i4")),
        ("depthwise", "weights", np.full((9, 20), -256, "i4")),
        ("depthwise", "weights", zeros(4, 20, dtype="i4")),
        ("depthwise", "weights", zeros(289, 20, dtype="i4")),
        ("upscale", "size", 4),
        ("upscale", "finer", None),
        ("upscale", "finest", None),
        ("upscale", "size", -1),
        ("upscale", "norm_weight", zeros(0)),
        ("attention", "heads", 0),
        ("attention", "heads", 3),
        ("attention", "heads", -1),
        ("attention", "lines", 0),
        ("attention", "lines", 9),
        ("attention", "relative_rows", None),
        ("attention", "query_rows", np.full((1, 9), 9, "i4")),
        ("attention", "key_rows", np.full((1, 9), -1, "i4")),
        ("attention", "output_rows", np.full((1, 9), 9, "i4")),
        ("attention", "output_rows", np.full((1, 9), -1, "i4")),
        ("attention", "grids", (GRID, GRID)),
        ("attention", "grids", (GRID, GRID, GRID, GRID)),
        ("attention", "grids", (GRID, GRID, (1.0, 255.0, 1, 255), GRID)),
        ("attention", "table", (zeros(3), zeros(2), 2)),
        ("attention", "numerators", np.full(256, 1, "u1")),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(name, argument, value) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        getattr(_kernels, name)(**{**SOUND[name], argument: value})
