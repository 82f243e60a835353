"""Workers that are actors of Ray, on this machine or on those of a cluster."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from carsam.annotation.annotator import Annotator
from carsam.annotation.job import Job, Shard
from carsam.annotation.workers.base import Begun, Died, Event, Refused, Remark
from carsam.errors import UserError
from carsam.extras import require

ADDRESS = "RAY_ADDRESS"
"""Names the cluster that Ray connects to."""


class RayWorker:
    """One actor, and what it was asked last."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.answer: Any = None

    def give(self, shard: Shard) -> None:
        """Begin a shard."""
        self.answer = self.actor.annotate.remote(shard)


class RayWorkers:
    """Actors for one job. They need the model, the source and the output where they run.

    Ray is started on this machine, unless $RAY_ADDRESS names a cluster or Ray was started already.
    """

    def __init__(self, job: Job, count: int) -> None:
        require("ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            own: dict[str, Any] = {"address": "local", "num_cpus": count * job.threads}
            there = {} if ADDRESS in os.environ else {**own, "include_dashboard": False}
            ray.init(log_to_driver=False, logging_level=logging.WARNING, **there)
        # Ray starts an actor that died no more: its shard is given to another one by whoever asks.
        self._actor = ray.remote(num_cpus=job.threads, max_restarts=0)(_Actor)
        self._job = ray.put(job)
        self._workers: list[RayWorker] = []

    def start(self) -> RayWorker:
        """Start an actor; it waits where all processors are taken."""
        self._workers.append(RayWorker(self._actor.remote(self._job)))
        return self._workers[-1]

    def wait(self) -> Sequence[tuple[RayWorker, Event]]:
        """Return the events of an actor that has finished a shard, or died."""
        (ready, *_), _ = self._ray.wait([w.answer for w in self._workers if w.answer is not None])
        worker = next(worker for worker in self._workers if worker.answer is ready)
        worker.answer = None
        try:
            events: list[Event] = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            self.dismiss(worker)
            events = [Died(f"{type(error).__name__}, {str(error).splitlines()[0]}")]
        return [(worker, event) for event in events]

    def dismiss(self, worker: RayWorker) -> None:
        """End an actor, so that another one gets its processors."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)

    def end(self) -> None:
        """End the actors, and Ray where it was started for them."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        if self._started:
            self._ray.shutdown()


class _Actor:
    """An `Annotator` in a process of Ray; it answers with the events of a whole shard."""

    def __init__(self, job: Job) -> None:
        self._events: list[Event] = []
        self._annotator: Annotator | None = None
        try:
            self._annotator = Annotator(job, lambda message: self._events.append(Remark(message)))
        except UserError as error:
            self._events.append(Refused(str(error)))

    def annotate(self, shard: Shard) -> list[Event]:
        events, self._events = self._events, []
        if self._annotator is None:
            return events
        self._events = events
        try:
            done = self._annotator.annotate(shard, lambda name: events.append(Begun(name)))
            events.append(done)
        except UserError as error:
            events.append(Refused(str(error)))
        self._events = []
        return events
