"""From numpy to torch and back, for the names that segment-anything has tensors for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from carsam.extras import require
from carsam.images.given_arrays import given_array

if TYPE_CHECKING:
    from torch import Tensor


def torch_module() -> Any:
    """Return torch, which only those need who call what takes or returns tensors.

    Raises:
        MissingExtraError: it is not installed.
    """
    require("quantize", "torch")
    import torch

    return torch


def to_tensor(array: np.ndarray, device: Any = "cpu") -> "Tensor":
    """Return an array as a contiguous tensor on a device."""
    tensor: Tensor = torch_module().from_numpy(np.ascontiguousarray(array))
    return tensor.to(device)


def to_array(tensor: Any, what: str, dtype: DTypeLike) -> np.ndarray | None:
    """Return a tensor, or None, as an array; `what` is the plural that a message calls it."""
    return None if tensor is None else given_array(tensor, what, dtype)
