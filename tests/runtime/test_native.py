"""The C++ operators against the numpy reference, bit by bit, on every usable instruction set."""

import threading
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.runtime import reference, reference_attention
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights, integer_product
from carsam.runtime.softmax_grids import RowMaximumCodes
from carsam.runtime.tables import CodeTable

_kernels = pytest.importorskip("carsam.runtime._kernels")
native = pytest.importorskip("carsam.runtime.native")


pytestmark = pytest.mark.usefixtures("instruction_set")


def codes(random: np.random.Generator, rows: int, columns: int, bits: int, extreme: str) -> Codes:
    grid = CodeGrid(np.float32(random.uniform(0.01, 0.1)), int(random.integers(1 << bits)), bits)
    array = random.integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    return Codes({"zero": array * 0, "full": array | grid.maximum}.get(extreme, array), grid)


def matrix(
    random: np.random.Generator, rows: int, columns: int, bits: int, extreme: str = ""
) -> PackedMatrix:
    scale = random.uniform(0.01, 0.1, rows).astype(np.float32)
    zero = random.integers(0, 1 << bits, rows, dtype=np.uint8)
    return PackedMatrix.from_codes(
        codes(random, rows, columns, bits, extreme).array, bits, scale, zero
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    code_bits=st.integers(1, 8),
    weight_bits=st.integers(1, 8),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40)),
    extremes=st.tuples(
        st.sampled_from(["", "zero", "full"]), st.sampled_from(["", "zero", "full"])
    ),
)
def test_linear_equals_the_reference(seed, code_bits, weight_bits, shape, extremes) -> None:
    random = np.random.default_rng(seed)
    rows, columns, outputs = shape
    tensor = codes(random, rows, columns, code_bits, extremes[0])
    weight = matrix(random, outputs, columns, weight_bits, extremes[1])
    np.testing.assert_array_equal(native.linear(tensor, weight), reference.linear(tensor, weight))


@pytest.mark.parametrize("columns", [768, 3072, 5121])
@pytest.mark.parametrize("bits", [(4, 4), (4, 8), (8, 4), (6, 6), (7, 8), (8, 7), (8, 8)])
@pytest.mark.parametrize("extreme", ["zero", "full"])
def test_linear_does_not_saturate(columns, bits, extreme) -> None:
    random = np.random.default_rng(0)
    tensor = codes(random, 7, columns, bits[0], "full")
    weight = matrix(random, 17, columns, bits[1], extreme)
    np.testing.assert_array_equal(native.linear(tensor, weight), reference.linear(tensor, weight))


@pytest.mark.parametrize("rows", [1, 97, 200])
@pytest.mark.parametrize("columns", [64, 1601])
def test_linear_epilogues_equal_the_reference(rows, columns, monkeypatch) -> None:
    random = np.random.default_rng(rows)
    tensor, weight = codes(random, rows, columns, 4, ""), matrix(random, 45, columns, 4)
    # All are behind the same product, which an emulated processor takes seconds for.
    total = integer_product(tensor.array, weight.signed_codes())
    monkeypatch.setattr(reference, "integer_product", lambda *_: total.copy())
    bias = random.normal(size=45).astype(np.float32)
    period = rows // 2 if rows % 2 == 0 else rows
    residual = random.normal(size=(period, 45)).astype(np.float32)
    parts = tuple(
        (CodeGrid(np.float32(random.uniform(0.1, 1)), int(random.integers(1 << bits)), bits), 15)
        for bits in (4, 8, 2)
    )
    for activation, added, output in product(
        (None, "relu", "gelu"), (None, residual), (None, parts[0][0], ColumnGrids(parts))
    ):
        arguments = (tensor, weight, bias, activation, added, output)
        np.testing.assert_array_equal(native.linear(*arguments), reference.linear(*arguments))


