import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carsam.formats.packing import pack, packed_columns, unpack


@st.composite
def codes_and_bits(draw):
    bits = draw(st.integers(1, 8))
    shape = draw(st.tuples(st.integers(0, 5), st.integers(0, 33)))
    return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1))), bits


@given(codes_and_bits())
def test_unpack_undoes_pack(case):
    codes, bits = case
    packed = pack(codes, bits)
    assert packed.shape == (len(codes), packed_columns(codes.shape[1], bits))
    np.testing.assert_array_equal(unpack(packed, bits, codes.shape[1]), codes)


def test_the_low_nibble_comes_first():
    np.testing.assert_array_equal(pack(np.array([[1, 2, 3]], np.uint8), 4), [[0x21, 0x03]])


def test_three_bit_codes_cross_bytes():
    packed = pack(np.array([[7, 0, 7]], np.uint8), 3)
    np.testing.assert_array_equal(packed, [[0b11000111, 0b1]])


def test_a_code_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="Code 16 does not fit 4 bits"):
        pack(np.array([[16]], np.uint8), 4)


def test_a_wrong_width_is_refused():
    with pytest.raises(ValueError, match="expected uint8 with 2 columns"):
        unpack(np.zeros((1, 3), np.uint8), 4, 4)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_outside_one_to_eight_are_refused(bits):
    with pytest.raises(ValueError, match="1 to 8 bits"):
        pack(np.zeros((1, 1), np.uint8), bits)
