"""Everything that a report says, as plain data."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carsam.benchmark.machine import hardware
from carsam.diagnosis.oscillation import loss_curves
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.formats.checkpoint import Checkpoint, read_checkpoint
from carsam.formats.grid_layouts import site_tensors
from carsam.formats.inventory import bits_by_kind, bytes_on_disk, float32_bytes
from carsam.progress import Progress
from carsam.report.photos import look_at_photos
from carsam.report.ranges import ranges
from carsam.simulation.model import from_checkpoint

FORMAT, VERSION = "carsam-report", 1
FLOAT_PARTS = "float, kept in 16 bits"


def gather(
    run: Path,
    *,
    evaluation: Mapping[str, Any] | None = None,
    diagnosis: Mapping[str, Any] | None = None,
    images: Path | None = None,
    coco: Path | None = None,
    source: str | None = None,
    count: int = 8,
    seed: int = 0,
    command: str = "",
    progress: Progress,
) -> dict[str, Any]:
    """Return what is known of a run.

    Args:
        run: folder of the run, or the name of a bundled one.
        evaluation: of `read_evaluation`.
        diagnosis: of `read_diagnosis`.
        images: photos to run both models on; `coco` has their boxes.
        source: the float model; the one that the run names unless given.
        count: photos to use, chosen by `seed`.
        command: that asked for it.

    Raises:
        UserError: the run, the float model or the photos cannot be read.
    """
    if coco is not None and images is None:
        raise UserError("--coco holds the boxes of photos; give --images with the photos too.")
    checkpoint = read_checkpoint(run)
    manifest = checkpoint.manifest
    lacking = [
        key for key in ("source", "recipe", "calibration", "versions") if key not in manifest
    ]
    if lacking:
        raise UserError(
            f"{run} does not say where it comes from: its carsam.json lacks {', '.join(lacking)}. "
            "`carsam quantize` makes a run that does."
        )
    model = from_checkpoint(checkpoint)
    photos = None
    if images is not None:
        original = source or manifest["source"]
        floats = load(original, "float", "cpu", progress.warn, image_size=model.image_size)
        photos = look_at_photos(run, model, floats, images, coco, count, seed, progress)
    notes = manifest.get("notes", ())
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": str(run),
        "command": command,
        "family": manifest["family"],
        "image_size": model.image_size,
        "bytes": bytes_on_disk(run),
        "float32_bytes": float32_bytes(checkpoint),
        "parts": _parts(checkpoint),
        "provenance": {
            key: manifest[key]
            for key in ("source", "recipe", "seed", "calibration", "versions", "metrics")
            if key in manifest
        },
        "fingerprint": checkpoint.fingerprint,
        "machine": hardware(),
        "evaluation": evaluation,
        "photos": None if photos is None else _without_ranges(asdict(photos)),
        "diagnosis": diagnosis,
        "ranges": [asdict(each) for each in (photos.ranges if photos else ranges(model))],
        "losses": [{**asdict(curve), "rises": curve.rises} for curve in loss_curves(notes)],
    }


def _without_ranges(photos: dict[str, Any]) -> dict[str, Any]:
    """Return what the photos showed; the ranges have a place of their own."""
    return {key: value for key, value in photos.items() if key != "ranges"}


def _parts(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return every kind of site with bits and bytes, then what stays float, the largest first."""
    sites = checkpoint.manifest["sites"]
    sizes: dict[str, int] = defaultdict(int)
    added = set()
    for path, site in sites.items():
        for name, *_ in site_tensors(path, site):
            added.add(name)
            sizes[site["kind"]] += checkpoint.tensors[name].nbytes
    parts = [
        {"kind": kind, "weights": w, "activations": a, "sites": n, "bytes": sizes[kind]}
        for kind, (w, a, n) in bits_by_kind(sites).items()
    ]
    rest = sum(tensor.nbytes for name, tensor in checkpoint.tensors.items() if name not in added)
    left = {"kind": FLOAT_PARTS, "weights": "16", "activations": "float", "sites": 0, "bytes": rest}
    return sorted([*parts, left], key=lambda part: part["bytes"], reverse=True)