@pytest.mark.parametrize("rows", [5, 200])
def test_linear_puts_its_result_into_the_residual_or_a_part_of_an_array(rows) -> None:
    random = np.random.default_rng(rows)
    tensor, weight = codes(random, rows, 64, 4, ""), matrix(random, 45, 64, 4)
    residual = random.normal(size=(rows, 45)).astype(np.float32)
    whole = np.zeros((rows + 1, 45), np.uint8)
    grid = CodeGrid(np.float32(0.5), 7, 4)
    for engine in (reference, native):
        expected = reference.linear(tensor, weight, residual=residual)
        place = residual.copy()
        assert engine.linear(tensor, weight, residual=place, into=place) is place
        np.testing.assert_array_equal(place, expected)
        engine.linear(tensor, weight, output=grid, into=whole[1:])
        np.testing.assert_array_equal(whole[1:], reference.linear(tensor, weight, output=grid))
        assert not whole[0].any()


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9), columns=st.integers(1, 70))
def test_layer_norm_equals_the_reference(seed, rows, columns) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(3, 2, (rows, columns)).astype(np.float32)
    weight, bias = random.normal(size=(2, columns)).astype(np.float32)
    for output in (None, CodeGrid(np.float32(0.3), 7, 4)):
        activation = [None, "relu", "gelu"][seed % 3]
        arguments = (values, weight, bias, 1e-6, activation, output)
        np.testing.assert_array_equal(
            native.layer_norm(*arguments), reference.layer_norm(*arguments)
        )


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9), columns=st.integers(1, 70))
def test_quantize_equals_the_reference(seed, rows, columns) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(0, 2, (rows, columns)) * 10.0 ** random.integers(-3, 9)).astype("f4")
    grid = CodeGrid(np.float32(0.3), 7, 4)
    np.testing.assert_array_equal(native.quantize(values, grid), reference.quantize(values, grid))
    values, addend = np.tile(values, (3, 1)), values / 2
    for undone in (False, True):
        np.testing.assert_array_equal(
            native.quantize(values, grid, addend, undone),
            reference.quantize(values, grid, addend, undone),
        )


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 70)),
    bits=st.integers(1, 8),
)
def test_round_to_table_equals_the_reference(seed, shape, bits) -> None:
    random = np.random.default_rng(seed)
    grid = table(random, bits)
    numbers = random.normal(0, 1, shape).astype(np.float32)
    numbers.flat[: len(grid.middles)] = grid.middles[: numbers.size]  # halfway between two
    np.testing.assert_array_equal(
        native.round_to_table(numbers, grid), reference.round_to_table(numbers, grid)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 200),
    depth=st.integers(0, 70),
    columns=st.integers(0, 300),
)
def test_float_product_multiplies_integers_exactly(seed, dtype, rows, depth, columns) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-99, 99, (rows, depth)).astype(np.float32)
    weight = random.integers(-99, 99, (columns, depth)).astype(dtype)
    found = native.float_product(values, weight)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.int64) @ weight.T.astype(np.int64))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-7)])
def test_float_product_sums_in_the_type_of_the_weight(dtype, tolerance) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(50, 1000)).astype(np.float32)
    weight = random.normal(size=(40, 1000)).astype(np.float32)
    exact = values.astype(np.float64) @ weight.T.astype(np.float64)
    found = native.float_product(values, weight.astype(dtype))
    np.testing.assert_allclose(found, exact, rtol=6e-8, atol=tolerance)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9), columns=st.integers(1, 70))
def test_activate_equals_the_reference(seed, rows, columns) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(0, 2, (rows, columns)).astype(np.float32)
    bias = random.normal(size=columns).astype(np.float32)
    residual = random.normal(size=(1, columns)).astype(np.float32)
    for arguments in product((bias, None), (None, "relu", "gelu"), (residual, None)):
        expected = reference.activate(values, *arguments)
        np.testing.assert_array_equal(native.activate(values, *arguments), expected)
        overwritten = values.copy()
        found = native.activate(overwritten, *arguments, into=overwritten)
        assert found is overwritten
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [(4, 4, 4, 4), (8, 8, 8, 8), (8, 4, 8, 4), (2, 3, 5, 7)])
@pytest.mark.parametrize(
    "extremes", [("", "", ""), ("full", "full", "full"), ("zero", "full", "zero")]
)
@pytest.mark.parametrize("shape", [(1, 9, 7, 16), (3, 14, 5, 32), (2, 1, 100, 6), (1, 40, 16, 17)])
@pytest.mark.parametrize("to_codes", [False, True])
def test_attention_equals_the_reference(bits, extremes, shape, to_codes) -> None:
    random = np.random.default_rng(0)
    groups, queries, keys, head_dim = shape
    query = codes(random, groups * queries, 2 * head_dim, bits[0], extremes[0])
    key = codes(random, keys, 2 * head_dim, bits[1], extremes[1])
    value = codes(random, keys, 2 * head_dim, bits[3], extremes[2])
    tokens = TokenMap.of_groups(groups, (groups, queries), (1, keys))
    probabilities = CodeGrid(np.float32(0.02), int(random.integers(3)), bits[2])
    output = CodeGrid(np.float32(0.05), 5, 4) if to_codes else None
    arguments = (query, key, value, tokens, 2, 0.3, probabilities, None, output)
    np.testing.assert_array_equal(
        native.attention(*arguments), reference_attention.attention(*arguments)
    )


