"""What workers are that annotate shards, and what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carsam.annotation.job import Done, Shard


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
