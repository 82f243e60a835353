"""Weights of SAM 3's tracker, by itself or among those of all of SAM 3, as transformers keeps them.

All of SAM 3 is a detector and the tracker, `sam3_video`. Both share the detector's backbone, and
each has a neck of its own. transformers keeps a tracker under the same names.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from carsam.families.sam2.weights import VIDEO_PARTS
from carsam.families.weight_files import Contents

TYPES = ("sam3_tracker", "sam3_tracker_video")
WHOLE = "sam3_video"
"""The type of all of SAM 3, whose tracker is one of `TYPES`."""

TRACKER, DETECTOR = "tracker_model.", "detector_model."
PARTS = {
    f"{DETECTOR}vision_encoder.backbone.": "vision_encoder.backbone.",
    "tracker_neck.": "vision_encoder.neck.",
}
"""What stands beside a tracker's own tensors -> what it is called in a tracker by itself."""


def tracker_config(config: Any) -> Any:
    """Return the configuration of the tracker in one of all of SAM 3; any other as it is."""
    if config.model_type != WHOLE:
        return config
    tracker = config.tracker_config
    tracker.name_or_path = config.name_or_path
    return tracker


def tracker_contents(
    contents: Contents, model_type: str, origin: str, warn: Callable[[str], object]
) -> Contents:
    """Return the tensors of a tracker under the names that they have in a tracker by itself.

    Args:
        model_type: of the tracker, one of `TYPES`.
        origin: the file's name, for messages.
        warn: told what was left out.
    """
    names = {name: _in_tracker(name) for name in contents.tensors}
    if any(name.startswith(DETECTOR) for name in names.values()):
        warn(f"{origin} can find objects by words too; only its tracker is loaded.")
    kept = {name: own for name, own in names.items() if not own.startswith(DETECTOR)}
    if model_type == TYPES[0] and _memory(kept.values()):
        warn(f"{origin} can segment videos too; only what images need is loaded.")
        of_videos = set(_memory(kept.values()))
        kept = {name: own for name, own in kept.items() if own not in of_videos}
    tensors: dict[str, Tensor] = {own: contents.tensors[name] for name, own in kept.items()}
    holders = {own: contents.holders[name] for name, own in kept.items()}
    return Contents(tensors, holders, tuple(tensors))


def _in_tracker(name: str) -> str:
    own = name.removeprefix(TRACKER)
    for prefix, there in PARTS.items():
        if own.startswith(prefix):
            return there + own.removeprefix(prefix)
    return own


def _memory(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.partition(".")[0] in VIDEO_PARTS]
