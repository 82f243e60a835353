"""What a checkpoint holds, in numbers."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carsam.formats.bundled import run_folder
from carsam.formats.checkpoint import MANIFEST_FILE, WEIGHTS_FILE, Checkpoint
from carsam.formats.grid_layouts import LAYOUTS, site_tensors


def bytes_on_disk(run: str | Path) -> int:
    """Return the size of a run's two files."""
    return sum((run_folder(run) / name).stat().st_size for name in (WEIGHTS_FILE, MANIFEST_FILE))


def float32_bytes(checkpoint: Checkpoint) -> int:
    """Return the size of the model's weights before quantization, as float32."""
    sites = checkpoint.manifest["sites"]
    shapes = (site["weight"]["shape"] for site in sites.values() if site["weight"])
    quantized = sum(map(math.prod, shapes))
    added = {name for path, site in sites.items() for name, *_ in site_tensors(path, site)}
    kept = sum(t.size for name, t in checkpoint.tensors.items() if name not in added)
    return 4 * (quantized + kept)


def bits_by_kind(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str, int]]:
    """Return kind -> bits of its weights (`-` without any), of its activations, number of sites.

    Args:
        sites: the manifest's, by path.
    """
    weights: dict[str, set[int | None]] = defaultdict(set)
    activations: dict[str, set[int | None]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for site in sites.values():
        kind = site["kind"]
        counts[kind] += 1
        if site["type"] != "attention":
            weights[kind].add(site["weight"]["bits"] if site["weight"] else None)
        activations[kind].update(grid["bits"] for grid in site["operands"].values())
        if not site["operands"]:
            activations[kind].add(None)
    return {kind: (_bits(weights[kind]), _bits(activations[kind]), n) for kind, n in counts.items()}


def grids_by_export(sites: Mapping[str, Mapping[str, Any]]) -> tuple[int, dict[str, int]]:
    """Return how many grids ONNX's QuantizeLinear expresses, and the others' kinds with numbers.

    Args:
        sites: the manifest's, by path.
    """
    names = Counter(
        grid["grid"]
        for site in sites.values()
        for grid in (site["weight"], *site["operands"].values())
        if grid
    )
    others = {name: count for name, count in names.items() if not LAYOUTS[name].quantize_linear}
    return names.total() - sum(others.values()), others


def _bits(found: set[int | None]) -> str:
    """Return the bits found, as text; None stands for float."""
    named = ["float" if bits is None else str(bits) for bits in found]
    return ", ".join(sorted(named)) or "-"
