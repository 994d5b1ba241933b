"""The fan-out of executors whose driver waits: a thread of the driver for each worker.

tasks ──next──▶ thread 1 ── worker 1      a process of this machine, or an actor on some node of a Ray cluster
                thread 2 ── worker 2
                ...         ──outcomes──▶ one queue, which the caller iterates over
"""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

from fanfold.core.executor import TaskProgress
from fanfold.core.runs import Outcome, Task
from fanfold.storage import side_by_side

STOPPED_AT_ONCE = 32
"""Workers that are stopped at the same time."""


class Worker(Protocol):
    """Performs one task at a time."""

    def ready(self, ended: threading.Event) -> bool:
        """Wait until the worker can take a task. False if it has been stopped, or waits and all tasks have ended."""
        ...

    def perform(self, task: Task, progress: TaskProgress) -> Outcome:
        """Perform a task. Raises FanfoldError if no worker can start, and after `stop`."""
        ...

    def stop(self) -> None:
        """End all work at once, and do not start again. May be called twice, and by any thread."""
        ...


def fan_out(workers: Sequence[Worker], tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
    """Have workers perform tasks; see `Executor.map`. All workers are stopped at the end."""
    results: queue.Queue[Outcome | BaseException | None] = queue.Queue()
    ended = threading.Event()

    def tend(worker: Worker) -> None:
        """Hand tasks to a worker until there are none."""
        try:
            # A worker that has no place yet takes no task: another one may be free to do it.
            while worker.ready(ended) and (task := next(tasks, None)):
                results.put(worker.perform(task, progress))
            worker.stop()
        except BaseException as error:
            results.put(error)
        finally:
            ended.set()
            results.put(None)

    for worker in workers:
        threading.Thread(target=tend, args=(worker,), name="fanfold-worker", daemon=True).start()
    working = len(workers)
    try:
        while working:
            match results.get():
                case None:
                    working -= 1
                case Outcome() as outcome:
                    yield outcome
                case error:
                    raise error
    finally:
        ended.set()
        side_by_side(lambda worker: worker.stop(), workers, STOPPED_AT_ONCE)
