"""J and F of every object in every frame, and what a sequence and a data set make of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from carsam.errors import UserError, few
from carsam.evaluation.davis.measures import contour_accuracy, region_similarity
from carsam.evaluation.davis.sequences import Masks, VideoSequence

RECALLED = 0.5
"""A frame above it counts for recall."""


@dataclass
class Curves:
    """J and F of each object, one number for each judged frame.

    Args:
        J, F: numbers by object, in the order of the frames.
    """

    J: dict[int, list[float]] = field(default_factory=dict)
    F: dict[int, list[float]] = field(default_factory=dict)


def measure_sequence(sequence: VideoSequence, predicted: Iterable[tuple[int, Masks]]) -> Curves:
    """Judge the masks of one sequence.

    An object without a mask in a frame is not predicted there. It is judged from the first frame
    on that it is in.

    Args:
        predicted: place of each frame, in order, and its masks by object; those of frames that
            are not judged are passed over.

    Raises:
        UserError: a judged frame is missing, masks have another size than the true ones, or there
            are objects that the sequence does not have.
    """
    first = {number: place for number, (place, _) in sequence.first_masks().items()}
    curves = Curves({number: [] for number in first}, {number: [] for number in first})
    missing = set(sequence.judged)
    for place, masks in predicted:
        if place in missing:
            missing.remove(place)
            _measure_frame_(curves, sequence, place, masks, first)
    if missing:
        raise UserError(
            f"Sequence {sequence.name} has no predicted masks for {len(missing)} of its frames, "
            f"such as {sequence.frames[min(missing)].stem}; expected them for each frame."
        )
    return curves


def _measure_frame_(
    curves: Curves, sequence: VideoSequence, place: int, masks: Masks, first: Mapping[int, int]
) -> None:
    size, truth = sequence.true_masks(place)
    frame = f"frame {sequence.frames[place].stem} of {sequence.name}"
    if unknown := [number for number in masks if number not in first]:
        raise UserError(
            f"Found predicted objects {few(unknown)} in {frame}; expected {few(first)} only, the "
            "objects of its true masks. Give a prompt for each of these and for no other."
        )
    if wrong := [mask.shape for mask in masks.values() if mask.shape != size]:
        raise UserError(
            f"Found predicted masks of {wrong[0][1]} x {wrong[0][0]} pixels in {frame}; expected "
            f"{size[1]} x {size[0]}, as its true masks have."
        )
    nothing = np.zeros(size, bool)
    for number, begin in first.items():
        if place >= begin:
            pair = masks.get(number, nothing), truth.get(number, nothing)
            curves.J[number].append(region_similarity(*pair))
            curves.F[number].append(contour_accuracy(*pair))


def statistics(curve: Sequence[float]) -> dict[str, float | None]:
    """Return mean, recall and decay of a curve; None for an object that was never judged.

    Recall is the share of frames above `RECALLED`; decay is what the last quarter of the frames
    loses against the first. Perazzi et al., CVPR 2016, section 5.2; neighbouring quarters share a
    frame, as in the evaluation of 2017.
    """
    if not curve:
        return {"mean": None, "recall": None, "decay": None}
    values = np.array(curve)
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = (values[ends[part] : ends[part + 1] + 1].mean() for part in (0, 3))
    return {
        "mean": float(values.mean()),
        "recall": float((values > RECALLED).mean()),
        "decay": float(first - last),
    }
