"""The folder of an ONNX export, written whole or not at all."""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carsam.engines.native_engine import NativeEngine
from carsam.errors import UnsupportedError, UserError
from carsam.export.onnx.check import Comparison, compare
from carsam.export.onnx.models import USUAL_SIDE, Exporter, read_exporter
from carsam.formats.checkpoint import Checkpoint, check_output_folder, read_checkpoint
from carsam.formats.files import is_disk_full
from carsam.formats.folders import sole_writer, whole_folder
from carsam.progress import Progress

REPORT_FILE = "export.json"
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
PHOTO_ENCODER, PHOTO_DECODER = "encoder_hwc.onnx", "decoder_hwc.onnx"
ANNOTATION_FILE = "config.yaml"
"""What AnyLabeling and X-AnyLabeling load as a custom model."""

PACKAGES = ("carsam", "onnx", "onnxruntime")


def write_onnx(
    source: str | Path,
    folder: Path,
    exact: bool,
    images: Path | None,
    count: int,
    force: bool,
    progress: Progress,
) -> str:
    """Write a run as ONNX after comparing it with the native engine; return a report.

    Args:
        source: folder of the run, or the name of a bundled one.
        folder: gets the models and `export.json`.
        exact: compute every number as the native engine does, to the bit.
        images: folder of photos to compare on; procedural scenes unless given.
        count: of images to compare on.
        force: replace an earlier export.

    Raises:
        UserError: the run has no ONNX form, the models do not compute what the native engine
            computes, or the folder cannot be written; then nothing is.
    """
    if count < 1:
        raise UserError(f"Found --count {count}; expected at least 1 image to compare on.")
    with sole_writer(folder):
        check_output_folder(folder, force, REPORT_FILE, "an ONNX export")
        checkpoint = read_checkpoint(source)
        exporter = _readable(checkpoint, exact, source)
        files = _models(exporter)
        engine = NativeEngine(checkpoint)
        comparison = compare(
            exporter, engine, files[ENCODER], files[DECODER], images, count, progress
        )
        comparison.refuse_failure()
        files[ANNOTATION_FILE] = _annotation_config(Path(source).name, files)
        files[REPORT_FILE] = _report(source, checkpoint, exact, files, comparison)
        _write(folder, files)
    sizes = [f"{name} {len(content) / 1e6:.2f} MB" for name, content in files.items()]
    models = [size for size in sizes if ".onnx" in size]
    return "\n".join([f"{folder}: {', '.join(models)}", *comparison.lines()])


def _readable(checkpoint: Checkpoint, exact: bool, source: str | Path) -> Exporter:
    try:
        return read_exporter(checkpoint, exact)
    except UnsupportedError as error:
        reason = str(error).removesuffix(" Use --engine simulated.")
        raise UnsupportedError(f"{source} cannot be written as ONNX. {reason}") from error


def _models(exporter: Exporter) -> dict[str, bytes]:
    """Return the models by file name.

    Programs that give photos take the model's input to have the usual side. For a model of another
    side they get a decoder of their own, which scales their points.
    """
    models = {
        ENCODER: exporter.encoder_of_pixels(),
        PHOTO_ENCODER: exporter.encoder_of_photos(),
        DECODER: exporter.decoder_of_points(exporter.side),
    }
    if exporter.side != USUAL_SIDE:
        models[PHOTO_DECODER] = exporter.decoder_of_points(USUAL_SIDE)
    return {name: model.SerializeToString() for name, model in models.items()}


def _annotation_config(name: str, files: dict[str, bytes]) -> bytes:
    settings = {
        "type": "segment_anything",
        "name": name,
        "display_name": f"{name} (carsam)",
        "encoder_model_path": PHOTO_ENCODER,
        "decoder_model_path": PHOTO_DECODER if PHOTO_DECODER in files else DECODER,
        "input_size": USUAL_SIDE,
        "max_width": USUAL_SIDE,
        "max_height": 682,
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()).encode()


def _report(
    source: str | Path,
    checkpoint: Checkpoint,
    exact: bool,
    files: dict[str, bytes],
    comparison: Comparison,
) -> bytes:
    report: dict[str, Any] = {
        "source": str(source),
        "fingerprint": checkpoint.fingerprint,
        "exact": exact,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "comparison": asdict(comparison),
        "versions": {package: version(package) for package in PACKAGES},
    }
    return (json.dumps(report, indent=1) + "\n").encode()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        with whole_folder(folder) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
    except OSError as error:
        if is_disk_full(error):
            size = sum(map(len, files.values())) / 1e6
            raise UserError(
                f"No space left on the disk of {folder.parent}; the export takes {size:.0f} MB. "
                "Free some space or choose another folder."
            ) from error
        raise UserError(f"Cannot write {folder}: {error}. Choose another folder.") from error
