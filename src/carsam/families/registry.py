"""Families of models, one entry each, and the one way to build a model of theirs."""

from typing import Any

import torch
import transformers
from transformers.models.sam3.modeling_sam3 import Sam3ViTLayer

from carsam.errors import UserError
from carsam.families.base import Family
from carsam.families.sam.family import SamFamily
from carsam.families.sam2.family import Sam2Family
from carsam.families.sam2_video.family import Sam2VideoFamily
from carsam.families.sam3_tracker.family import Sam3TrackerFamily, Sam3TrackerVideoFamily
from carsam.families.sam_hq import SamHqFamily

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SamFamily(),
        SamHqFamily(),
        Sam2Family(),
        Sam2VideoFamily(),
        Sam3TrackerFamily(),
        Sam3TrackerVideoFamily(),
    )
}
"""Families by transformers' `model_type`."""


NOT_HERE = {
    **dict.fromkeys(
        ("edgetam", "edgetam_video"),
        "EdgeTAM's encoder is RepViT, convolutions with batch norms of the package timm, and its "
        "memory passes a perceiver; carsam has neither. Use a SAM 2.1, such as "
        "facebook/sam2.1-hiera-tiny.",
    ),
    **dict.fromkeys(
        ("sam3", "sam3_lite_text"),
        "It is SAM 3's detector, which finds objects by words; carsam has its tracker, which is "
        "prompted with points, boxes and masks. Give a folder of sam3_tracker, sam3_tracker_video, "
        "or all of SAM 3, sam3_video.",
    ),
}
"""What is to be said of models that are near these families, by transformers' `model_type`."""


def family_of(model_type: str) -> Family:
    """Return the family of transformers' models of a type.

    Raises:
        UserError: none is known.
    """
    if model_type in NOT_HERE:
        raise UserError(f"Models of type {model_type} are not supported. {NOT_HERE[model_type]}")
    if model_type not in FAMILIES:
        raise UserError(
            f"Models of type {model_type} are not supported; expected one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def architecture_of(config: Any) -> Any:
    """Return transformers' class of a configuration's models."""
    return getattr(transformers, family_of(config.model_type).architecture)


def empty_model(config: Any, dtype: torch.dtype | None = None) -> Any:
    """Return the model of a configuration of transformers, without values, on the meta device.

    Args:
        dtype: that the configuration is given, whatever it says.
    """
    architecture = architecture_of(config)
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
        if isinstance(module, Sam3ViTLayer):  # its window is no part of its configuration
            module.position_ids = module.precompute_positions(module.config, module.window_size)
        elif module._non_persistent_buffers_set:
            fresh = type(module)(module.config)
            for name in module._non_persistent_buffers_set:
                setattr(module, name, getattr(fresh, name))
