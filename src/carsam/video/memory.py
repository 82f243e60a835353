"""What is remembered of one object, and which of it a frame recalls.

Ravi et al., SAM 2 (arXiv 2408.00714), section 4, "memory attention" and "memory bank". Which frames
are recalled, in which order and at which temporal distance, follows `SAM2Base.
_prepare_memory_conditioned_features` of Meta's package.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from carsam.engines.video import MemoryNumbers, Recollection
from carsam.errors import UserError
from carsam.video.arithmetic import from_bfloat16, sines


@dataclass(frozen=True)
class Output:
    """What was found of an object in one frame.

    Args:
        logits: (4h, 4w) float32, low resolution.
        pointer: (C,) float32.
        score: logit of the object being there.
        tokens: (n, D) bfloat16 bits, the frame's memory; None before it is made, or forgotten.
        positions: (n, D) float32 of the tokens, shared by all frames.
    """

    logits: np.ndarray
    pointer: np.ndarray
    score: float
    tokens: np.ndarray | None = None
    positions: np.ndarray | None = None


@dataclass
class ObjectMemory:
    """The outputs of one object, by frame.

    Args:
        numbers: of the model.
        prompted: of frames that always are recalled (conditioning frames).
        followed: of all others.
        directions: frames that were propagated to, and whether in reverse.
    """

    numbers: MemoryNumbers
    prompted: dict[int, Output] = field(default_factory=dict)
    followed: dict[int, Output] = field(default_factory=dict)
    directions: dict[int, bool] = field(default_factory=dict)

    def output(self, frame: int) -> Output | None:
        """Return what was found in a frame, if it is still known."""
        return self.prompted.get(frame) or self.followed.get(frame)

    def given_up(self, frame: int) -> bool:
        """Whether an output was known once and is not any more."""
        return frame in self.directions and self.output(frame) is None

    def recall(self, frame: int, frames: int, reverse: bool) -> Recollection:
        """Return what a frame recalls: tokens of frames first, then pointers.

        Args:
            frame: that recalls.
            frames: of the video.
            reverse: time runs backwards.

        Raises:
            UserError: a frame that would be recalled was followed and has been forgotten, or the
                object has no prompt.
        """
        if not self.prompted:
            raise UserError(
                f"Frame {frame} cannot be followed to: no frame has a prompt of the object any "
                "more. Add one, or forget the object."
            )
        nearest, others = self._nearest_prompted(frame)
        values, positions = [], []
        for distance, output in self._with_tokens(frame, reverse, nearest, others):
            assert output.tokens is not None and output.positions is not None
            values.append(from_bfloat16(output.tokens))
            positions.append(output.positions + self.numbers.frame_times[distance - 1])
        cells = [np.arange(len(part)) for part in values]
        pointers = list(self._pointers(frame, frames, reverse, nearest, others))
        if pointers:
            steps, vectors = zip(*pointers, strict=True)
            pieces = np.stack(vectors).reshape(-1, values[0].shape[1])  # of D channels each
            times = self._pointer_times(np.array(steps), frames, values[0].shape[1])
            values.append(pieces)
            positions.append(times.repeat(len(pieces) // len(steps), axis=0))
            cells.append(np.full(len(pieces), -1))
        return Recollection(*(np.concatenate(parts) for parts in (values, positions, cells)))

    def forget(self, frame: int) -> None:
        """Keep only what a frame near this one, or near a prompt, can still recall.

        Near is as far as pointers are recalled, so that the last frames can be corrected.
        """
        anchors, near = (frame, *self.prompted), self.numbers.pointers
        for other, output in list(self.followed.items()):
            distance = min(abs(other - anchor) for anchor in anchors)
            if distance >= near + self.numbers.pointers - 1:
                del self.followed[other]
            elif distance >= near + self.numbers.frames - 1 and output.tokens is not None:
                self.followed[other] = replace(output, tokens=None)

    def _nearest_prompted(self, frame: int) -> tuple[dict[int, Output], dict[int, Output]]:
        """Return the prompted outputs that are recalled whatever their distance, and the rest.

        They are the last before, the first from here on, then those next in time.
        """
        limit, prompted = self.numbers.conditioning, self.prompted
        if limit == -1 or len(prompted) <= limit:
            return prompted, {}
        before = [max((other for other in prompted if other < frame), default=None)]
        behind = [min((other for other in prompted if other >= frame), default=None)]
        chosen = [other for other in before + behind if other is not None]
        rest = sorted((o for o in prompted if o not in chosen), key=lambda o: abs(o - frame))
        chosen += rest[: limit - len(chosen)]
        return (
            {other: prompted[other] for other in chosen},
            {other: output for other, output in prompted.items() if other not in chosen},
        )

    def _with_tokens(
        self,
        frame: int,
        reverse: bool,
        nearest: dict[int, Output],
        others: dict[int, Output],
    ) -> Iterator[tuple[int, Output]]:
        """Yield the outputs whose tokens are recalled, and how far they are; 0 for prompted."""
        yield from ((0, output) for output in nearest.values())
        for distance in range(self.numbers.frames - 1, 0, -1):
            other = frame + distance if reverse else frame - distance
            found = self._neighbour(other, others, frame)
            if found is not None:
                if found.tokens is None:
                    raise _forgotten(other, frame)
                yield distance, found

    def _pointers(
        self,
        frame: int,
        frames: int,
        reverse: bool,
        nearest: dict[int, Output],
        others: dict[int, Output],
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the steps to the pointers that are recalled, positive into the past, and them."""
        sign = -1 if reverse else 1
        for other, output in nearest.items():
            if (frame - other) * sign >= 0:
                yield (frame - other) * sign, output.pointer
        for distance in range(1, min(frames, self.numbers.pointers)):
            other = frame - distance * sign
            found = self._neighbour(other, others, frame)
            if found is not None:
                yield distance, found.pointer

    def _neighbour(self, other: int, others: dict[int, Output], frame: int) -> Output | None:
        if self.given_up(other):
            raise _forgotten(other, frame)
        return self.followed.get(other) or others.get(other)

    def _pointer_times(self, steps: np.ndarray, frames: int, channels: int) -> np.ndarray:
        """Return the positions (n, D) of pointers, so many steps away."""
        if self.numbers.pointer_times is None:
            return np.zeros((len(steps), channels), np.float32)
        weight, bias = self.numbers.pointer_times
        most = max(1, min(frames, self.numbers.pointers) - 1)
        encoded = sines(steps / most, weight.shape[1])
        return (encoded @ weight.T.astype(np.float64) + bias).astype(np.float32)


def _forgotten(other: int, frame: int) -> UserError:
    return UserError(
        f"Frame {frame} needs what was found in frame {other}, which is not kept any more. Start "
        "from a frame with a prompt, or let the session keep everything: keep_all=True."
    )
