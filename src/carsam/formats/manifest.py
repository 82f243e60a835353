"""Reading `carsam.json`, and refusing what no carsam wrote before anything is built from it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.formats.failed_downloads import read_head

FORMAT = "carsam"
VERSION = 1
MANIFEST_FILE = "carsam.json"

KEYS: dict[str, type] = {"family": str, "model_config": dict, "sites": dict, "weights_file": dict}
SITE_KEYS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "type": str,
    "weight": (dict, type(None)),
    "operands": dict,
}
SITE_TYPES = ("linear", "conv", "conv_transpose", "attention")

SETTINGS = {
    "bits": (1, 8),
    "granularity": (1, 1024),
    "shift": (0, 64),
    "signed": (0, 1),
    "log_codes": (0, 256),
    "groups": (1, 256),
    "channels": (1, 1 << 16),
}
"""Lowest and highest value of what describes a grid."""

MOST_TOKENS = 512
"""Tokens along a side of the encoder's image; SAM has 64."""

LONGEST_SIDE = 1 << 13
"""Pixels along a side of the input; SAM has 1024."""

WIDEST = 1 << 16
"""Channels or heads of anything."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check the type of everything that readers rely on.

    Raises:
        UserError: it cannot be read, is damaged, of another program or of another version.
    """
    read_head(path)
    try:
        manifest = read_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: it is not valid JSON ({error}).") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f'{path} is not a carsam checkpoint: its "format" is not "{FORMAT}".')
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{path} has version {manifest.get('version')}; this carsam reads version {VERSION}. "
            "Install the carsam that wrote it, or quantize again."
        )
    missing = set(KEYS) - set(manifest)
    if missing:
        raise UserError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}.")
    try:
        _check_types(manifest, KEYS, "the manifest")
        _check_types(manifest["weights_file"], {"bytes": int, "sha256": str}, "weights_file")
        for site_path, site in manifest["sites"].items():
            _check_site(site_path, site)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    return manifest


def read_json(content: bytes) -> Any:
    """Parse JSON in which no name stands twice.

    Raises:
        ValueError: it is not JSON, a name stands twice, or it is nested too deeply.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_model_config(config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a model configuration that asks for more than a file of so many tensors can hold.

    Keys of other families, and keys that are missing, are left to those who read them.

    Raises:
        ValueError: naming the key, what was found and what was expected.
    """
    for name, section in config.items():
        if isinstance(section, dict):
            for key, value in section.items():
                _check_number(f"{name}.{key}", key, value, tensors)
    vision, decoder = config.get("vision_config", {}), config.get("mask_decoder_config", {})
    if not isinstance(vision, dict) or not isinstance(decoder, dict):
        raise ValueError("vision_config and mask_decoder_config are not both objects")
    for place, section in (("vision_config", vision), ("mask_decoder_config", decoder)):
        width = section.get("hidden_size", 0) // section.get("attention_downsample_rate", 1)
        _check_divides(section.get("num_attention_heads", 1), width, f"{place}: heads", "channels")
    patch, image = vision.get("patch_size", 1), vision.get("image_size", 0)
    _check_divides(patch, image, "vision_config: patch_size", "image_size")
    if image // patch > MOST_TOKENS:
        raise ValueError(
            f"vision_config: an image of {image // patch} patches per side; "
            f"expected at most {MOST_TOKENS}"
        )


POSITIVE = (
    "attention_downsample_rate",
    "hidden_size",
    "image_size",
    "iou_head_depth",
    "iou_head_hidden_dim",
    "mask_input_channels",
    "mlp_dim",
    "num_attention_heads",
    "num_channels",
    "num_hidden_layers",
    "num_multimask_outputs",
    "num_pos_feats",
    "output_channels",
    "patch_size",
)
"""Keys of a model configuration that count something."""

COUNTS_OF_TENSORS = ("num_hidden_layers", "iou_head_depth", "num_multimask_outputs")


def _check_number(place: str, key: str, value: Any, tensors: int) -> None:
    """Refuse a count that is none, or that the file cannot justify."""
    if key == "layer_norm_eps":
        if not isinstance(value, float) or not 0 < value < 1:
            raise ValueError(f"{place} is {_short(value)}; expected a number between 0 and 1")
    elif key == "global_attn_indexes":
        if not isinstance(value, list) or not all(_is_integer(index) for index in value):
            raise ValueError(f"{place} is no list of integers")
    elif key in POSITIVE or key == "window_size":  # a window of 0 is the whole image
        lowest = 1 if key in POSITIVE else 0
        highest = {"image_size": LONGEST_SIDE, **dict.fromkeys(COUNTS_OF_TENSORS, tensors)}.get(
            key, WIDEST
        )
        if not _is_integer(value) or not lowest <= value <= highest:
            raise ValueError(
                f"{place} is {_short(value)}; expected an integer from {lowest} to {highest}"
            )


def _check_divides(divisor: int, number: int, what: str, of: str) -> None:
    if number % divisor:
        raise ValueError(f"{what}, {divisor}, does not divide {of}, {number}")


def _check_site(path: str, site: Any) -> None:
    if not isinstance(site, dict):
        raise ValueError(f"site {path} is no object")
    _check_types(site, SITE_KEYS, f"site {path}")
    if site["type"] not in SITE_TYPES:
        raise ValueError(f"site {path} is of type {site['type']}; expected {', '.join(SITE_TYPES)}")
    for name, grid in grids_of(path, site):
        if not isinstance(grid, dict):
            raise ValueError(f"the grid of {name} is no object")
        _check_types(grid, {"grid": str, "bits": int}, f"the grid of {name}")
        for key in grid.keys() & SETTINGS.keys():
            lowest, highest = SETTINGS[key]
            if not _is_integer(grid[key]) or not lowest <= grid[key] <= highest:
                raise ValueError(
                    f"the grid of {name} has {key} {_short(grid[key])}; "
                    f"expected {lowest} to {highest}"
                )
    if site["weight"] is not None:
        _check_shape(path, site)


def _check_shape(path: str, site: Mapping[str, Any]) -> None:
    shape = site["weight"].get("shape")
    dimensions = (2,) if site["type"] == "linear" else (2, 3, 4)
    if (
        not isinstance(shape, list)
        or len(shape) not in dimensions
        or not all(_is_integer(side) and side > 0 for side in shape)
        or math.prod(shape) >= 1 << 62
    ):
        raise ValueError(f"the weight of site {path} has shape {_short(shape)}")


def grids_of(path: str, site: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and description of every grid at a site."""
    if site["weight"] is not None:
        yield f"{path}.weight", site["weight"]
    for operand, grid in site["operands"].items():
        yield f"{path}.{operand}", grid


def _check_types(
    entry: Mapping[str, Any], keys: Mapping[str, type | tuple[type, ...]], what: str
) -> None:
    for key, expected in keys.items():
        value = entry.get(key)
        if not isinstance(value, expected) or (expected is int and not _is_integer(value)):
            raise ValueError(f"{what} has {key} {_short(value)}")


def _short(value: Any) -> str:
    """A value of a damaged file as text that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {_short(twice)} stands twice")
    return found
