"""Checking prompts as clients give them and mapping them from the image into the frame."""

from typing import Any

import numpy as np

from carsam.errors import UserError
from carsam.images.given_arrays import finite_numbers, given_array
from carsam.images.preprocess import Frame
from carsam.images.prompts import Prompts

CORNERS = {2: "first corner of a box", 3: "second corner of a box"}
POINT_LABELS = {1: "foreground", 0: "background", -1: "not a point", **CORNERS}


def given_prompts(
    boxes: Any, points: Any, labels: Any, masks: Any, frame: Frame, mask_size: tuple[int, int]
) -> Prompts:
    """Return checked prompts in pixels of the frame.

    An array without elements beside another that has some counts as not given.

    Args:
        boxes: (P, 4), x0 y0 x1 y1 in pixels of the image, or None.
        points: (P, N, 2), x then y, or None.
        labels: (P, N), of `POINT_LABELS`, or None. Corners become `boxes`.
        masks: (P, 1, *mask_size) logits, or None.
        frame: of the image.
        mask_size: height and width of the decoder's masks.

    Raises:
        UserError: saying what is wrong, and what was expected.
    """
    boxes, points = _given("boxes", boxes), _given("points", points)
    labels = None if labels is None else given_array(labels, "labels")
    if boxes is not None and boxes.size == 0 and points is not None and points.size > 0:
        boxes = None
    if points is not None and points.size == 0 and boxes is not None and boxes.size > 0:
        points = None
        labels = None if labels is not None and labels.size == 0 else labels
    if points is not None:
        points = _checked_points(points, frame)
        labels = None if labels is None else _checked_labels(labels, points.shape[:2])
        points, labels, boxes = without_corners(points, labels, boxes)
    if boxes is not None:
        boxes = frame.map_boxes(_checked_boxes(boxes, frame))
    if points is not None:
        points = frame.map_points(points)
    if masks is not None:
        masks = _checked_masks(masks, mask_size)
    _check_counts(boxes=boxes, points=points, masks=masks)
    return Prompts(points, labels, boxes, masks)


