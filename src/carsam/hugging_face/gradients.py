"""Modules that compute without gradients, whether or not their caller asks for them.

With gradients the simulation multiplies floats, as training needs it; its masks are then others
than those of a run. What a user of transformers calls must not depend on that habit.
"""

import threading
from typing import Any

import torch
from torch import nn


def compute_without_gradients_(model: nn.Module) -> None:
    """Switch gradients off while a model, or one of its direct parts, computes."""
    for module in (model, *model.children()):
        module.register_forward_pre_hook(_switch_off)
        module.register_forward_hook(_restore, always_call=True)


class _Before(threading.local):
    """Whether gradients were on when each of the running modules of a thread began."""

    def __init__(self) -> None:
        self.modes: list[bool] = []


_BEFORE = _Before()


def _switch_off(*_: Any) -> None:
    _BEFORE.modes.append(torch.is_grad_enabled())
    torch.set_grad_enabled(False)


def _restore(*_: Any) -> None:
    torch.set_grad_enabled(_BEFORE.modes.pop())
