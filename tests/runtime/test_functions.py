"""Elementary functions in defined order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from carsam.runtime import functions

NUMBERS = np.linspace(-10, 10, 200_001, dtype=np.float32)


def test_erf_is_exact_to_half_a_millionth() -> None:
    np.testing.assert_allclose(functions.erf(NUMBERS), special.erf(NUMBERS), atol=5e-7, rtol=0)


def test_gelu_equals_torch() -> None:
    import torch

    expected = torch.nn.functional.gelu(torch.from_numpy(NUMBERS)).numpy()
    np.testing.assert_allclose(functions.gelu(NUMBERS), expected, atol=1.5e-6, rtol=0)


def test_exp2_is_exact_to_three_units_in_the_last_place() -> None:
    x = np.linspace(-125, 0, 100_001, dtype=np.float32)
    np.testing.assert_allclose(functions.exp2(x), 2.0 ** x.astype(np.float64), rtol=3e-7)


def test_exp2_of_minus_infinity_is_next_to_nothing() -> None:
    assert functions.exp2(np.array([-np.inf], np.float32))[0] <= 2.0**-124


@given(st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_lane_sum_adds_lanes_one_by_one(length: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).normal(size=length).astype(np.float32)
    lanes = [np.float32(0)] * 16
    for index, number in enumerate(numbers):
        lanes[index % 16] += number
    for half in (8, 4, 2, 1):
        lanes = [lanes[lane] + lanes[lane + half] for lane in range(half)]
    assert functions.lane_sum(numbers[None])[0] == lanes[0]


def test_relu() -> None:
    np.testing.assert_array_equal(functions.relu(NUMBERS), np.maximum(NUMBERS, 0))
