"""What runs tasks: an `Executor` fans them out while the driver waits, a `Detached` one takes a whole run away.

An executor only fans out; what a task does is in `fanfold.core.worker`, the same everywhere.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Protocol, runtime_checkable

from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.errors import UsageError
from fanfold.job import Job
from fanfold.source import Source

TaskProgress = Callable[[int, int, int], None]
"""Called with a task's number, and how many of its items are done and have failed so far."""


MOST_WORKERS = 100_000
"""More than any cluster has cores: a larger number is a typing mistake."""


@dataclass(frozen=True)
class Size:
    """How many workers an executor has, and how large each is. Its fields are command-line flags."""

    workers: int | None = field(
        default=None, metadata={"help": "Number of worker processes; by default as many as fit."}
    )
    worker_cpus: int = field(default=1, metadata={"help": "Cores per worker."})
    worker_gpus: float = field(default=0, metadata={"help": "GPUs per worker, on Ray. Fractions are allowed."})

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"A run needs at least one worker, not {self.workers}.")
        if self.workers is not None and self.workers > MOST_WORKERS:
            raise UsageError(f"A run has at most {MOST_WORKERS:,} workers, not {self.workers:,}.")
        if self.worker_cpus < 1:
            raise UsageError(f"A worker needs at least one core, not {self.worker_cpus}.")
        if not 0 <= self.worker_gpus < inf:
            raise UsageError(f"--worker-gpus takes a number of at least 0, not {self.worker_gpus}.")


class Executor(Protocol):
    """Performs tasks somewhere."""

    @property
    def workers(self) -> int:
        """How many tasks are performed at once, roughly; planning cuts tasks to fit."""

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source as the workers will see it. Raises UsageError for what they cannot reach or do."""

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """Yield exactly one outcome for every task, as each ends; a failed task is an outcome.

        Takes tasks only as fast as they can be performed; `next(tasks)` may wait, and may be called by several
        threads. Closing the iterator stops all work at once. Raises FanfoldError only if the backend itself
        cannot go on.
        """


@runtime_checkable
class Detached(Protocol):
    """Takes a whole planned run, and goes on with it when the caller goes away. All raise StorageError."""

    def table(self, job: Job) -> str:
        """The table that its runs fill where none is named."""

    def mirror(self, table: str) -> str:
        """The mirror of a table where none is named: its address, or nothing."""

    def provide(self, mirror: str) -> None:
        """See that a mirror is there, and make it if it is one to be made. Raises UsageError for one out of reach."""

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source as the workers will see it. Raises UsageError for what they cannot reach or do."""

    def submit(self, run: RunDirectory, tasks: int) -> None:
        """Have the tasks done, and the run committed once all have ended."""

    def plan_later(self, run: RunDirectory) -> None:
        """Have the run planned and submitted there."""

    def state(self, run: RunDirectory) -> str | None:
        """How it stands, in a person's words; None when all that was submitted has ended."""

    def cancel(self, run: RunDirectory) -> None:
        """End all that was submitted; return when it has ended."""
