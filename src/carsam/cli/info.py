"""`carsam info`: what is inside a quantized model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from carsam.cli.options import Common
from carsam.cli.terminal import Terminal
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.checkpoint import Checkpoint, read_checkpoint
from carsam.formats.inventory import bits_by_kind, bytes_on_disk, float32_bytes, grids_by_export
from carsam.formats.manifest import MANIFEST_FILE
from carsam.images.scenes import scene
from carsam.methods.recipe import Recipe

CHECK_SCENES = 2
ORIGIN = ("source", "recipe", "calibration", "seed", "versions")


def info(
    run: Path,
    /,
    *,
    check: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """State what a quantized model holds: origin, bits, size, calibration, recorded numbers.

    Args:
        run: folder of the quantized model, or sam-mini-w4a4 (bundled).
        check: also run it on procedural scenes and prove that what the recipe quantizes stays on
            grids of its bits (needs the extra `quantize`); if not, the exit code is 1.
    """
    options = common or Common()
    options.prepare()
    checkpoint = read_checkpoint(run)
    for label, value in _statements(run, checkpoint):
        print(f"{label:<15}{value}")
    Terminal().print(_bits_table(checkpoint.manifest["sites"]))
    print("All other weights are stored in 16 bits and used in float32.")
    for name, value in _leaves(checkpoint.manifest.get("metrics", {})):
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    if check:
        _check(run, options)


def _check(run: Path, options: Common) -> None:
    """Run the strict check on procedural scenes; a failure ends the command with exit code 1."""
    require("quantize", "torch", "transformers")
    from carsam.evaluation.strict import StrictError, assert_strict
    from carsam.simulation.model import load_simulated

    images = [scene(options.seed + number).image for number in range(CHECK_SCENES)]
    try:
        assert_strict(load_simulated(run), images)
    except StrictError as error:
        raise SystemExit(f"carsam: The strict check failed: {error}") from error
    print(f"Strict check passed on {CHECK_SCENES} scenes: all is on grids of the recipe's bits.")


def _statements(run: Path, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    manifest = checkpoint.manifest
    missing = [key for key in ORIGIN if key not in manifest]
    if missing:
        raise UserError(
            f"{MANIFEST_FILE} of {run} lacks {', '.join(missing)}: it does not say where the model "
            "comes from. `carsam quantize` makes one that does."
        )
    recipe, calibration = Recipe.from_dict(manifest["recipe"]), manifest["calibration"]
    on_disk, original = bytes_on_disk(run), float32_bytes(checkpoint)
    names = calibration["images"]
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    clips = calibration.get("clips")  # of a model with a memory
    of_clips = f", clips made of {clips['made_of']}: {clips['count']}" if clips else ""
    rules = ", ".join(map(str, recipe.rules)) or "none"
    side = manifest["model_config"]["prompt_encoder_config"]["image_size"]
    versions = [f"{name} {version}" for name, version in manifest["versions"].items()]
    return [
        ("Model", f"{manifest['source']} (family {manifest['family']})"),
        (
            "Recipe",
            f"{recipe.name} {recipe.bits}, rules: {rules}",
        ),
        ("Input", f"{side} x {side} pixels"),
        ("Size", f"{on_disk / 1e6:.2f} MB on disk, {original / 1e6:.2f} MB as float32"),
        ("Ratio", f"{original / on_disk:.1f} times smaller"),
        ("Grids", _grids(manifest["sites"])),
        ("Calibration", f"{len(names)} images ({shown}){of_clips}"),
        ("Their SHA-256", calibration["sha256"]),
        ("Seed", str(manifest["seed"])),
        ("Versions", ", ".join(versions)),
    ]


def _grids(sites: Mapping[str, Mapping[str, Any]]) -> str:
    fitting, others = grids_by_export(sites)
    text = f"{fitting} fit ONNX's QuantizeLinear"
    listed = ", ".join(f"{count} {name}" for name, count in others.items())
    return f"{text}, {listed} do not" if others else text


def _bits_table(sites: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("Kind", "Weight bits", "Activation bits", "Sites")
    for kind, (weights, activations, count) in bits_by_kind(sites).items():
        table.add_row(kind, weights, activations, str(count))
    return table


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings, with dotted names."""
    leaves = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((f"{prefix}{name}", value))
    return leaves
