"""Engines by name, and the one way to load something that segments. Needs no torch itself."""

import warnings
from collections.abc import Callable
from pathlib import Path

from carsam.engines.base import Engine
from carsam.errors import UnsupportedError, UserError
from carsam.extras import require
from carsam.formats.bundled import is_run
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.mask_thresholds import read_thresholds
from carsam.formats.model_paths import find_float_model, find_run


def load(
    source: str | Path,
    engine: str = "auto",
    device: str = "auto",
    warn: Callable[[str], object] = warnings.warn,
    image_size: int | None = None,
) -> Engine:
    """Load a quantized run or a float model, ready to segment.

    Args:
        source: a run folder of `carsam quantize`, the bundled run `sam-mini-w4a4`, or a float
            model: `sam-mini`, a Hugging Face id or folder, or a file of weights.
        engine: `native` (integers, without torch) and `simulated` (torch) run a run folder,
            `float` (torch) a float model; `auto` takes `float` for a float model, and for a run
            `native`, or `simulated` where the run has a family or grid that `native` lacks.
        device: `auto`, `cpu` or `cuda`, for the torch engines.
        warn: told what of a float model's file was left out or assumed.
        image_size: side of a float model's inputs, in pixels; its own unless given.

    Raises:
        UserError: the engine or the size does not fit the source, or the source cannot be loaded.
    """
    if image_size is not None and is_run(source):
        raise UserError(
            f"{source} is quantized for inputs of one size; only float models take another. Give "
            "--image-size to `carsam quantize`."
        )
    if engine == "float" or (engine == "auto" and not is_run(source)):
        return _float(source, device, warn, image_size)
    if engine == "auto":
        return _best(source, device)
    if engine not in ENGINES:
        raise UserError(
            f"Engine {engine} is not known; expected auto, float, {', '.join(ENGINES)}."
        )
    return ENGINES[engine](find_run(source), device)


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`; refuse a device that is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UserError(f"Device {device} is not known; expected auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("Device cuda was asked for, but torch finds none. Use --device cpu.")
    return device


def _best(source: str | Path, device: str) -> Engine:
    try:
        return _native(source, device)
    except UnsupportedError:
        return _simulated(source, device)


def _native(source: str | Path, device: str) -> Engine:
    from carsam.engines.native_video_engine import native_engine

    return native_engine(read_checkpoint(source))


def _simulated(source: str | Path, device: str) -> Engine:
    require("quantize")
    from carsam.engines.torch_video_engine import torch_engine
    from carsam.simulation.model import load_simulated

    model = load_simulated(source)
    engine = torch_engine(model.family, model.module, model.mode, resolve_device(device))
    engine.mask_thresholds = read_thresholds(model.provenance)
    return engine


def _float(
    source: str | Path, device: str, warn: Callable[[str], object], image_size: int | None
) -> Engine:
    find_float_model(source)  # a wrong path is refused without torch too
    require("quantize")
    from carsam.engines.torch_video_engine import torch_engine
    from carsam.families import load_model

    family, model = load_model(source, warn, image_size)
    return torch_engine(family, model, "float", resolve_device(device))


ENGINES: dict[str, Callable[[str | Path, str], Engine]] = {
    "native": _native,
    "simulated": _simulated,
}
"""Engines of runs by name; each takes the folder and the device."""
