"""The compiled operators of training, and which tensors they take."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.runtime import kernels

training: Any = kernels.training
"""None without the extension."""


def takes(values: Tensor) -> bool:
    """Tell whether the operators take a tensor; elsewhere torch does the same step by step."""
    return training is not None and values.device.type == "cpu" and values.dtype == torch.float32


def pointer(values: Tensor) -> np.ndarray:
    """Return a tensor's own memory as an array."""
    array: np.ndarray = values.detach().numpy()
    return array
