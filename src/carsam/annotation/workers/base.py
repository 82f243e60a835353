"""Workers that annotate shards: what they tell, and what happens when one of them dies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carsam.annotation.job import Done, Shard
from carsam.errors import UserError
from carsam.progress import Progress

TRIES = 2
"""How often a shard is begun before it is given up: a worker may die of something that passes."""


@dataclass(frozen=True)
class Begun:
    """A worker is at an image."""

    image: str


@dataclass(frozen=True)
class Remark:
    """A worker warns of something."""

    message: str


@dataclass(frozen=True)
class Refused:
    """A worker cannot work, for a reason that the user can mend."""

    message: str


@dataclass(frozen=True)
class Died:
    """A worker is no more, and what is known of the reason."""

    reason: str


Event = Begun | Remark | Refused | Died | Done


class Worker(Protocol):
    """Annotates one shard at a time."""

    def give(self, shard: Shard) -> None:
        """Begin a shard; events tell what becomes of it."""
        ...


class Workers(Protocol):
    """Workers of one kind, for one job."""

    def start(self) -> Worker:
        """Return a new worker."""
        ...

    def wait(self) -> Sequence[tuple[Worker, Event]]:
        """Return what workers tell, as soon as one of them does."""
        ...

    def dismiss(self, worker: Any) -> None:
        """End a worker that has nothing more to do."""
        ...

    def end(self) -> None:
        """End all workers, whatever they are at."""
        ...


@dataclass
class Assignment:
    """What a worker is at."""

    shard: Shard
    images: int = 0
    image: str = ""


@dataclass(frozen=True)
class GivenUp:
    """A shard whose workers died, the image they were at, and the last one's reason."""

    shard: Shard
    image: str
    reason: str


def annotate_shards(
    workers: Workers, shards: Sequence[Shard], count: int, progress: Progress, in_images: bool
) -> tuple[list[Done], list[GivenUp]]:
    """Have all shards annotated by `count` workers.

    A shard whose worker dies is begun again by another one, and given up after `TRIES`.

    Args:
        in_images: steps of the progress are images; else shards.

    Raises:
        UserError: a worker cannot work.
    """
    queue = list(reversed(shards))
    at: dict[Worker, Assignment] = {}
    tries: dict[int, int] = {}
    done: list[Done] = []
    given_up: list[GivenUp] = []

    def begin(worker: Worker) -> None:
        if queue:
            at[worker] = Assignment(queue.pop())
            worker.give(at[worker].shard)
        else:
            workers.dismiss(worker)

    try:
        for _ in range(min(count, len(queue))):
            begin(workers.start())
        while at:
            for worker, event in workers.wait():
                current = at[worker]
                if isinstance(event, Begun):
                    if in_images and current.image:
                        current.images += 1
                        progress.advance(note=current.image)
                    current.image = event.image
                elif isinstance(event, Remark):
                    progress.warn(event.message)
                elif isinstance(event, Refused):
                    raise UserError(event.message)
                elif isinstance(event, Done):
                    done.append(event)
                    steps = (current.shard.part.images or 0) - current.images if in_images else 1
                    progress.advance(steps, note=current.image)
                    del at[worker]
                    begin(worker)
                else:
                    del at[worker]
                    number = current.shard.number
                    tries[number] = tries.get(number, 0) + 1
                    if in_images:
                        progress.advance(-current.images)
                    if tries[number] < TRIES:
                        progress.warn(_said(current, event.reason, "it is begun again"))
                        queue.append(current.shard)
                    else:
                        progress.warn(_said(current, event.reason, "it is given up"))
                        given_up.append(GivenUp(current.shard, current.image, event.reason))
                    if queue:
                        begin(workers.start())
        return done, given_up
    finally:
        workers.end()


def _said(current: Assignment, reason: str, then: str) -> str:
    at = f" at image {current.image}" if current.image else ""
    return f"The worker of shard {current.shard.number} died{at}: {reason}; {then}."
