"""Retries with backoff, and work in several threads until all parts are done or one fails.

    try ── fails ──▶ wait up to 0.05 s ── fails ──▶ up to 0.1 s ── fails ──▶ up to 0.2 s ... up to 20 s
                     a random part of it, so that clients do not retry at the same time ("full jitter")

The number of tries has no limit. The work fails if no thread makes progress for some time.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from fanfold.errors import StorageError
from fanfold.job import required_extra

try:
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
except ModuleNotFoundError as error:
    raise required_extra(error, "aws", ("tenacity",), "DynamoDB") from error

T = TypeVar("T")

_GROWING = wait_random_exponential(multiplier=0.05, max=20.0)  # seconds


class Unfinished(Exception):
    """A try that did not do everything, so that another one is needed."""

    def __init__(self, why: str, throttled: bool = False, progressed: bool = False) -> None:
        super().__init__(why)
        self.throttled, self.progressed = throttled, progressed


class Patience:
    """The time that work in several threads may go on without progress."""

    def __init__(self, table: str, seconds: float) -> None:
        self.table, self.seconds = table, seconds
        self._last = time.monotonic()
        self._stopped = threading.Event()

    def progress(self) -> None:
        """Start the time again, because something was done."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """End every thread at its next wait."""
        self._stopped.set()

    def until_done(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `step`, which is retried each time that it raises Unfinished.

        Raises StorageError when the time without progress is up, or another thread has ended the work.
        """
        tries = Retrying(retry=retry_if_exception_type(Unfinished), wait=self._pause, sleep=self._sleep)
        return tries(step, *arguments)

    def _pause(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        why: Any = state.outcome and state.outcome.exception()
        if why.progressed:
            self.progress()
            state.attempt_number = 1
        if (left := self.seconds - (time.monotonic() - self._last)) <= 0:
            raise self._no_progress(why) from why
        return min(_GROWING(state), left)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise StorageError(f"The work on the DynamoDB table '{self.table}' was stopped.")

    def _no_progress(self, why: Unfinished) -> StorageError:
        if not why.throttled:
            return StorageError(
                f"Cannot use the DynamoDB table '{self.table}': {why}. It made no progress for {self.seconds:g} s. "
                "Check the network and AWS_ENDPOINT_URL, then run again to continue."
            )
        return StorageError(
            f"The DynamoDB table '{self.table}' is throttled: {why}. It made no progress for {self.seconds:g} s. "
            "Raise its capacity, or let AWS adapt it to the load: aws dynamodb update-table "
            f"--table-name {self.table} --billing-mode PAY_PER_REQUEST. Then run again: finished work is kept."
        )


def together(work: Iterable[Callable[[], T]], patience: Patience, threads: int) -> list[T]:
    """What all parts of the work return, in no order, done in a few threads; the first error ends the others.

    Raises what a part raises.
    """
    with ending(ThreadPoolExecutor(threads), patience) as pool:
        return [future.result() for future in as_completed([pool.submit(part) for part in work])]


@contextmanager
def ending(pool: ThreadPoolExecutor, patience: Patience) -> Iterator[ThreadPoolExecutor]:
    """A pool that starts no more parts after an error, and ends those that wait for another try."""
    try:
        yield pool
    except BaseException:
        patience.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
