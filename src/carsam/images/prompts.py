"""Prompts in pixels of the model's input frame, as every engine takes them."""

from dataclasses import dataclass

import numpy as np

from carsam.errors import UserError


@dataclass(frozen=True)
class Prompts:
    """Prompts for P masks of one image, in pixels of the model's S x S input frame.

    Where nothing is given, P is 1, and the model says what it sees without being asked. A
    UserError is raised where one of `points` and `labels` is given without the other.

    Args:
        points: (P, N, 2) float32, x then y.
        labels: (P, N) int64: 1 foreground, 0 background, -1 not a point. Given with `points`.
        boxes: (P, 4) float32, x0 y0 x1 y1.
        masks: (P, 4h, 4w) float32 logits of an earlier prediction.
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.points is None) != (self.labels is None):
            names = ("labels", "points") if self.points is None else ("points", "labels")
            raise UserError("Found {} without {}; give one label for every point.".format(*names))

    def __len__(self) -> int:
        given = (self.points, self.boxes, self.masks)
        return next((len(field) for field in given if field is not None), 1)

    def __getitem__(self, chosen: slice) -> "Prompts":
        """Prompts of some of the masks, to decode in chunks."""
        fields = (self.points, self.labels, self.boxes, self.masks)
        return Prompts(*(None if field is None else field[chosen] for field in fields))
