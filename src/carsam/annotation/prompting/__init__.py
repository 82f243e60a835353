"""Ways to prompt by name; a new one is a line here and a file beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from carsam.annotation.prompting.base import Prompting
from carsam.annotation.prompting.box_table import read_box_table
from carsam.annotation.prompting.boxes import BoxPrompting
from carsam.annotation.prompting.everything import EverythingPrompting
from carsam.errors import UserError
from carsam.evaluation.coco_entries import read_entries
from carsam.evaluation.ids import Id
from carsam.evaluation.warning_log import WarningLog
from carsam.progress import Progress


@dataclass(frozen=True)
class Asked:
    """What an annotation asks for.

    Args:
        source: what is annotated.
        boxes: json of boxes, or None.
        points: along a side of an image, or None.
    """

    source: str
    boxes: Path | None = None
    points: int | None = None


def find_prompting(name: str, asked: Asked, progress: Progress) -> Prompting:
    """Return the way to prompt of that name.

    Raises:
        UserError: it is unknown, or something is missing for it, or too much.
    """
    if name not in PROMPTINGS:
        raise UserError(f"Unknown prompts {name!r}; expected one of {', '.join(PROMPTINGS)}.")
    return PROMPTINGS[name](asked, progress)


def _boxes(asked: Asked, progress: Progress) -> Prompting:
    if asked.points is not None:
        raise UserError("--points belongs to --prompts everything; leave it away.")
    is_coco = asked.source.lower().endswith(".json")
    if asked.boxes is None and not is_coco:
        raise UserError(
            f"Found no boxes to prompt with on the images of {asked.source}; give --boxes FILE, a "
            "COCO json or a list of detections, or --prompts everything."
        )
    table = read_box_table(asked.boxes or Path(asked.source), progress)
    names: Mapping[Id, str] = {}
    if is_coco and not table.categories:  # detections have numbers only
        names = read_entries(asked.source, WarningLog(asked.source)).category_names
    return BoxPrompting(table, names)


def _everything(asked: Asked, progress: Progress) -> Prompting:
    if asked.boxes is not None:
        raise UserError("--boxes belongs to --prompts boxes; leave it away.")
    points = 32 if asked.points is None else asked.points
    if points < 1:
        raise UserError(f"points is {points}, expected 1 or more.")
    return EverythingPrompting(points)


PROMPTINGS: dict[str, Callable[[Asked, Progress], Prompting]] = {
    "boxes": _boxes,
    "everything": _everything,
}
