"""Reading `carsam.json`, and refusing what no carsam wrote before anything is built from it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.formats.failed_downloads import read_head
from carsam.formats.model_config import is_integer, short

FORMAT = "carsam"
VERSION = 2
"""What is written. Version 1 has no centres."""

READ = (1, VERSION)
MANIFEST_FILE = "carsam.json"

KEYS: dict[str, type] = {"family": str, "model_config": dict, "sites": dict, "weights_file": dict}
SITE_KEYS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "type": str,
    "weight": (dict, type(None)),
    "operands": dict,
}
CENTRES = ("tokens", "places", "channels")
"""What a site's inputs can be rid of before they are rounded; see `carsam.simulation.centre`."""

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
    if manifest.get("version") not in READ:
        raise UserError(
            f"{path} has version {manifest.get('version')}; this carsam reads up to {VERSION}. "
            "Install the carsam that wrote it, or quantize again."
        )
    missing = set(KEYS) - set(manifest)
    if missing:
        raise UserError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}.")
    try:
        _check_types(manifest, KEYS, "the manifest")
        _check_types(manifest["weights_file"], {"bytes": int, "sha256": str}, "weights_file")
        check_sites(manifest["sites"])
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


def check_sites(sites: Mapping[str, Any]) -> None:
    """Check the type of everything that readers of sites rely on.

    Raises:
        ValueError: says what is wrong at which site.
    """
    for path, site in sites.items():
        _check_site(path, site)


def _check_site(path: str, site: Any) -> None:
    if not isinstance(site, dict):
        raise ValueError(f"site {path} is no object")
    _check_types(site, SITE_KEYS, f"site {path}")
    if site["type"] not in SITE_TYPES:
        raise ValueError(f"site {path} is of type {site['type']}; expected {', '.join(SITE_TYPES)}")
    if "centre" in site and site["centre"] not in CENTRES:
        raise ValueError(
            f"site {path} has centre {short(site['centre'])}; expected one of {', '.join(CENTRES)}"
        )
    for name, grid in grids_of(path, site):
        if not isinstance(grid, dict):
            raise ValueError(f"the grid of {name} is no object")
        _check_types(grid, {"grid": str, "bits": int}, f"the grid of {name}")
        for key in grid.keys() & SETTINGS.keys():
            lowest, highest = SETTINGS[key]
            if not is_integer(grid[key]) or not lowest <= grid[key] <= highest:
                raise ValueError(
                    f"the grid of {name} has {key} {short(grid[key])}; "
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
        or not all(is_integer(side) and side > 0 for side in shape)
        or math.prod(shape) >= 1 << 62
    ):
        raise ValueError(f"the weight of site {path} has shape {short(shape)}")


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
        if not isinstance(value, expected) or (expected is int and not is_integer(value)):
            raise ValueError(f"{what} has {key} {short(value)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {short(twice)} stands twice")
    return found
