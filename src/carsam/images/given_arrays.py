"""Arrays as clients give them: numpy's, lists, and tensors, for which torch is not imported."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from carsam.errors import UserError


def given_array(given: Any, what: str, dtype: DTypeLike | None = None) -> np.ndarray:
    """Return what a client gives as a numpy array.

    Args:
        given: an array, a number, a tensor of torch (also one with gradients, on another device,
            or of a type that numpy lacks, such as bfloat16), or a list or tuple of these.
        what: the plural that a message calls it.
        dtype: what to convert the numbers to; theirs unless given.

    Raises:
        UserError: it is no array of numbers.
    """
    try:
        array = np.asarray(_without_tensors(given), dtype)
    except Exception as error:  # whatever the client's type raises when it is converted
        reason = str(error).rstrip(".")
        raise UserError(f"Found {what} that are no array of numbers: {reason}.") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"Found {what} that are no array of numbers but a {type(given).__name__}.")
    return array


def finite_numbers(given: Any, what: str) -> np.ndarray:
    """Return what a client gives (see `given_array`) as float64.

    Raises:
        UserError: it is no array of numbers, or one is NaN, or infinite in float32.
    """
    numbers = given_array(given, what, np.float64)
    with np.errstate(over="ignore"):
        finite = np.isfinite(numbers.astype(np.float32)).all()
    if not finite:
        raise UserError(f"Found {what} with NaN or infinite values; expected finite numbers.")
    return numbers


def _without_tensors(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return [_without_tensors(part) for part in given]
    if not hasattr(given, "detach"):
        return given
    tensor = given.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16 and the like
        return tensor.double().numpy()
