"""A sample of a run: random items of it, processed into a temporary database.

It does everything that a run does, on as many workers: starting them, reading, the job, writing, committing.
"""

import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle, repeat, takewhile
from tempfile import TemporaryDirectory

from more_itertools import split_into

from fanfold.core.asked import request
from fanfold.core.detached import work
from fanfold.core.executor import Executor
from fanfold.core.ledger import Ledger
from fanfold.core.plan import Options
from fanfold.core.progress import Tally
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.job import Item, Job
from fanfold.source import Source

ITEMS = 64
"""Least number of measured items; with many workers, `A_WORKER` for each."""
A_WORKER = 16
WARM_UP = 4
"""Items in each worker's first task, not measured."""
SIZES = (4, 12)
"""Items of the measured tasks, in turn: two sizes, to separate the cost per task from the cost per item."""


class Reservoir:
    """A random sample of a stream of unknown length (Vitter's algorithm R, ACM TOMS 11 (1), 1985)."""

    def __init__(self, size: int) -> None:
        self.size, self.offered = size, 0
        self.kept: list[Item] = []
        self._random = random.Random(0)  # the same listing gives the same sample

    def offer(self, item: Item) -> None:
        """Offer the next item of the stream."""
        self.offered += 1
        if len(self.kept) < self.size:
            self.kept.append(item)
        elif (index := self._random.randrange(self.offered)) < self.size:
            self.kept[index] = item

    def shuffled(self) -> list[Item]:
        """The sample, in random order."""
        return self._random.sample(self.kept, len(self.kept))


@dataclass(frozen=True)
class Sample:
    """The result of a sample."""

    outcomes: tuple[Outcome, ...]
    items: int
    bytes: int
    began: float
    """Unix time of the request for workers, in seconds."""
    prepared: float
    """Seconds before `began`, for the job's set-up in the driver and for the database."""
    committed: float
    """Seconds of the last commit."""

    @property
    def failed(self) -> int:
        """Number of items that failed, or whose task failed."""
        return sum(outcome.failed if outcome.status == "done" else outcome.items for outcome in self.outcomes)

    @property
    def trouble(self) -> str:
        """Error of a task that failed; empty if none did."""
        return next((outcome.error for outcome in self.outcomes if outcome.error), "")


NONE = Sample((), 0, 0, 0.0, 0.0, 0.0)
"""No sample: the job says itself what its items take."""


def size(workers: int) -> int:
    """Number of items to sample for this number of workers."""
    return workers * WARM_UP + max(ITEMS, workers * A_WORKER)


def take(job: Job, source: Source, items: list[Item], executor: Executor, tally: Tally) -> Sample:
    """Process these items on an executor's workers, then discard the results. Raises what a run raises."""
    entered = time.time()
    with TemporaryDirectory(prefix="fanfold-plan-") as folder:
        ledger = Ledger.create(folder, job.name, job, source.root, "key")
        run = _planned(folder, job, source, items, executor.workers)
        began = time.time()
        with closing(work(run, 0, 1, executor, tally)) as outcomes:
            done = tuple(outcomes)
        ended = time.time()
        ledger.publish(done)
        ledger.refresh()
        committed = time.time() - ended
    return Sample(done, len(items), sum(item.size for item in items), began, began - entered, committed)


def _planned(folder: str, job: Job, source: Source, items: list[Item], workers: int) -> RunDirectory:
    """The directory of a run with a complete plan."""
    run = RunDirectory.create(folder, **request(job, source, job.name, Options()))
    tasks = [run.write_manifest(number, part) for number, part in enumerate(parts(items, workers))]
    run.put("plan.json", {"tasks": len(tasks), "listed": len(items), "planned": len(items), "bytes": 0})
    return run


def parts(items: list[Item], workers: int) -> Iterator[list[Item]]:
    """Cut a sample into a warm-up task for each worker, then tasks of `SIZES` in turn."""
    return takewhile(bool, split_into(items, chain(repeat(WARM_UP, workers), cycle(SIZES))))
