"""Where tasks run. An executor only fans out; what a task does is in `fanfold.worker`, the same everywhere.

local       this machine's cores        fanfold.executors.local
"""

from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from fanfold.runs import Outcome, RunDirectory, Task

TaskProgress = Callable[[int, int, int], None]
"""Called with a task's number, and how many of its items are done and have failed so far."""


class Executor(Protocol):
    """Performs tasks somewhere."""

    workers: int
    """How many tasks are performed at once, roughly; planning cuts tasks to fit."""

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """Yield exactly one outcome for every task, as each ends; a failed task is an outcome.

        Takes tasks only as fast as they can be performed; `next(tasks)` may wait, and may be called by several
        threads. Closing the iterator stops all work at once. Raises FanfoldError only if the backend itself
        cannot go on.
        """
        ...
