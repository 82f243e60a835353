"""Arrays as clients give them."""

import re

import numpy as np
import pytest
import torch

from carsam.errors import UserError
from carsam.images.given_arrays import finite_numbers, given_array
from carsam.images.read import read_image

TENSOR = torch.tensor([[1.0, 2.5]])
GIVEN = {
    "list": [[1, 2.5]],
    "tuple": ((1, 2.5),),
    "float32": np.array([[1, 2.5]], np.float32),
    "object": np.array([[1, 2.5]], object),
    "tensor": TENSOR,
    "gradients": TENSOR.clone().requires_grad_(),
    "bfloat16": TENSOR.to(torch.bfloat16),
    "bfloat16 with gradients": TENSOR.to(torch.bfloat16).requires_grad_(),
    "float16": TENSOR.half(),
    "list of tensors": [[TENSOR[0, 0].clone().requires_grad_(), 2.5]],
    "tuple of rows": (TENSOR[0].clone().requires_grad_(),),
}


def repr_without_address(value):
    """The name of a case, the same in every process."""
    return re.sub(r" at 0x\w+", "", repr(value))


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_numbers_of_any_kind_are_taken(given):
    numbers = finite_numbers(given, "boxes")
    assert numbers.dtype == np.float64
    assert numbers.tolist() == [[1, 2.5]]


@pytest.mark.parametrize(
    "given",
    ["text", [1, [2, 3]], {1: 2}, object(), [["a"]], torch.ones(2, device="meta"), [b"\xff"]],
)
def test_what_is_no_array_of_numbers_is_refused(given):
    with pytest.raises(UserError, match="boxes that are no array of numbers"):
        finite_numbers(given, "boxes")


@pytest.mark.parametrize("given", [[np.nan], [np.inf], [1e300], [None], None])
def test_what_float32_does_not_hold_is_refused(given):
    with pytest.raises(UserError, match="boxes"):
        finite_numbers(given, "boxes")


def test_whole_numbers_stay_whole():
    assert given_array(torch.tensor([1, 0]), "labels").dtype == np.int64


def test_a_tensor_is_an_image(photo):
    np.testing.assert_array_equal(read_image(torch.from_numpy(photo)), photo)


@pytest.mark.parametrize(
    "image",
    [
        None,
        [],
        [[1, 2]],
        np.empty((0, 0, 3), np.uint8),
        5,
        {},
        object(),
        b"photo.jpg",
        np.float32(1),
    ],
    ids=repr_without_address,
)
def test_what_is_no_image_is_refused_in_a_sentence(image):
    with pytest.raises(UserError, match=r"^Found (no|an) image|^Found pixels"):
        read_image(image)


def test_floats_from_0_to_1_are_refused_with_advice(photo):
    with pytest.raises(UserError, match=r"float64.*scale floats to 0\.\.255"):
        read_image(photo / 255)
