"""The threads that compute, and the bounded queue before them."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from carsam.serve.refusals import Gone, Refused

T = TypeVar("T")

LONGEST_RETRY = 60


class Work:
    """Runs functions in a few threads, in the order they come.

    Args:
        workers: threads.
        queue: functions that may wait for one.
        timeout: seconds after which nobody waits for a result any more.

    Attributes:
        pending: functions that wait or run.
    """

    def __init__(self, workers: int, queue: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(workers, "carsam-serve")
        self._workers, self._most, self._timeout = workers, workers + queue, timeout
        self._lock = threading.Lock()
        self.pending = 0
        self._done, self._seconds = 0, 0.0

    def check(self) -> None:
        """Refuse a request before it has arrived, if there is no place for it.

        Raises:
            Refused: 503.
        """
        if self.pending >= self._most:
            raise Refused(
                503,
                "busy",
                f"{self.pending} requests are being answered or wait already; try again later.",
                self._retry_after(),
            )

    async def run(self, function: Callable[[], T], gone: Callable[[], Awaitable[None]]) -> T:
        """Return what `function` does; it is not begun if nobody waits for it when its turn comes.

        Args:
            gone: returns when the client has closed the connection.

        Raises:
            Refused: the queue is full, or it took too long.
            Gone: the client is gone.
        """
        self.check()
        with self._lock:
            self.pending += 1
        future = self._pool.submit(self._timed, function)
        future.add_done_callback(self._finished)
        result, left = asyncio.wrap_future(future), asyncio.ensure_future(gone())
        try:
            waiting: set[asyncio.Future[Any]] = {result, left}
            await asyncio.wait(waiting, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if left.done():
                raise Gone
            raise Refused(
                504,
                "timeout",
                f"No answer within {self._timeout:g} seconds. An image whose encoding has begun "
                "is encoded to the end, so that the next try may be quicker.",
            )
        finally:
            left.cancel()
            future.cancel()  # at once: `result` alone would pass it on at the loop's next turn
            result.cancel()

    def close(self) -> None:
        """Drop what waits, and let what runs come to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, function: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return function()
        finally:
            with self._lock:
                self._done, self._seconds = self._done + 1, self._seconds + time.monotonic() - start

    def _finished(self, _: Future) -> None:
        with self._lock:
            self.pending -= 1

    def _retry_after(self) -> int:
        """Return the seconds in which the queue should be half empty."""
        mean = self._seconds / max(self._done, 1)
        return max(1, min(LONGEST_RETRY, math.ceil(mean * self.pending / self._workers / 2)))
