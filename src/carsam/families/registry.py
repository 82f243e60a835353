"""Families of models, one entry each, and the one way to build a model of theirs."""

from typing import Any

import torch
import transformers

from carsam.errors import UserError
from carsam.families.base import Family
from carsam.families.sam.family import SamFamily
from carsam.families.sam2.family import Sam2Family
from carsam.families.sam2_video.family import Sam2VideoFamily
from carsam.families.sam_hq import SamHqFamily

FAMILIES: dict[str, Family] = {
    family.name: family for family in (SamFamily(), SamHqFamily(), Sam2Family(), Sam2VideoFamily())
}
"""Families by transformers' `model_type`."""


def family_of(model_type: str) -> Family:
    """Return the family of transformers' models of a type.

    Raises:
        UserError: none is known.
    """
    if model_type not in FAMILIES:
        raise UserError(
            f"Models of type {model_type} are not supported; expected one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def empty_model(config: Any, dtype: torch.dtype | None = None) -> Any:
    """Return the model of a configuration of transformers, without values, on the meta device.

    Args:
        dtype: that the configuration is given, whatever it says.
    """
    architecture = getattr(transformers, family_of(config.model_type).architecture)
    with torch.device("meta"):
        model = (
            architecture(config)
            if dtype is None
            else architecture._from_config(config, dtype=dtype)
        )
    _compute_buffers_(model)
    return model.eval()


def _compute_buffers_(model: Any) -> None:
    """Give values to buffers that no file holds, such as tables of places."""
    for module in model.modules():
        if module._non_persistent_buffers_set:
            fresh = type(module)(module.config)
            for name in module._non_persistent_buffers_set:
                setattr(module, name, getattr(fresh, name))
