"""Where tasks run. An executor only fans out; what a task does is in `fanfold.worker`, the same everywhere.

local       this machine's cores        fanfold.executors.local
aws-batch   AWS Batch                   fanfold.executors.aws_batch      detached
"""

import importlib
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, runtime_checkable

from fanfold.errors import UsageError
from fanfold.job import Job
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.source import Source

EXECUTORS: dict[str, str] = {
    "local": "fanfold.executors.local:Local",
    "aws-batch": "fanfold.executors.aws_batch:AwsBatch",
}
"""Every executor there is: its name, and where its class lives."""

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


@runtime_checkable
class Detached(Protocol):
    """Takes a whole planned run, and goes on with it when the caller goes away. All raise StorageError."""

    mirror: str
    """What its runs keep in step where nothing else is asked for."""

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source as the workers will see it. Raises UsageError for what they cannot reach or do."""
        ...

    def submit(self, run: RunDirectory, tasks: int) -> None:
        """Have the tasks performed, and the run committed once they all have ended."""
        ...

    def plan_later(self, run: RunDirectory) -> None:
        """Have the run planned and submitted there."""
        ...

    def state(self, run: RunDirectory) -> str | None:
        """How it stands, in a person's words; None when all that was submitted has ended."""
        ...

    def cancel(self, run: RunDirectory) -> None:
        """End all that was submitted; return when it has ended."""
        ...


def open_executor(on: str, workers: int | None = None) -> "Executor | Detached":
    """The executor called `on`: a name of `EXECUTORS`, or `aws-batch:DEPLOYMENT`.

    Raises UsageError for one there is not, MissingExtra without its dependencies, and what its set-up raises.
    """
    name, _, where = on.partition(":")
    if name not in EXECUTORS:
        raise UsageError(f"There is no executor '{on}'. Use one of: {', '.join(EXECUTORS)}.")
    module, _, attribute = EXECUTORS[name].partition(":")
    opened: Executor | Detached = getattr(importlib.import_module(module), attribute).open(where, workers)
    return opened
