"""The local executor: a worker process a core, each tended by a thread of the driver.

driver ── thread 1 ══ hand ══ worker process 1       see `hand.py`
       ├─ thread 2 ══ hand ══ worker process 2
       └─ ...
"""

import os
import queue
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

from fanfold.errors import UsageError
from fanfold.executors import Size, TaskProgress
from fanfold.executors.hand import Hand
from fanfold.job import Job
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.source import Source


class Local:
    """Runs tasks on this machine's cores."""

    def __init__(self, workers: int | None = None, worker_cpus: int = 1) -> None:
        size = Size(workers, worker_cpus)
        self.workers = size.workers or max(1, cores() // size.worker_cpus)
        self.worker_cpus = size.worker_cpus

    @classmethod
    def open(cls, where: str, size: Size) -> "Local":
        """See `open_executor`."""
        if where:
            raise UsageError(f"The executor 'local' is this machine; it has no '{where}'.")
        if size.worker_gpus:
            raise UsageError(
                "The executor 'local' deals out no GPUs: each worker sees all of this machine's. "
                "Leave --worker-gpus out, or use --on ray, which gives every worker its own."
            )
        return cls(size.workers, size.worker_cpus)

    def reach(self, job: Job, source: Source, database: str) -> Source:  # noqa: ARG002
        """See `Executor.reach`. What the driver sees, its own processes see."""
        return source

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`. Workers start when there is a task for them."""
        results: queue.Queue[Outcome | BaseException | None] = queue.Queue()

        def tend(hand: Hand) -> None:
            """Take tasks and have them performed, until there are none."""
            try:
                for task in tasks:
                    results.put(hand.perform(task, progress))
                    if hand.stopped:
                        return
            except BaseException as error:
                results.put(error)
            finally:
                hand.stop()
                results.put(None)

        hands = [Hand(run.database, run.id, self.worker_cpus) for _ in range(self.workers)]
        for hand in hands:
            threading.Thread(target=tend, args=(hand,), daemon=True).start()
        working = len(hands)
        try:
            while working:
                match results.get():
                    case None:
                        working -= 1
                    case Outcome() as outcome:
                        yield outcome
                    case BaseException() as error:
                        raise error
        finally:
            for hand in hands:
                hand.stop()


def cores() -> int:
    """The cores this process may use: its affinity, cut down to the quota of its control group (Linux)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count
