"""What a family of models that track objects through videos tells beside `base.Family`.

A frame is encoded once (`Family.encode`) for all objects. Then, for one object at a time:

    recall     the embedding of the frame, as the memory of this object makes it
    track      the masks that the decoder finds there, and a pointer to the object
    remember   what a later frame will recall of this one, from its mask

All three are functions of their arguments alone. Which frames are recalled, and what time does to
them, is the session's part, which is the same for all engines; its numbers are in `engines.video`.
"""

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from carsam.families.base import Family


class Recollection(NamedTuple):
    """What is remembered of one object: n tokens of some frames, then of pointers.

    Args:
        values: (1, n, D), D channels of a memory (64 in SAM 2).
        positions: (1, n, D), added to the values where keys are made of them.
        cells: (n,) int64, the cell of the memory's grid whose rotary position a key has; -1 has
            none, as pointers. SAM 2 has the cells of one grid (h * w) for each frame, EdgeTAM -1
            for the latents of its perceiver that stand for no place.
    """

    values: Tensor
    positions: Tensor
    cells: Tensor


class Tracked(NamedTuple):
    """What the decoder finds of P objects in a frame.

    Args:
        masks: logits (1, P, M, 4h, 4w), as the decoder makes them; where the score is not
            positive the session replaces them.
        ious: predicted (1, P, M).
        scores: logits (1, P, 1) of the object being there at all.
        pointers: (1, P, M, C), one for each mask; with M = 1 it is always the first token's,
            also where the mask is another token's. They hold no trace of the score yet.
    """

    masks: Tensor
    ious: Tensor
    scores: Tensor
    pointers: Tensor


PER_OBJECT = ("points", "labels", "memory_masks", "memory_scores", "pointers")
"""What of a clip's state (`VideoFamily`) has a row for every object."""


class VideoFamily(Family, Protocol):
    """A family with a memory; what `encode` returns, its first part above all, has none yet.

    Its stages are cut so that they calibrate on clips too: a frame in which P objects are followed,
    with R frames that are remembered of all of them. `start` takes beside the pixels (1 + R, 3, S,
    S), the remembered frames last, in the order of the memory's tokens:

        points, labels      (1, P, 1, 2), (1, P, 1): no prompt, label -1
        memory_masks        logits (P, R, 4h, 4w) of the remembered frames; the first was prompted
        memory_scores       (P, R), of `Tracked`
        pointers            (P, m, D), tokens of pointers
        memory_positions    (n, D), of `Recollection`; n is R frames' tokens and then m
        memory_cells        (n,), of `Recollection`
    """

    def recall(
        self, model: Any, embedding: tuple[Tensor, ...], memory: Recollection | None
    ) -> tuple[Tensor, ...]:
        """Return the embedding of a frame as `track` reads it, of the same shapes.

        Args:
            embedding: of `encode`.
            memory: of one object; None where nothing came before, as for an image.
        """
        ...

    def track(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> Tracked:
        """Decode prompts; an object that is only followed has one point that is none, label -1.

        Args:
            embedding: of `recall`; of `encode` where a mask is given from outside, which SAM 2
                decodes only for its pointer.
            multimask_output: M is 3, otherwise 1.
            prompts: as of `Family.decode`.
        """
        ...

    def remember(
        self, model: Any, embedding: tuple[Tensor, ...], masks: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a frame's tokens (P, n, D) of P objects, and their positions (n, D).

        Args:
            embedding: of `encode`.
            masks: (P, 1, M, M) as the memory encoder reads them, such as 20 sigmoid(logits) - 10;
                M is S in SAM 2.
            scores: logits (P, 1) of the objects being there.
        """
        ...
