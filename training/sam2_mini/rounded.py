"""Modules whose parameters are kept in float32 and used in the format that is fastest here."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from carsam.simulation.products import prefers_bfloat16


class Rounded(nn.Module):
    """Calls a module with its parameters rounded to `dtype`, once for the whole call.

    Unless given it is bfloat16 where the processor multiplies that faster than float32. Buffers
    stay as they are: the Fourier features of places would mean nothing in bfloat16.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None):
        super().__init__()
        self.module = module
        self.dtype = dtype or (torch.bfloat16 if prefers_bfloat16() else torch.float32)

    def forward(self, *arguments: Any) -> Any:
        rounded = {name: p.to(self.dtype) for name, p in self.module.named_parameters()}
        # Weights are not tied, but modules have two names here, and must not be exchanged twice.
        return functional_call(self.module, rounded, arguments, tie_weights=False)
