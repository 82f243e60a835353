"""Families of models, and the one way to load a float model."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from carsam.errors import UserError
from carsam.families.base import Family
from carsam.families.image_size import with_image_size
from carsam.families.registry import FAMILIES, empty_model, family_of
from carsam.formats.bundled import BUNDLED_MODEL, FOLDER, bundled_models
from carsam.formats.model_paths import find_float_model

__all__ = ["FAMILIES", "build_model", "load_model", "source_name"]


def load_model(
    source: str | Path | Module,
    warn: Callable[[str], object] = warnings.warn,
    image_size: int | None = None,
) -> tuple[Family, Any]:
    """Load a float model for inference.

    Args:
        source: `sam-mini`, a Hugging Face id or folder, a file of weights under the names of
            segment-anything, SAM-HQ or transformers, or a model of transformers.
        warn: told what of a file was left out, or had to be assumed.
        image_size: side of the inputs, in pixels; the model's own unless given.

    Raises:
        UserError: nothing loadable is there, the family is unknown, weights are missing, unknown,
            misshaped or damaged, or the model cannot take this size.
    """
    if isinstance(source, Module):
        model = source
        family = family_of(
            getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        )
        _check_values(model)
    else:
        model = _load(source, warn)
        family = family_of(model.config.model_type)
    model.eval()
    return family, model if image_size is None else with_image_size(family, model, image_size)


def source_name(source: str | Path | Module) -> str:
    """Return what `load_model` finds from every folder: a model's name, or an absolute path."""
    if isinstance(source, Module):
        return "model"
    found = find_float_model(source)
    return os.path.abspath(found) if isinstance(found, Path) else found


def build_model(family: str, model_config: dict[str, Any]) -> tuple[Family, Any]:
    """Build the model of a checkpoint without its weights, on the meta device."""
    from transformers import AutoConfig

    if family not in FAMILIES:
        raise UserError(f"Family {family} is not known; expected one of {', '.join(FAMILIES)}.")
    return FAMILIES[family], empty_model(AutoConfig.for_model(**model_config))


def _load(source: str | Path, warn: Callable[[str], object]) -> Any:
    found = find_float_model(source)
    if found == BUNDLED_MODEL:
        from carsam.families.mini import load_sam_mini

        return load_sam_mini()
    from carsam.families.float_weights import load_file, load_folder, read_config
    from carsam.families.hugging_face import fetch

    if isinstance(found, Path) and found.is_file():
        return load_file(found, warn)
    if found in bundled_models():
        source = found = FOLDER / found
    folder = found if isinstance(found, Path) else fetch(found)
    config = read_config(source)
    family_of(config.model_type)  # refuses other models before their weights are read
    return load_folder(folder, config, warn)


def _check_values(model: Module) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise UserError(f"The model holds no values of {name}; load its weights first.")
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"The model holds NaN or infinity in {name}; its weights are damaged.")
