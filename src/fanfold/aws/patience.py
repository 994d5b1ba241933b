"""How long to go on trying, and doing parts of a work side by side until all are done or one cannot be.

    try ── no ──▶ pause, up to 0.05 s ── no ──▶ up to 0.1 s ── no ──▶ up to 0.2 s ... up to 20 s
                  a random part of it, so that many clients do not come back in step ("full jitter")

There is no last try: what ends it is a time in which none of the threads has got anything done.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from fanfold.errors import StorageError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 20.0  # seconds


class Patience:
    """How long a piece of work, done by several threads, goes on while none of them gets anywhere."""

    def __init__(self, table: str, seconds: float) -> None:
        self.table, self.seconds = table, seconds
        self._last = time.monotonic()
        self._stopped = threading.Event()

    def progress(self) -> None:
        """Something was done: the time begins anew."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """Make every thread end at its next pause."""
        self._stopped.set()

    def pause(self, attempt: int, why: str, throttled: bool = False) -> None:
        """Wait a random time that grows with the attempts (full jitter, so that many clients do not march in step).

        Raises StorageError when the time without progress is up, or another thread has ended the work.
        """
        left = self.seconds - (time.monotonic() - self._last)
        if left <= 0:
            raise self._exhausted(why, throttled)
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 16), left)
        if self._stopped.wait(random.uniform(0, longest)):
            raise StorageError(f"The work on the DynamoDB table '{self.table}' was stopped.")

    def _exhausted(self, why: str, throttled: bool) -> StorageError:
        if not throttled:
            return StorageError(
                f"Cannot use the DynamoDB table '{self.table}': {why}. Nothing was done for {self.seconds:g} s. "
                "Is the network up, and is AWS_ENDPOINT_URL unset or right? Run again to go on."
            )
        return StorageError(
            f"The DynamoDB table '{self.table}' is throttled: {why}, and nothing was done for {self.seconds:g} s. "
            "Raise its capacity, or let it follow the load: aws dynamodb update-table "
            f"--table-name {self.table} --billing-mode PAY_PER_REQUEST. Then run again: what was written stays."
        )


def together(work: Sequence[Callable[[], None]], patience: Patience, threads: int) -> None:
    """Do all parts of a work on a few threads; the first error ends the others. Raises what a part raises."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(part) for part in work]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            end(futures, patience)


def end(futures: "Iterable[Future[Any]]", patience: Patience) -> None:
    """Let no more parts begin, and those that wait for another try give up; a call under way is let finish."""
    patience.stop()
    for future in futures:
        future.cancel()