@pytest.mark.parametrize("keys, head_dim", [(1, 16), (2, 6), (7, 16), (9, 20), (16, 17)])
@pytest.mark.parametrize("bits", [(4, 4, 4, 4), (8, 8, 8, 8), (8, 3, 5, 7)])
def test_attention_of_many_queries_to_few_keys_equals_the_reference(keys, head_dim, bits) -> None:
    random = np.random.default_rng(keys)
    query = codes(random, 150, 2 * head_dim, bits[0], "")
    key, value = (codes(random, 2 * keys, 2 * head_dim, each, "") for each in (bits[1], bits[3]))
    given = TokenMap.of_groups(2, (2, 75), (2, keys))
    query_rows = given.query_rows.copy()
    query_rows[0, ::5] = -1
    tokens = replace(given, query_rows=query_rows)
    uniform = CodeGrid(np.float32(0.02), 2, bits[2])
    for probabilities in (uniform, row_maximum(random, bits[2])):
        for output in (None, CodeGrid(np.float32(0.05), 5, 4)):
            arguments = (query, key, value, tokens, 2, 0.3, probabilities, None, output)
            found, expected = (
                module.attention(*arguments)[tokens.query_rows.ravel() >= 0]
                for module in (native, reference_attention)
            )
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("keys", [200, 270])  # on AMX, equal chunks of keys, and a shorter last one
@pytest.mark.parametrize("scale, zero", [(4.0, 0), (4.0, 3), (0.3, 0), (0.1, 0)])
def test_attention_with_rare_probabilities_equals_the_reference(scale, zero, keys) -> None:
    random = np.random.default_rng(0)
    query, key, value = (codes(random, rows, 32, 4, "") for rows in (30, keys, keys))
    arguments = (query, key, value, TokenMap.of_groups(1, (1, 30), (1, keys)), 2, 0.3)
    probabilities = CodeGrid(np.float32(scale), zero, 4)
    np.testing.assert_array_equal(
        native.attention(*arguments, probabilities),
        reference_attention.attention(*arguments, probabilities),
    )


