"""CAR-SAM: Segment Anything with 4-bit weights and activations, measured and run on a CPU."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Recipe": "carsam.methods.recipe",
    "SAM2ImagePredictor": "carsam.predict.sam2_predictor",
    "SAM2VideoPredictor": "carsam.video.predictor",
    "Sam": "carsam.predict.sam",
    "SamAutomaticMaskGenerator": "carsam.predict.everything.generator",
    "SamPredictor": "carsam.predict.predictor",
    "annotate": "carsam.annotation.annotate",
    "evaluate": "carsam.evaluation.evaluate",
    "load": "carsam.engines.load",
    "make_recipe": "carsam.methods.registry",
    "quantize": "carsam.calibration.quantize",
    "sam_model_registry": "carsam.predict.sam",
}
"""Public names and the modules they come from; only what is used is imported."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'carsam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
