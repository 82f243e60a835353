"""A float model made to take inputs of another size than it was trained with."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from carsam.errors import UserError
from carsam.families.base import Family
from carsam.families.registry import empty_model


@torch.no_grad()
def with_image_size(family: Family, model: Any, side: int) -> Any:
    """Return a model for inputs of `side` x `side` pixels; the one given is not changed.

    Tables of positions that belong to the whole image are resized as ViTDet does it (Li et al.
    2022, whose encoder SAM has): absolute ones bicubically, relative ones linearly. All other
    weights, those of windows among them, are shared with the model given.

    Raises:
        UserError: the model cannot take this size.
    """
    if side == family.framing(model.config).side:
        return model
    sides = family.sides(model.config)
    if side not in sides:
        raise UserError(
            f"Found an image size of {side} pixels; expected, for this model, a multiple of "
            f"{sides.step} from {sides[0]} to {sides[-1]}."
        )
    config = deepcopy(model.config)
    family.set_side_(config, side)
    resized = empty_model(config)
    expected = resized.state_dict()
    state = {
        name: tensor if tensor.shape == expected[name].shape else _resized(tensor, expected[name])
        for name, tensor in model.state_dict().items()
    }
    resized.load_state_dict(state, assign=True)
    resized.tie_weights()
    return resized


def _resized(table: Tensor, like: Tensor) -> Tensor:
    """Return a table of positions, absolute (1, h, w, C) or relative (2 n - 1, C), for more or
    fewer tokens."""
    if table.ndim == 4:
        grid = interpolate(
            table.permute(0, 3, 1, 2), like.shape[1:3], mode="bicubic", antialias=True
        )
        return grid.permute(0, 2, 3, 1).contiguous()
    return interpolate(table.T[None], len(like), mode="linear")[0].T.contiguous()
