"""Families of models, one entry each, and the one way to load a float model."""

import os
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from carsam.errors import UserError
from carsam.families.base import Family
from carsam.families.sam.family import SamFamily
from carsam.families.sam_hq import SamHqFamily

FAMILIES: dict[str, Family] = {family.name: family for family in (SamFamily(), SamHqFamily())}
"""Families by transformers' `model_type`."""

BUNDLED = "sam-mini"


def load_model(source: str | Path | Module) -> tuple[Family, Any]:
    """Load a float model for inference.

    Args:
        source: `sam-mini`, a Hugging Face id or folder, a `.pth` file in the format of
            segment-anything, or a model of transformers.

    Raises:
        UserError: nothing loadable is there, the family is unknown, or a weight is NaN.
    """
    model = source if isinstance(source, Module) else _load(source)
    model_type = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if model_type not in FAMILIES:
        raise UserError(
            f"Models of type {model_type} are not supported; expected one of {', '.join(FAMILIES)}."
        )
    _check_finite(model, source)
    return FAMILIES[model_type], model.eval()


def source_name(source: str | Path | Module) -> str:
    """Return what `load_model` finds from every folder: a model's name, or an absolute path."""
    if isinstance(source, Module):
        return "model"
    return os.path.abspath(source) if source != BUNDLED and Path(source).exists() else str(source)


def build_model(family: str, model_config: dict[str, Any]) -> tuple[Family, Any]:
    """Build the model of a checkpoint without its weights, on the meta device."""
    from transformers import AutoConfig, AutoModelForMaskGeneration

    if family not in FAMILIES:
        raise UserError(f"Family {family} is not known; expected one of {', '.join(FAMILIES)}.")
    config = AutoConfig.for_model(**model_config)
    with torch.device("meta"):
        model = AutoModelForMaskGeneration.from_config(config)
    return FAMILIES[family], model.eval()


def _load(source: str | Path) -> Any:
    if source == BUNDLED:
        from carsam.families.mini import load_sam_mini

        return load_sam_mini()
    if str(source).endswith((".pth", ".pt")):
        from carsam.families.meta_weights import load_meta_checkpoint

        return load_meta_checkpoint(Path(source))
    return _load_transformers(source)


def _load_transformers(source: str | Path) -> Any:
    from transformers import AutoModelForMaskGeneration

    try:
        return AutoModelForMaskGeneration.from_pretrained(str(source), dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{source} could not be loaded: {error}\nGive sam-mini, a Hugging Face id or folder "
            "of a SAM model, or a .pth file of segment-anything."
        ) from error


def _check_finite(model: Module, source: Any) -> None:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            label = source if isinstance(source, str | Path) else "The model"
            raise UserError(f"{label} holds NaN or infinity in {name}; its weights are damaged.")
