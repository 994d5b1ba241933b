"""The node's side of a worker on a Ray cluster: the actor that runs there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import ray

import fanfold
from fanfold.core.runs import RunDirectory, Task
from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.executors.process import WorkerProcess
from fanfold.job import Item, Job, suffixes_of
from fanfold.source import Source, collection, worker_source
from fanfold.storage import first_line, path_of

SAMPLE = 4
"""Items that a node tries to read: enough to notice another folder of the same name."""
ADVICE = (
    "Every node needs the driver's version of fanfold with the job's extra, the source and the database at the same "
    "paths or URLs, and its own credentials for them. See docs/ray.md."
)


class NodeWorker:
    """Holds a worker process from one task to the next, so that a model is loaded once."""

    def __init__(self, version: str, database: str, run: str, cpus: int, sample: Sequence[Mapping[str, Any]]) -> None:
        self.version, self.sample = version, [Item(**item) for item in sample]
        self.run = RunDirectory(database, run)
        self.process = WorkerProcess(database, run, cpus)
        self.at = (0, 0)
        self.checked = False

    def ready(self) -> bool:
        """Answer once the actor has a place."""
        return True

    def perform(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Perform a task. Raises FanfoldError if this node cannot."""
        self.at = (0, 0)
        try:
            if not self.checked:
                self._preflight()
            self.checked = True
            return asdict(self.process.perform(Task(**task), self._watch))
        except FanfoldError as error:
            kind = next(kind for kind in (StorageError, UsageError, FanfoldError) if isinstance(error, kind))
            advice = "" if self.checked else f"\n{ADVICE}"
            raise kind(f"On the Ray node {ray.util.get_node_ip_address()}: {error}{advice}") from None

    def progress(self) -> tuple[int, int]:
        """How many items of the task are done, and how many have failed."""
        return self.at

    def stop(self) -> None:
        """End the worker process."""
        self.process.stop()

    def _watch(self, _task: int, ok: int, failed: int) -> None:
        self.at = (ok, failed)

    def _preflight(self) -> None:
        """Check the node's software, database and source, in this order. Raises FanfoldError."""
        if fanfold.__version__ != self.version:
            raise UsageError(f"It has fanfold {fanfold.__version__}, but the driver has {self.version}.")
        asked = self.run.asked
        if not asked.id:
            raise UsageError(f"It has no run {self.run.id} in {self.run.database}, which is another folder there.")
        source = worker_source(asked.load_job(), asked.root, asked.sources)
        reasons = [unreadable(source, item) for item in self.sample]
        if reasons and all(reasons):
            where = source.uri(self.sample[-1])
            raise UsageError(f"It cannot read {path_of(where) or where}: {reasons[-1]}")


def sample(job: Job, source: Source) -> Iterator[Item]:
    """Some items of a source that this process can read."""
    again = collection(job, source.addresses)  # so that what `source` leaves out is not counted twice
    for item in islice((again.within(source.root) or again).list(suffixes_of(job)), SAMPLE):
        if not unreadable(source, item):
            yield item


def unreadable(source: Source, item: Item) -> str:
    """Why the first byte of an item cannot be read as it was listed; empty if it can."""
    try:
        source.read_at(item, 0, 1)
    except OSError as error:
        return first_line(error)
    return ""
