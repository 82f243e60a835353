"""One video and the objects followed in it: prompts, corrections, propagation, with any engine.

The order of events is that of `SAM2VideoPredictor` of Meta's package, release 2.1 of December 2024.
Memory is bounded: frames are read when they are needed, masks leave through a generator, and of
each object only what can still be recalled is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from carsam.engines.base import Embedding
from carsam.engines.video import MemoryNumbers, VideoEngine
from carsam.errors import UserError, few
from carsam.images.preprocess import Frame
from carsam.images.prompts import Prompts
from carsam.predict.upscale import upscale_masks
from carsam.video.arithmetic import (
    ABSENT,
    LARGEST_LOGIT,
    MASK_LOGIT,
    logits_of_mask,
    probabilities,
    prompt_of_mask,
    resized,
    resized_mask,
    to_bfloat16,
    without_overlaps,
)
from carsam.video.frames import Frames, frame_pixels
from carsam.video.memory import ObjectMemory, Output

SHRUNK = 4
"""Pixels of a remembered mask along a side of one that the decoder makes."""

NOT_A_POINT = Prompts(np.zeros((1, 1, 2), np.float32), np.full((1, 1), -1, np.int64))
"""The prompt of an object that is only followed."""


@dataclass(frozen=True)
class Settings:
    """How a session treats masks and corrections.

    Args:
        non_overlap_masks: a pixel belongs to one object at most.
        binarize_prompted: memories of prompted frames are made of masks of 0 and 1, as people see
            them, instead of probabilities.
        corrections_condition: frames that are corrected after they were followed are recalled
            from then on as prompted ones are. Without it, propagation computes them anew.
        keep_all: nothing is forgotten, so that any old frame can be corrected; memory grows with
            every frame and object.
        memory_frames: that are recalled at most beside those with prompts, the nearest; as many as
            the model was trained with unless given. Fewer are faster and follow less well.
    """

    non_overlap_masks: bool = False
    binarize_prompted: bool = True
    corrections_condition: bool = True
    keep_all: bool = False
    memory_frames: int | None = None

    def numbers(self, memory: MemoryNumbers) -> MemoryNumbers:
        """Return the numbers of a session with a model.

        Raises:
            UserError: the model does not recall so many frames.
        """
        if self.memory_frames is None:
            return memory
        if not 0 <= self.memory_frames < memory.frames:
            raise UserError(
                f"Found {self.memory_frames} memory frames; expected 0 to {memory.frames - 1}, as "
                "many as the model was trained with."
            )
        return replace(memory, frames=1 + self.memory_frames)


@dataclass
class FollowedObject:
    """One object: its memory, prompts, and outputs of prompts that no memory was made of yet."""

    memory: ObjectMemory
    prompts: dict[int, Prompts | None] = field(default_factory=dict)
    new_prompted: dict[int, Output] = field(default_factory=dict)
    new_followed: dict[int, Output] = field(default_factory=dict)

    def output(self, frame: int, prompted: bool) -> Output | None:
        """Return the newest output of a frame."""
        new = self.new_prompted if prompted else self.new_followed
        return new.get(frame) or self.memory.output(frame)


class Session:
    """Follows objects through one video.

    Args:
        engine: of a model with a memory.
        frames: of the video.
        settings: how masks and corrections are treated.

    Attributes:
        objects: by the numbers that users gave them, in the order in which they came.
    """

    def __init__(
        self, engine: VideoEngine, frames: Frames, settings: Settings | None = None
    ) -> None:
        self.engine, self.frames = engine, frames
        self.settings = settings or Settings()
        self._numbers = self.settings.numbers(engine.memory)
        self.objects: dict[int, FollowedObject] = {}
        self.frame = Frame(frames.size, engine.framing)
        self._embedding: tuple[int, Embedding] | None = None
        self._positions: np.ndarray | None = None

    def add_prompts(self, index: int, number: int, prompts: Prompts) -> None:
        """Prompt an object in a frame with points or a box, in the input frame's pixels."""
        followed = self._object(number)
        fresh = _is_fresh(followed, index)
        before = followed.output(index, fresh or self.settings.corrections_condition)
        if before is not None:
            logits = before.logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT)
            prompts = replace(prompts, masks=logits[None])
        reverse = followed.memory.directions.get(index, False)
        output = self._decode(followed, index, prompts, fresh, reverse)
        self._keep_new(number, followed, index, replace(prompts, masks=None), output, fresh)

    def add_mask(self, index: int, number: int, mask: np.ndarray) -> None:
        """Prompt an object in a frame with its mask (H, W) bool.

        The mask is the output; the decoder sees it for the object's pointer alone.
        """
        followed = self._object(number)
        fresh = _is_fresh(followed, index)
        side = self.engine.framing.side
        mask = resized_mask(mask, (side, side))
        there = bool(mask.any())
        numbers = self.engine.memory
        low = numbers.mask_side // SHRUNK
        given = prompt_of_mask(mask, numbers.mask_kernel, low)[None]
        found = self.engine.track(self._embed(index), replace(NOT_A_POINT, masks=given), False)
        # The decoder's own score counts first, then whether the mask is empty.
        seen = there and found.scores[0, 0] > 0
        output = Output(
            logits_of_mask(mask, low),
            found.pointers[0, 0] if seen else numbers.no_pointer,
            MASK_LOGIT if there else -MASK_LOGIT,
        )
        self._keep_new(number, followed, index, None, output, fresh)

    def clear_prompts(self, index: int, number: int) -> None:
        """Take back an object's prompts in a frame; what was found there stays as if followed."""
        followed = self._object(number)
        for part in (followed.prompts, followed.new_prompted, followed.new_followed):
            part.pop(index, None)
        output = followed.memory.prompted.pop(index, None)
        if output is not None:
            followed.memory.followed[index] = output
            followed.memory.directions.pop(index, None)

    def propagate(
        self, start: int | None = None, most: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Follow all objects from frame to frame.

        Args:
            start: first frame; the first with a prompt unless given.
            most: frames after it; all to the end, or to the beginning in reverse, unless given.

        Yields:
            Index of the frame and logits (N, H, W) of the objects in order.

        Raises:
            UserError: an object has no prompt, or the start cannot be recalled any more.
        """
        self._make_memories()
        if start is None:
            start = min(min(each.memory.prompted) for each in self.objects.values())
        most = len(self.frames) if most is None else most
        if reverse:
            order = range(start, max(start - most, 0) - 1, -1) if start > 0 else range(0)
        else:
            order = range(start, min(start + most, len(self.frames) - 1) + 1)
        for index in order:
            logits = [self._follow(each, index, reverse) for each in self.objects.values()]
            yield index, self._apart(upscale_masks(np.stack(logits), self.frame))

    def masks_of(self, index: int, prompted: bool) -> np.ndarray:
        """Return logits (N, H, W) of a frame's newest outputs; `ABSENT` where there is none."""
        logits = np.full((len(self.objects), *self.frames.size), ABSENT, np.float32)
        for place, followed in enumerate(self.objects.values()):
            output = followed.output(index, prompted)
            if output is not None:
                logits[place] = upscale_masks(output.logits, self.frame)
        return self._apart(logits)

    def remove(self, number: int) -> list[int]:
        """Forget an object; return the frames in which it had prompts."""
        return sorted(self.objects.pop(number).prompts)

    def reset(self) -> None:
        """Forget all objects."""
        self.objects.clear()

    def _apart(self, logits: np.ndarray) -> np.ndarray:
        return without_overlaps(logits) if self.settings.non_overlap_masks else logits

    def _object(self, number: int) -> FollowedObject:
        return self.objects.get(number) or FollowedObject(ObjectMemory(self._numbers))

    def _keep_new(
        self,
        number: int,
        followed: FollowedObject,
        index: int,
        prompts: Prompts | None,
        output: Output,
        fresh: bool,
    ) -> None:
        self.objects[number] = followed  # only now that nothing can fail
        prompted = fresh or self.settings.corrections_condition
        (followed.new_prompted if prompted else followed.new_followed)[index] = output
        followed.prompts[index] = prompts

    def _follow(self, followed: FollowedObject, index: int, reverse: bool) -> np.ndarray:
        """Return an object's logits (4h, 4w) in a frame, which it remembers."""
        memory = followed.memory
        output = memory.prompted.get(index)
        if output is None:
            output = self._decode(followed, index, NOT_A_POINT, False, reverse)
            memory.followed[index] = self._remember(output, index, False)
        memory.directions[index] = reverse
        if not self.settings.keep_all:
            memory.forget(index)
        return output.logits

    def _decode(
        self, followed: FollowedObject, index: int, prompts: Prompts, fresh: bool, reverse: bool
    ) -> Output:
        """Return what the decoder finds of an object where it is prompted, or followed."""
        numbers, memory = self.engine.memory, followed.memory
        recalled = None if fresh else memory.recall(index, len(self.frames), reverse)
        embedding = self.engine.recall(self._embed(index), recalled)
        count = 0 if prompts is NOT_A_POINT else number_of_points(prompts)
        several = numbers.points[0] <= count <= numbers.points[1]
        found = self.engine.track(embedding, prompts, several)
        best = int(found.ious[0].argmax())
        score = float(found.scores[0, 0])
        there = score > 0
        logits = found.masks[0, best]
        return Output(
            logits if there else np.full_like(logits, ABSENT),
            found.pointers[0, best] if there else numbers.no_pointer,
            score,
        )

    def _remember(self, output: Output, index: int, prompted: bool) -> Output:
        """Return an output with the memory of its frame."""
        numbers, side = self.engine.memory, self.engine.framing.side
        logits = upscale_masks(output.logits, Frame((side, side), self.engine.framing))
        logits = resized(logits, numbers.mask_side)
        binary = prompted and self.settings.binarize_prompted
        mask = (logits > 0).astype(np.float32) if binary else probabilities(logits)
        mask = mask * np.float32(numbers.mask_scale) + np.float32(numbers.mask_bias)
        scores = np.array([[output.score]], np.float32)
        tokens, positions = self.engine.remember(self._embed(index), mask[None], scores)
        if self._positions is None:
            self._positions = positions  # the same for all frames and objects
        return replace(output, tokens=to_bfloat16(tokens[0]), positions=self._positions)

    def _make_memories(self) -> None:
        """Remember all frames that were prompted since the last propagation."""
        if not self.objects:
            raise UserError("Found no prompt for any object; add a mask, a box or points first.")
        for followed in self.objects.values():
            memory = followed.memory
            for new, known in (
                (followed.new_followed, memory.followed),
                (followed.new_prompted, memory.prompted),
            ):
                for index, output in new.items():
                    known[index] = self._remember(output, index, True)
                new.clear()
            for index in memory.prompted:
                memory.followed.pop(index, None)
        bare = [number for number, each in self.objects.items() if not each.memory.prompted]
        if bare:
            raise UserError(
                f"Found no prompt for objects {few(bare)}; add a mask, a box or points, or remove "
                "the objects."
            )

    def _embed(self, index: int) -> Embedding:
        """Return a frame's embedding; only the last one is kept."""
        if self._embedding is None or self._embedding[0] != index:
            pixels = frame_pixels(self.frames[index], self.engine.framing)
            self._embedding = index, self.engine.encode(pixels)
        return self._embedding[1]


def number_of_points(prompts: Prompts) -> int:
    """Return the points of the only prompt; a box has two."""
    points = 0 if prompts.points is None else prompts.points.shape[1]
    return points + (0 if prompts.boxes is None else 2)


def _is_fresh(followed: FollowedObject, index: int) -> bool:
    """Whether an object was not followed to a frame yet, which then recalls nothing."""
    memory = followed.memory
    if memory.given_up(index):
        raise UserError(
            f"Frame {index} was followed and its masks are not kept any more, so that it "
            "cannot be corrected. Let the session keep everything: keep_all=True."
        )
    return index not in memory.directions
