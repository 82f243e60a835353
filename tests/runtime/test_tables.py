"""The native engine's tables are those of the simulation, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.errors import UserError
from carsam.runtime.tables import TABLES, CodeTable, read_table

scales = st.floats(2**-12, 2**6, width=32)


@st.composite
def grids(draw):
    """A grid of the simulation."""
    torch = pytest.importorskip("torch")
    from carsam.grids import tables

    name, bits = draw(st.sampled_from(sorted(TABLES))), draw(st.integers(2, 8))
    scale = torch.tensor([draw(scales)])
    if name == "log2":
        return tables.LogGrid(scale, draw(st.integers(1, 8)), bits)
    if name == "log1p":
        return tables.Log1pGrid(scale, torch.tensor([draw(scales)]), bits)
    if name == "twin-uniform":
        shift, signed = draw(st.integers(0, 15)), draw(st.integers(0, 1))
        return tables.TwinUniformGrid(scale, shift, signed, bits)
    both = torch.tensor([float(scale), draw(scales)])
    log_codes = draw(st.integers(2, 2**bits - 1))
    return tables.LogUniformGrid(both, torch.tensor([-draw(scales)]), log_codes, bits)


def native(grid) -> CodeTable:
    from carsam.grids.registry import describe_grid, store_grid

    tensors = store_grid("p", grid)
    return read_table(describe_grid(grid), lambda name: tensors[f"p_{name}"])


@given(grids())
def test_values_are_those_of_the_simulation(grid) -> None:
    np.testing.assert_array_equal(native(grid).values, grid.table(grid.scale).numpy())


@given(grids(), st.integers(0, 99))
def test_codes_are_those_of_the_simulation(grid, seed) -> None:
    import torch

    found = native(grid)
    random = np.random.default_rng(seed).normal(0, 2, 200).astype(np.float32)
    halfway = (found.values[1:] + found.values[:-1]) / 2
    numbers = np.concatenate([random * found.values[-1], found.values, halfway])
    expected = grid.codes(torch.from_numpy(numbers)).numpy()
    np.testing.assert_array_equal(found.codes(numbers), expected)


@pytest.mark.parametrize("values, bits", [([0, np.inf], 2), ([0, 1, 2], 1), ([], 2), ([0], 9)])
def test_refuses_what_is_no_table(values, bits) -> None:
    with pytest.raises(UserError, match=f"A table of {len(values)} values on a {bits}-bit grid"):
        CodeTable(np.array(values, np.float32), bits)
