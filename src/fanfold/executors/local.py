"""The local executor: one worker process per core."""

from collections.abc import Generator, Iterator

from fanfold.core.executor import Size, TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.errors import UsageError
from fanfold.executors.fan_out import fan_out
from fanfold.executors.process import WorkerProcess
from fanfold.job import Job
from fanfold.machine import cores
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
        workers = [WorkerProcess(run.database, run.id, self.worker_cpus) for _ in range(self.workers)]
        yield from fan_out(workers, tasks, progress)
