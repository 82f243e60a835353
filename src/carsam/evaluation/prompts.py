"""What an engine is asked on each image: ground-truth boxes, a detector's boxes, or clicks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import Annotation, CocoImage
from carsam.evaluation.detections import Detection
from carsam.evaluation.ids import Id
from carsam.evaluation.json_reading import Box
from carsam.evaluation.warning_log import WarningLog


@dataclass(frozen=True)
class Request:
    """One mask asked for, in pixels of the original image.

    Args:
        image_id: the image.
        category_id: the category under which the mask is scored.
        box: box prompt, or None.
        point: foreground click, x and y of a pixel, or None.
        annotation: the object meant, where it is known.
        truth: the object's mask, where it is known.
        detector_score: where a detector made the box.
    """

    image_id: Id
    category_id: Id
    box: Box | None = None
    point: tuple[float, float] | None = None
    annotation: Annotation | None = None
    truth: masks.Rle | None = None
    detector_score: float | None = None


RequestMaker = Callable[
    [CocoImage, Sequence[Annotation], Sequence[Detection], WarningLog], list[Request]
]


@dataclass(frozen=True)
class PromptKind:
    """A way to prompt.

    Args:
        name: as users write it.
        requests: turns an image's annotations and detections into requests.
        multimask_output: one prompt can mean several objects, so that the engine gives three
            masks, of which the one with the highest predicted IoU is used.
        from_detections: needs a detector's result json.
    """

    name: str
    requests: RequestMaker
    multimask_output: bool = False
    from_detections: bool = False


def prompt_kind(name: str) -> PromptKind:
    """Return the kind of that name; UserError names the known ones."""
    if name not in PROMPT_KINDS:
        raise UserError(f"Unknown prompts {name!r}; expected one of {', '.join(PROMPT_KINDS)}.")
    return PROMPT_KINDS[name]


def box_requests(
    image: CocoImage,
    annotations: Sequence[Annotation],
    detections: Sequence[Detection],
    log: WarningLog,
) -> list[Request]:
    """Ask for every object by its ground-truth box; crowds are left out."""
    requests = []
    for annotation, truth in _objects(image, annotations):
        box = usable_box(annotation.box, image, annotation.id, log)
        if box is not None:
            requests.append(
                Request(
                    image.id, annotation.category_id, box=box, annotation=annotation, truth=truth
                )
            )
    return requests


def click_requests(
    image: CocoImage,
    annotations: Sequence[Annotation],
    detections: Sequence[Detection],
    log: WarningLog,
) -> list[Request]:
    """Ask for every object by one click, deepest inside its mask; crowds are left out."""
    return [
        Request(
            image.id,
            annotation.category_id,
            point=deepest_point(masks.decode(truth)),
            annotation=annotation,
            truth=truth,
        )
        for annotation, truth in _objects(image, annotations)
    ]


def detection_requests(
    image: CocoImage,
    annotations: Sequence[Annotation],
    detections: Sequence[Detection],
    log: WarningLog,
) -> list[Request]:
    """Ask for every box that a detector found."""
    requests = []
    for detection in detections:
        box = usable_box(detection.box, image, f"detection {detection.index}", log)
        if box is not None:
            requests.append(
                Request(image.id, detection.category_id, box=box, detector_score=detection.score)
            )
    return requests


PROMPT_KINDS = {
    kind.name: kind
    for kind in (
        PromptKind("boxes", box_requests),
        PromptKind("detections", detection_requests, from_detections=True),
        PromptKind("clicks", click_requests, multimask_output=True),
    )
}


def usable_box(box: Box, image: CocoImage, name: Id, log: WarningLog) -> Box | None:
    """Return the part of a box inside the image; None, with a named warning, if there is none.

    An image of unknown size, 0, has only the edges on the left and above.
    """
    x0, y0, x1, y1 = box
    width, height = image.width or math.inf, image.height or math.inf
    if x1 <= x0 or y1 <= y0:
        log.add("zero-area-box", name)
        return None
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        log.add("box-outside-image", name)
        return None
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    if max(abs(new - old) for new, old in zip(clipped, box, strict=True)) > 1:
        log.add("box-clipped", name)
    return clipped


def deepest_point(mask: np.ndarray) -> tuple[float, float]:
    """Return x and y of the pixel of `mask` (H, W) farthest from the mask's border.

    The image's edge is a border. Of equally deep pixels, the first by row, then column.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0], columns[0]
    distances = squared_distances(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    row, column = np.unravel_index(distances.argmax(), distances.shape)
    return float(left + column), float(top + row)


def squared_distances(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's squared distance (H, W) to the nearest pixel outside `mask` (H, W).

    Exact Euclidean distance: first along the columns, then the least of that plus the squared
    step along the row. A step longer than the deepest pixel changes nothing and ends the search.
    """
    inside = np.pad(mask, 1)
    height, width = inside.shape
    rows = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(inside, -1, rows), axis=0)
    below = np.minimum.accumulate(np.where(inside, height, rows)[::-1], axis=0)[::-1]
    along_column = np.minimum(rows - above, below - rows) ** 2
    nearest = along_column.copy()
    for step in range(1, width):
        if step**2 >= nearest.max():
            break
        np.minimum(nearest[:, step:], along_column[:, :-step] + step**2, out=nearest[:, step:])
        np.minimum(nearest[:, :-step], along_column[:, step:] + step**2, out=nearest[:, :-step])
    return nearest[1:-1, 1:-1]


def _objects(
    image: CocoImage, annotations: Sequence[Annotation]
) -> list[tuple[Annotation, masks.Rle]]:
    """Return the annotations that can be prompted, with their masks."""
    return [
        (annotation, masks.annotation_rle(annotation, image))
        for annotation in annotations
        if not annotation.crowd
    ]
