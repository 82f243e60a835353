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
    video: bool = False,
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
        video: objects will be followed through videos: `auto` takes an engine that runs the
            memory, if the model has one.

    Raises:
        UserError: the engine does not fit the source, or the source cannot be loaded.
    """
    if engine == "auto":
        return _best(source, device, video) if is_run(source) else _float(source, device, warn)
    if engine == "float":
        return _float(source, device, warn)
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


def _best(source: str | Path, device: str, video: bool) -> Engine:
    from carsam.engines.native_engine import IMAGES_ONLY

    if video and read_checkpoint(source).manifest["family"] in IMAGES_ONLY:
        return _simulated(source, device)
    try:
        return _native(source, device)
    except UnsupportedError:
        return _simulated(source, device)


def _native(source: str | Path, device: str) -> Engine:
    from carsam.engines.native_engine import NativeEngine

    return NativeEngine(read_checkpoint(source))


def _simulated(source: str | Path, device: str) -> Engine:
    require("quantize")
    from carsam.engines.torch_video_engine import torch_engine
    from carsam.simulation.model import load_simulated

    model = load_simulated(source)
    engine = torch_engine(model.family, model.module, model.mode, resolve_device(device))
    engine.mask_thresholds = read_thresholds(model.provenance)
    return engine


def _float(source: str | Path, device: str, warn: Callable[[str], object]) -> Engine:
    find_float_model(source)  # a wrong path is refused without torch too
    require("quantize")
    from carsam.engines.torch_video_engine import torch_engine
    from carsam.families import load_model

    family, model = load_model(source, warn)
    return torch_engine(family, model, "float", resolve_device(device))


ENGINES: dict[str, Callable[[str | Path, str], Engine]] = {
    "native": _native,
    "simulated": _simulated,
}
"""Engines of runs by name; each takes the folder and the device."""
