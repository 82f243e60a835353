"""Workers that are processes of this machine."""

import multiprocessing
import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from carsam.annotation.annotator import Annotator
from carsam.annotation.job import Job, Shard
from carsam.annotation.workers.base import Begun, Died, Event, Refused, Remark
from carsam.errors import UserError


class ProcessWorker:
    """One process, which ends when whoever started it does."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # threads and stores do not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is heard of

    def give(self, shard: Shard) -> None:
        """Begin a shard."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `wait` tells that it is dead
            self.connection.send(shard)

    def end(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class ProcessWorkers:
    """Processes for one job."""

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._workers: list[ProcessWorker] = []

    def start(self) -> ProcessWorker:
        """Start a process."""
        self._workers.append(ProcessWorker(self._job))
        return self._workers[-1]

    def wait(self) -> Sequence[tuple[ProcessWorker, Event]]:
        """Return the next event of each process that has one."""
        ready = wait([worker.connection for worker in self._workers])
        return [
            (worker, self._next(worker))
            for worker in list(self._workers)
            if worker.connection in ready
        ]

    def dismiss(self, worker: ProcessWorker) -> None:
        """End a process."""
        self._workers.remove(worker)
        worker.end()

    def end(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _next(self, worker: ProcessWorker) -> Event:
        try:
            event: Event = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            event = Died(_reason(worker.process.exitcode))
        if isinstance(event, Died):
            self.dismiss(worker)
        return event


def _work(job: Job, connection: Connection) -> None:
    """Annotate the shards that come, until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    try:
        annotator = Annotator(job, lambda message: connection.send(Remark(message)))
        while True:
            shard = connection.recv()
            connection.send(annotator.annotate(shard, lambda name: connection.send(Begun(name))))
    except UserError as error:
        connection.send(Refused(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # whoever started this process is gone
    except Exception as error:  # one shard that cannot be made must not stop the others
        traceback.print_exc()
        connection.send(Died(f"{type(error).__name__}: {error}"))


def _reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    short = ", which is how a system ends processes when memory is short; use fewer --jobs"
    return f"its process was ended by {name}{short if name == 'SIGKILL' else ''}"
