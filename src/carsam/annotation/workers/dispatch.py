"""Shards to workers, one after the other, and what happens when a worker dies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from carsam.annotation.job import Done, Shard
from carsam.annotation.workers.base import Begun, Died, Event, Refused, Remark, Worker, Workers
from carsam.errors import UserError
from carsam.images.remarks import Remarks
from carsam.progress import Progress

TRIES = 2
"""How often a shard is begun before it is given up: a worker may die of something that passes."""

DEATHS = 10
"""Workers that die one after the other, without a shard between them, before all is given up."""


@dataclass
class Assignment:
    """What a worker is at: its shard, the images of it that are finished, and the present one."""

    shard: Shard
    images: int = 0
    image: str = ""


@dataclass(frozen=True)
class GivenUp:
    """A shard whose workers died, the image that the last one was at, and the reason."""

    shard: Shard
    image: str
    reason: str


@dataclass
class Outcome:
    """What became of the shards."""

    done: list[Done] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)


def annotate_shards(
    workers: Workers, shards: Sequence[Shard], count: int, progress: Progress, in_images: bool
) -> Outcome:
    """Have all shards annotated by `count` workers.

    A shard whose worker dies is begun again by another one, and given up after `TRIES`.

    Args:
        in_images: steps of the progress are images; else shards.

    Raises:
        UserError: a worker cannot work, or `DEATHS` died in a row.
    """
    dispatch = _Dispatch(workers, shards, progress, in_images)
    try:
        return dispatch.run(count)
    finally:
        workers.end()


class _Dispatch:
    def __init__(
        self, workers: Workers, shards: Sequence[Shard], progress: Progress, in_images: bool
    ) -> None:
        self._workers, self._progress, self._in_images = workers, progress, in_images
        self._queue = list(reversed(shards))
        self._at: dict[Worker, Assignment] = {}
        self._tries: Counter[int] = Counter()
        self._deaths = 0
        self._outcome = Outcome()
        self._remarks = Remarks(progress.warn, "remarks on images")

    def run(self, count: int) -> Outcome:
        for _ in range(min(count, len(self._queue))):
            self._begin(self._workers.start())
        while self._at:
            for worker, event in self._workers.wait():
                self._hear(worker, event)
        self._remarks.finish()
        return self._outcome

    def _begin(self, worker: Worker) -> None:
        if self._queue:
            self._at[worker] = Assignment(self._queue.pop())
            worker.give(self._at[worker].shard)
        else:
            self._workers.dismiss(worker)

    def _hear(self, worker: Worker, event: Event) -> None:
        if isinstance(event, Refused):
            raise UserError(event.message)
        if isinstance(event, Remark):
            self._remarks.add(event.message)
        elif isinstance(event, Begun):
            self._goes_on(self._at[worker], event.image)
        elif isinstance(event, Done):
            self._finished(self._at.pop(worker), event)
            self._begin(worker)
        else:
            self._died(self._at.pop(worker), event)

    def _goes_on(self, current: Assignment, image: str) -> None:
        if self._in_images and current.image:
            current.images += 1
            self._progress.advance(note=current.image)
        current.image = image

    def _finished(self, current: Assignment, done: Done) -> None:
        self._deaths = 0
        self._outcome.done.append(done)
        # Images of a part that nobody asked for count too.
        left = (current.shard.part.images or 0) - current.images
        self._progress.advance(left if self._in_images else 1, note=current.image)

    def _died(self, current: Assignment, died: Died) -> None:
        shard, at = current.shard, f" at image {current.image}" if current.image else ""
        self._deaths += 1
        self._tries[shard.number] += 1
        said = f"The worker of shard {shard.number} died{at}: {died.reason}"
        if self._deaths == DEATHS:
            raise UserError(f"{said}. It is the {DEATHS}th in a row; nothing more is begun.")
        self._progress.advance(-current.images)
        if self._tries[shard.number] < TRIES:
            self._progress.warn(f"{said}; it is begun again.")
            self._queue.append(shard)
        else:
            self._progress.warn(f"{said}; it is given up.")
            self._outcome.given_up.append(GivenUp(shard, current.image, died.reason))
        if self._queue:
            self._begin(self._workers.start())
