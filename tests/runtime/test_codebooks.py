"""Codebooks in the native engine: the simulation's entries, on every usable instruction set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.errors import UserError
from carsam.runtime import reference, reference_attention
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grid_readers import READERS
from carsam.runtime.grids import Codebook, CodeGrid, Codes, ColumnGrids
from carsam.runtime.matrices import PackedMatrix

SEED = st.integers(0, 2**32 - 1)
BITS = st.integers(1, 8)


def random_codebook(random: np.random.Generator, bits: int) -> Codebook:
    """With entries that repeat, as where fewer are needed."""
    fine_bits = int(random.integers(bits, 9))
    entries = np.sort(random.integers(0, 1 << fine_bits, 1 << bits)).astype(np.uint8)
    scale, zero = np.float32(random.uniform(0.01, 0.1)), int(random.choice(entries))
    return Codebook(scale, zero, fine_bits, entries)


@given(SEED, BITS)
def test_values_get_the_nearest_entry_halfway_the_lower(seed, bits) -> None:
    grid = random_codebook(np.random.default_rng(seed), bits)
    values = (np.arange(-20, 276, dtype=np.float32) - grid.zero_point) * grid.scale
    entries, fine = np.unique(grid.entries), np.arange(-20, 276).clip(0, 255)
    nearest = np.abs(fine[:, None] - entries.astype(int)).argmin(1)
    np.testing.assert_array_equal(reference.quantize(values[None], grid)[0], entries[nearest])


@given(SEED, st.integers(2, 8))
def test_values_are_those_of_the_simulation(seed, bits) -> None:
    torch = pytest.importorskip("torch")
    from carsam.grids.codebook import CodebookGrid

    random = np.random.default_rng(seed)
    grid = random_codebook(random, bits)
    tensors = {"scale": [grid.scale], "zero_point": [grid.zero_point], "entries": grid.entries}
    simulated = CodebookGrid(*(torch.tensor(tensor) for tensor in tensors.values()), bits)
    read = READERS["codebook"]({"bits": bits}, lambda name: np.asarray(tensors[name]))
    assert isinstance(read, Codebook)
    values = random.normal(0, 5, (3, 100)).astype(np.float32)
    found = Codes(reference.quantize(values, read), read).values()
    np.testing.assert_array_equal(found, simulated(torch.from_numpy(values)).numpy())
    codes = simulated.codes(torch.from_numpy(values))
    np.testing.assert_array_equal(found, simulated.values(codes).numpy())


@pytest.mark.parametrize(
    "zero, entries", [(3, [1, 2, 4, 5]), (2, [1, 4, 2, 5]), (0, []), (2, [1, 2, 4, 8])]
)
def test_other_entries_are_refused(zero, entries) -> None:
    with pytest.raises(UserError, match="A codebook of entries"):
        Codebook(np.float32(1), zero, 3, np.array(entries, np.uint8))


@pytest.mark.usefixtures("instruction_set")
class TestKernels:
    """The C++ operators give the reference's bits."""

    @given(SEED, st.integers(1, 256), st.integers(0, 40), st.integers(1, 300), st.booleans())
    def test_look_up(self, seed, distinct, rows, columns, whole) -> None:
        random, kernels = np.random.default_rng(seed), extension()
        table = random.integers(0, 256, distinct, np.uint8).repeat(256 // distinct + 1)[:256].copy()
        around = random.integers(0, 256, (rows, columns + 5), np.uint8)
        expected = around.copy()
        part = slice(None) if whole else slice(3, 3 + columns)
        expected[:, part] = table[expected[:, part]]
        kernels.look_up(around[:, part], table)
        np.testing.assert_array_equal(around, expected)

    @given(SEED, BITS, st.integers(1, 200), st.integers(1, 70))
    def test_rows(self, seed, bits, rows, columns) -> None:
        random, native = np.random.default_rng(seed), operators()
        values = random.normal(0, 3, (rows, columns)).astype(np.float32)
        weight, bias = random.normal(size=(2, columns)).astype(np.float32)
        grid = random_codebook(random, bits)
        for name, arguments in {
            "layer_norm": (values, weight, bias, 1e-6, "gelu", grid),
            "quantize": (values, grid, bias[None]),
        }.items():
            found, expected = (getattr(m, name)(*arguments) for m in (native, reference))
            np.testing.assert_array_equal(found, expected, err_msg=name)

    @given(SEED, st.integers(1, 200), st.integers(1, 70))
    def test_norm_on_grids(self, seed, rows, columns) -> None:
        random, native = np.random.default_rng(seed), operators()
        values = random.normal(0, 3, (2 * rows, columns)).astype(np.float32)
        weight, bias = random.normal(size=(2, columns)).astype(np.float32)
        positions = random.normal(size=(rows, columns)).astype(np.float32)
        targets = [
            (random_codebook(random, 4), positions, False),
            (CodeGrid(np.float32(0.1), 100, 8), None, False),
            (random_codebook(random, 3), positions, True),
        ]
        for some in (targets, targets[:1], []):
            arguments = (values, weight, bias, 1e-6, some)
            found, codes = native.norm_on_grids(*arguments)
            expected, expected_codes = reference.norm_on_grids(*arguments)
            np.testing.assert_array_equal(found, expected)
            assert len(codes) == len(some)
            for pair in zip(codes, expected_codes, strict=True):
                np.testing.assert_array_equal(*pair)

    @given(SEED, BITS, BITS, st.sampled_from([1, 50, 200]), st.integers(1, 70), st.booleans())
    def test_linear(self, seed, bits, weight_bits, rows, columns, per_column) -> None:
        random, native = np.random.default_rng(seed), operators()
        grid = random_codebook(random, bits)
        tensor = Codes(random.choice(grid.entries, (rows, columns)), grid)
        weight = PackedMatrix.from_codes(
            random.integers(0, 1 << weight_bits, (45, columns), dtype=np.uint8),
            weight_bits,
            random.uniform(0.01, 0.1, 45).astype(np.float32),
            random.integers(0, 1 << weight_bits, 45, dtype=np.uint8),
        )
        output: CodeGrid | ColumnGrids = random_codebook(random, 4)
        if per_column:
            uniform, others = CodeGrid(np.float32(0.1), 7, 4), random_codebook(random, bits)
            output = ColumnGrids(((output, 17), (uniform, 3), (others, 25)))
        arguments = (tensor, weight, None, "gelu", None, output)
        np.testing.assert_array_equal(native.linear(*arguments), reference.linear(*arguments))

    @given(SEED, st.sampled_from([1, 20, 48, 200]), st.integers(1, 70))
    def test_linear_norm_on_grids(self, seed, rows, columns) -> None:
        random, native = np.random.default_rng(seed), operators()
        grid = random_codebook(random, 4)
        tensor = Codes(random.choice(grid.entries, (2 * rows, 37)), grid)
        weight = PackedMatrix.from_codes(
            random.integers(0, 16, (columns, 37), dtype=np.uint8),
            4,
            random.uniform(0.01, 0.1, columns).astype(np.float32),
            random.integers(0, 16, columns, dtype=np.uint8),
        )
        bias, scale, shift = random.normal(size=(3, columns)).astype(np.float32)
        residual, positions = random.normal(size=(2, rows, columns)).astype(np.float32)
        targets = [
            (random_codebook(random, 4), positions, False),
            (CodeGrid(np.float32(0.1), 100, 8), None, False),
            (CodeGrid(np.float32(0.1), 7, 4), positions, True),
        ]
        arguments = (tensor, weight, bias, residual, (scale, shift, 1e-6), targets)
        found, codes = native.linear_norm_on_grids(*arguments)
        expected, expected_codes = reference.linear_norm_on_grids(*arguments)
        np.testing.assert_array_equal(found, expected)
        for pair in zip(codes, expected_codes, strict=True):
            np.testing.assert_array_equal(*pair)

    @given(SEED, BITS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
    def test_attention(self, seed, bits, queries, keys, head_dim) -> None:
        random, native = np.random.default_rng(seed), operators()
        operands = []
        for rows in (queries, keys, keys):
            grid = random_codebook(random, bits)
            operands.append(Codes(random.choice(grid.entries, (rows, 2 * head_dim)), grid))
        tokens = TokenMap.of_groups(1, (1, queries), (1, keys))
        probabilities, output = CodeGrid(np.float32(0.02), 0, bits), random_codebook(random, bits)
        arguments = (*operands, tokens, 2, 0.3, probabilities, None, output)
        np.testing.assert_array_equal(
            native.attention(*arguments), reference_attention.attention(*arguments)
        )


def extension():
    return pytest.importorskip("carsam.runtime._kernels")


def operators():
    return pytest.importorskip("carsam.runtime.native")