def without_corners(
    points: np.ndarray, labels: np.ndarray | None, boxes: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return points (P, N, 2) that are no corners of a box, their labels, and the boxes (P, 4).

    The exported ONNX models of segment-anything take a box as two points, labelled 2 and 3. The
    rest is None where all points are corners.

    Raises:
        UserError: a prompt has other than one corner of each kind, or a box beside them.
    """
    corners = np.isin(labels, list(CORNERS)) if labels is not None else None
    if labels is None or corners is None or not corners.any():
        return points, labels, boxes
    if boxes is not None:
        raise UserError(
            "Found labels 2 and 3, the corners of a box, beside a box; give one of the two."
        )
    for label, meaning in CORNERS.items():
        counts = (labels == label).sum(axis=1)
        if (wrong := counts[counts != 1]).size:
            raise UserError(
                f"Found a prompt with {wrong[0]} points of label {label} ({meaning}); expected "
                "one of label 2 and one of label 3 in every prompt, or none at all."
            )
    boxes = np.concatenate([points[labels == label] for label in CORNERS], axis=1)
    count, rest = len(points), points.shape[1] - len(CORNERS)
    if rest == 0:
        return None, None, boxes
    others = points[~corners].reshape(count, rest, 2)
    return others, labels[~corners].reshape(count, rest), boxes


def one_box(box: Any) -> np.ndarray | None:
    """Return one box (4,) or (1, 4) as (1, 4); None where none is given, or an empty array."""
    numbers = _given("boxes", box)
    if numbers is None or numbers.size == 0:
        return None
    if numbers.shape not in ((4,), (1, 4)):
        raise _wrong_shape("box", numbers, "(4,)", "predict_batch takes many boxes")
    return numbers.reshape(1, 4)


def one_mask(given: Any) -> np.ndarray | None:
    """Return one prompt's mask as a batch of one; None where none is given."""
    return None if given is None else given_array(given, "mask input")[None]


def points_of_one(given: Any, what: str) -> np.ndarray | None:
    """Return one prompt's points or labels as a batch of one; None for none, or an empty array."""
    array = None if given is None else given_array(given, what)
    return None if array is None or array.size == 0 else array[None]


def _given(name: str, values: Any) -> np.ndarray | None:
    return None if values is None else finite_numbers(values, name)


def _checked_boxes(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise _wrong_shape("boxes", boxes, "(P, 4)", "each box is x0 y0 x1 y1")
    if boxes.any():
        _refuse_normalised("boxes", boxes, frame)
    x0, y0, x1, y1 = boxes.T
    (wrong,) = np.nonzero((x1 < x0) | (y1 < y0))
    if wrong.size:
        raise UserError(
            f"Found box {boxes[wrong[0]].tolist()} with its second corner left of or above the "
            "first; expected x0 y0 x1 y1 with x0 <= x1 and y0 <= y1 (not x, y, width, height)."
        )
    height, width = frame.original_size
    (wrong,) = np.nonzero(_outside(x0, x1, width) | _outside(y0, y1, height))
    if wrong.size:
        raise UserError(
            f"Found box {boxes[wrong[0]].tolist()} outside the image, which is {width} pixels wide "
            f"and {height} high; expected x0 y0 x1 y1 in pixels of the image."
        )
    return boxes


def _outside(start: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """Whether nothing from `start` to `end` is inside 0 to `size`; a line on the border is."""
    return (np.maximum(start, 0) > np.minimum(end, size)) | (
        (start < end) & ((end == 0) | (start == size))
    )


def _checked_points(points: np.ndarray, frame: Frame) -> np.ndarray:
    if points.ndim != 3 or points.shape[1] == 0 or points.shape[2] != 2:
        raise _wrong_shape("points", points, "(P, N, 2)", "each of N >= 1 points is x y")
    if (points % 1).any():
        _refuse_normalised("points", points, frame)
    return points


def _refuse_normalised(name: str, values: np.ndarray, frame: Frame) -> None:
    height, width = frame.original_size
    if max(height, width) > 1 and values.min() >= 0 and values.max() <= 1:
        shown = values.reshape(-1, values.shape[-1])[0].tolist()
        raise UserError(
            f"Found {name} with all values from 0 to 1, such as {shown}: they look normalised. "
            f"Expected pixels of the image; multiply x by its width, {width}, and y by its height, "
            f"{height}."
        )


def _checked_labels(labels: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    if labels.shape != expected:
        raise _wrong_shape("labels", labels, str(expected), "give one label for every point")
    if not np.isin(labels, list(POINT_LABELS)).all():
        found = ", ".join(f"{label:g}" for label in np.unique(labels).astype(float))
        meanings = ", ".join(f"{label} ({meaning})" for label, meaning in POINT_LABELS.items())
        raise UserError(f"Found labels [{found}]; expected {meanings}.")
    return labels.astype(np.int64)


def _checked_masks(masks: Any, mask_size: tuple[int, int]) -> np.ndarray:
    masks = finite_numbers(masks, "mask input")
    if masks.shape[1:] != (1, *mask_size):
        expected = "(1, {}, {}) for each prompt".format(*mask_size)
        raise _wrong_shape("mask input", masks, expected, "pass an earlier prediction's logits")
    return masks[:, 0].astype(np.float32)


def _check_counts(**prompts: np.ndarray | None) -> None:
    counts = {name: len(prompt) for name, prompt in prompts.items() if prompt is not None}
    if len(set(counts.values())) > 1:
        raise UserError(f"Found prompts of different number: {counts}; give equally many of each.")


def _wrong_shape(name: str, found: np.ndarray, expected: str, advice: str) -> UserError:
    return UserError(f"Found {name} of shape {found.shape}; expected {expected}: {advice}.")
