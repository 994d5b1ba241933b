"""The local executor: one worker process per core."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from fanfold.core.executor import Size, TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.errors import UsageError
from fanfold.executors.fan_out import STOPPED_AT_ONCE, fan_out
from fanfold.executors.process import Lent, WorkerProcess
from fanfold.job import Job
from fanfold.machine import cores
from fanfold.source import Source
from fanfold.storage import absolute, side_by_side

AHEAD = 2
"""Kept processes that start before there is a task: more would be in vain for the first run, which has few."""


class Local:
    """Runs tasks on this machine's cores."""

    def __init__(self, workers: int | None = None, worker_cpus: int = 1) -> None:
        size = Size(workers, worker_cpus)
        self.workers = size.workers or max(1, cores() // size.worker_cpus)
        self.worker_cpus = size.worker_cpus
        self._database = ""
        self._kept: list[WorkerProcess] = []

    @classmethod
    def open(cls, where: str, size: Size) -> "Local":
        """See `open_executor`."""
        if where:
            raise UsageError(f"The executor 'local' is this machine and takes no address, not '{where}'.")
        if size.worker_gpus:
            raise UsageError(
                "The executor 'local' does not assign GPUs: each worker sees all of this machine's. "
                "Leave --worker-gpus out, or use --on ray, which assigns GPUs to workers."
            )
        return cls(size.workers, size.worker_cpus)

    def reach(self, job: Job, source: Source, database: str) -> Source:  # noqa: ARG002
        """See `Executor.reach`. Worker processes see what the driver sees."""
        return source

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`. A worker process starts at its first task."""
        if run.database == self._database:
            self._kept = [self._process() if process.stopped else process for process in self._kept]
            yield from fan_out([Lent(process, run.id) for process in self._kept], tasks, progress)
        else:
            workers = [WorkerProcess(run.database, run.id, self.worker_cpus) for _ in range(self.workers)]
            yield from fan_out(workers, tasks, progress)

    @contextmanager
    def keeping(self, database: str) -> Iterator[None]:
        """See `fanfold.executors.keeping`. Two of the processes begin to start at once, beside what the block does."""
        self._database = absolute(database)
        self._kept = [self._process() for _ in range(self.workers)]
        try:
            for process in self._kept[:AHEAD]:
                process.start()
            yield
        finally:
            kept, self._kept, self._database = self._kept, [], ""
            side_by_side(lambda process: process.stop(), kept, STOPPED_AT_ONCE)

    def _process(self) -> WorkerProcess:
        return WorkerProcess(self._database, cpus=self.worker_cpus)
