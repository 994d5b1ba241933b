"""A sample of a run: some of its items, drawn at random, really done into a database of their own that is then removed.

All that a run does is in it, on as many workers at once: starting them, reading, the job, writing, committing.
"""

import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import cycle
from tempfile import TemporaryDirectory
from typing import Any

from fanfold.detached import perform
from fanfold.executors.local import Local
from fanfold.job import Item, Job, spec
from fanfold.ledger import Ledger
from fanfold.plan import Options
from fanfold.planner import Tally
from fanfold.runs import Outcome, RunDirectory
from fanfold.source import Source

ITEMS = 64
"""Items measured, at least; and with many workers, `A_WORKER` for each."""
A_WORKER = 16
WARM_UP = 4
"""Items in each worker's first task, beyond those."""
SIZES = (4, 12)
"""Items of the tasks that are measured, in turn: of two sizes, since that tells what a task costs whatever its size."""


class Reservoir:
    """A random sample of a stream of unknown length (Vitter's algorithm R, ACM TOMS 11 (1), 1985)."""

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, 0
        self.kept: list[Item] = []
        self._random = random.Random(0)  # the same listing gives the same sample

    def offer(self, item: Item) -> None:
        """Let the next of the stream take part."""
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append(item)
        elif (place := self._random.randrange(self.seen)) < self.size:
            self.kept[place] = item

    def shuffled(self) -> list[Item]:
        """The sample, in no order."""
        return self._random.sample(self.kept, len(self.kept))


@dataclass(frozen=True)
class Sample:
    """What came of it."""

    outcomes: tuple[Outcome, ...]
    items: int
    bytes: int
    began: float
    """Unix time in seconds at which workers were asked for."""
    prepared: float
    """Seconds it took to get so far: the job's set-up in the driver, and a database."""
    committed: float
    """Seconds of the last commit."""

    @property
    def failed(self) -> int:
        """Items that failed, or whose task did."""
        return sum(outcome.failed if outcome.status == "done" else outcome.items for outcome in self.outcomes)

    @property
    def trouble(self) -> str:
        """Why a task failed, if one did."""
        return next((outcome.error for outcome in self.outcomes if outcome.error), "")


def size(workers: int) -> int:
    """Items to sample for so many workers."""
    return workers * WARM_UP + max(ITEMS, workers * A_WORKER)


def take(job: Job, source: Source, items: list[Item], workers: int, tally: Tally) -> Sample:
    """Do these items on workers of this machine. Nothing of it stays. Raises what a run raises."""
    entered = time.time()
    with TemporaryDirectory(prefix="fanfold-plan-") as folder:
        ledger = Ledger.create(folder, job.name, job, source.root, "key")
        run = _planned(folder, job, source, items, workers)
        began = time.time()
        with closing(perform(run, 0, 1, Local(workers), tally)) as outcomes:
            done = tuple(outcomes)
        ended = time.time()
        ledger.publish(done)
        ledger.refresh()
        committed = time.time() - ended
    return Sample(done, len(items), sum(item.size for item in items), began, began - entered, committed)


def _planned(folder: str, job: Job, source: Source, items: list[Item], workers: int) -> RunDirectory:
    """The directory of a run that is planned to the end."""
    asked: dict[str, Any] = {"job": spec(job), "recipe": dict(job.recipe()), "table": job.name}
    asked |= {"root": source.root, "sources": source.addresses, "options": asdict(Options())}
    run = RunDirectory.create(folder, **asked)
    tasks = [run.write_manifest(number, part) for number, part in enumerate(parts(items, workers))]
    run.put("plan.json", {"tasks": len(tasks), "listed": len(items), "planned": len(items), "bytes": 0})
    return run


def parts(items: list[Item], workers: int) -> Iterator[list[Item]]:
    """Cut a sample into a warm-up task for each worker, then tasks of `SIZES` in turn."""
    sizes = cycle(SIZES)
    start = 0
    for size in [WARM_UP] * workers:
        if items[start : start + size]:
            yield items[start : start + size]
        start += size
    while start < len(items):
        size = next(sizes)
        yield items[start : start + size]
        start += size
