"""The compiled kernels against their numpy references."""

import numpy as np
import pytest

from carsam.quant.packing import unpack
from carsam.runtime import _kernels


@pytest.mark.parametrize("columns", [1, 2, 7, 64, 255])
def test_unpack_4bit_equals_the_reference(columns: int) -> None:
    packed = np.random.default_rng(0).integers(0, 256, (5, (columns + 1) // 2), dtype=np.uint8)
    codes = _kernels.unpack_4bit(packed, columns)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, unpack(packed, 4, columns))


def test_unpack_4bit_refuses_columns_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="columns does not fit"):
        _kernels.unpack_4bit(np.zeros((2, 3), np.uint8), 7)