@pytest.mark.parametrize("place", [0, 63, 64, 191, 255, 256, 269])
def test_attention_to_a_single_key_finds_its_value(place) -> None:
    random = np.random.default_rng(place)
    grid = CodeGrid(np.float32(0.1), 0, 4)
    query = Codes(np.full((33, 32), grid.maximum, np.uint8), grid)
    key = Codes(np.zeros((270, 32), np.uint8), grid)
    key.array[place] = grid.maximum
    value = Codes(codes(random, 270, 32, 4, "").array, grid)
    tokens = TokenMap.of_groups(1, (1, 33), (1, 270))
    probabilities = CodeGrid(np.float32(1 / 15), 0, 4)
    found = native.attention(query, key, value, tokens, 2, 1.0, probabilities)
    expected = np.broadcast_to(value.array[place] * grid.scale, found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def row_maximum(random: np.random.Generator, bits: int) -> RowMaximumCodes:
    numerators = np.sort(random.integers(0, 256, 1 << bits)).astype(np.uint8)
    numerators[[0, -1]] = 0, 255
    return RowMaximumCodes(np.float32(random.uniform(0.5, 1)), numerators)


def table(random: np.random.Generator, bits: int) -> CodeTable:
    """Values from 0 to 1, denser towards 0, with or without 0, at most one per code."""
    values = np.sort(random.uniform(0, 1, random.integers(1, (1 << bits) + 1))) ** 3
    values[0] = random.choice([0, values[0]])
    return CodeTable(values.astype(np.float32), bits)


@pytest.mark.parametrize("make_grid", [row_maximum, table])
@pytest.mark.parametrize("bits", [(4, 4, 4, 4), (8, 8, 8, 8), (6, 4, 2, 3)])
@pytest.mark.parametrize(
    "extremes", [("", "", ""), ("full", "full", "full"), ("zero", "full", "zero")]
)
@pytest.mark.parametrize(
    "shape", [(1, 9, 7, 16), (3, 14, 5, 32), (2, 1, 100, 6), (1, 7, 1000, 17), (1, 1, 1, 3)]
)
@pytest.mark.parametrize("to_codes", [False, True])
def test_attention_with_other_softmax_grids_equals_the_reference(
    make_grid, bits, extremes, shape, to_codes
) -> None:
    random = np.random.default_rng(0)
    groups, queries, keys, head_dim = shape
    query = codes(random, groups * queries, 2 * head_dim, bits[0], extremes[0])
    key = codes(random, keys, 2 * head_dim, bits[1], extremes[1])
    value = codes(random, keys, 2 * head_dim, bits[3], extremes[2])
    tokens = TokenMap.of_groups(groups, (groups, queries), (1, keys))
    output = CodeGrid(np.float32(0.05), 5, 4) if to_codes else None
    probabilities = make_grid(random, bits[2])
    arguments = (query, key, value, tokens, 2, 0.3, probabilities, None, output)
    np.testing.assert_array_equal(
        native.attention(*arguments), reference_attention.attention(*arguments)
    )


@pytest.mark.parametrize("scaling", [300.0, -300.0])
@pytest.mark.parametrize("queries, keys", [(15, 50), (50, 15)])
def test_logits_beyond_16_bits_are_held(scaling, queries, keys) -> None:
    random = np.random.default_rng(0)
    query, key, value = (codes(random, rows, 32, 4, "") for rows in (queries, keys, keys))
    tokens = TokenMap.of_groups(1, (1, queries), (1, keys))
    arguments = (query, key, value, tokens, 2, scaling)
    probabilities = row_maximum(random, 4)
    np.testing.assert_array_equal(
        native.attention(*arguments, probabilities),
        reference_attention.attention(*arguments, probabilities),
    )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("make_grid", [None, row_maximum, table])
def test_attention_to_1024_keys_whose_rows_are_kept_apart_equals_the_reference(
    make_grid, bits
) -> None:
    random = np.random.default_rng(0)
    query, key, value = (codes(random, rows, 32, bits, "") for rows in (15, 1024, 1024))
    probabilities = make_grid(random, bits) if make_grid else CodeGrid(np.float32(0.001), 1, bits)
    arguments = (query, key, value, TokenMap.of_groups(1, (1, 15), (1, 1024)), 2, 0.3)
    np.testing.assert_array_equal(
        native.attention(*arguments, probabilities),
        reference_attention.attention(*arguments, probabilities),
    )


@pytest.mark.parametrize("size, window", [(5, 3), (16, 14), (17, 17), (16, 16), (3, 4)])
@pytest.mark.parametrize("bits", [4, 8])
def test_attention_with_relative_positions_equals_the_reference(size, window, bits) -> None:
    random = np.random.default_rng(size)
    joint = codes(random, size * size + 1, 3 * 24, bits, "")
    query, key, value = (Codes(joint.array[:, 24 * i : 24 * i + 24], joint.grid) for i in range(3))
    tables = random.normal(size=(2, 2 * window - 1, 12)).astype(np.float16)
    relative = RelativePositions.from_tables(*tables)
    tokens = TokenMap.of_windows(size, window)
    uniform = CodeGrid(np.float32(0.05), 1, bits)
    for probabilities in (uniform, row_maximum(random, bits), table(random, bits)):
        arguments = (query, key, value, tokens, 2, 0.3, probabilities, relative, None)
        np.testing.assert_array_equal(
            native.attention(*arguments), reference_attention.attention(*arguments)
        )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_results(threads: int) -> None:
    random = np.random.default_rng(0)
    tensor, weight = codes(random, 300, 64, 4, ""), matrix(random, 45, 64, 4)
    before = _kernels.threads()
    _kernels.set_threads(threads)
    found = native.linear(tensor, weight)
    _kernels.set_threads(before)
    np.testing.assert_array_equal(found, reference.linear(tensor, weight))


def test_callers_in_several_threads_do_not_disturb_each_other() -> None:
    random = np.random.default_rng(0)
    jobs = [(codes(random, 300, 64, 4, ""), matrix(random, 45, 64, 4)) for _ in range(4)]
    wrong = []

    def work(tensor: Codes, weight: PackedMatrix) -> None:
        expected = reference.linear(tensor, weight)
        for _ in range(20):
            if not np.array_equal(native.linear(tensor, weight), expected):
                wrong.append(weight)

    workers = [threading.Thread(target=work, args=job) for job in jobs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_another_instruction_set_may_be_chosen_while_others_compute(instruction_set) -> None:
    random = np.random.default_rng(0)
    tensor, weight = codes(random, 300, 64, 4, ""), matrix(random, 45, 64, 4)
    expected, wrong, ends = reference.linear(tensor, weight), [], threading.Event()

    def work() -> None:
        while not ends.is_set():
            if not np.array_equal(native.linear(tensor, weight), expected):
                wrong.append(weight)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        for name in _kernels.usable_sets():
            _kernels.use_set(name)
    ends.set()
    for worker in workers:
        worker.join()
    _kernels.use_set(instruction_set)
    assert not wrong


@pytest.mark.parametrize("size, masks, channels", [(7, 1, (32, 16, 16)), (10, 3, (20, 32, 48))])
def test_upscaled_masks_equal_the_reference_but_for_rounding(size, masks, channels) -> None:
    random = np.random.default_rng(size)
    image_channels, first, second = channels

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float16).astype(np.float32)

    weights = UpscalingWeights(
        *(draw(4 * first, image_channels), draw(4 * first), draw(first), draw(first), 1e-6),
        *(draw(4 * second, first), draw(4 * second)),
    )
    image = random.normal(size=(2, size * size, image_channels)).astype(np.float32)
    mask_kernels = draw(2, masks, second)
    expected = reference.upscaled_masks(image, mask_kernels, weights)
    found = native.upscaled_masks(image, mask_kernels, weights)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
