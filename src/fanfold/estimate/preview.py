"""What a run would do, how long it would take and what it would cost, from a sample of it.

listing ──▶ counts, bytes, a random sample ──processed here──▶ pace ──▶ time here, on more workers, dollars on AWS
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fanfold.core.executor import Executor
from fanfold.core.fit import fitting
from fanfold.core.ledger import Ledger
from fanfold.core.plan import Held, Options, Standing
from fanfold.core.planner import wanted
from fanfold.core.progress import Tally, proportions
from fanfold.core.run import addressed
from fanfold.estimate import prices as pricing
from fanfold.estimate import sample as sampling
from fanfold.estimate.pace import READ, Pace, makespan, pace, task_sizes
from fanfold.job import Item, Job, expected_of, suffixes_of
from fanfold.machine import cores
from fanfold.source import Source
from fanfold.storage import exists

ELSEWHERE = (1, 8, 64, 512)
"""Numbers of workers in the estimate."""
EXPECTED = "work"
"""The only stage of items whose time a job knows."""
_START = 1.0  # s: a worker's start, where no sample shows it
BEST_MARGIN = 0.1
"""Least margin of an estimate: machines do other work, too."""


@dataclass(frozen=True)
class Stage:
    """A stage of the work."""

    name: str
    seconds: float
    """Worker seconds per item."""
    share: float
    """Fraction of a worker's time."""
    alone: float | None
    """Items per second of a worker at this stage alone; None if it takes no time."""


@dataclass(frozen=True)
class Scaled:
    """The run on another number of workers."""

    workers: int
    seconds: float
    items_per_second: float
    bytes_per_second: float
    """Bytes per second that the source must deliver."""
    limit: str
    """Bottleneck other than the workers: `listing`, or empty."""


@dataclass(frozen=True)
class Estimate:
    """The time and the cost of a run, measured on a sample."""

    seconds: float
    """Seconds here, from the call of `run` or the start of the command to the end."""
    margin: float | None
    """Margin of error, as a fraction: two standard errors of the sample; None for too small a sample."""
    items_per_second: float
    """Items per second here, with warm workers."""
    startup: float
    """Seconds from the start of the workers until they are warm."""
    stages: tuple[Stage, ...]
    """Stages, the most costly first."""
    elsewhere: tuple[Scaled, ...]
    """The run on other numbers of workers like those here, each with its own processor."""
    aws: tuple[pricing.Cost, ...]
    prices: str
    """Date and region of the prices."""

    @property
    def bottleneck(self) -> str:
        """The stage that takes most of a worker's time."""
        return self.stages[0].name


@dataclass(frozen=True)
class Preview:
    """What a run would do."""

    new: int
    changed: int
    unchanged: int
    failed_before: int
    """Items that failed before at this version; retried only on request."""
    unread: int
    """Items that could not be read before at this version; retried."""
    left_out: dict[str, int]
    todo: int
    """Items that a run would process."""
    bytes: int
    """Bytes of these items."""
    workers: int
    listing_seconds: float
    sampled: int
    """Items in the sample; 0 if there is nothing to do."""
    sample_failed: int
    """Items of the sample that failed."""
    trouble: str
    """Error of a task of the sample that failed; empty if none did."""
    estimate: Estimate | None
    """None if there is nothing to do, or if every task of the sample failed."""

    @property
    def seconds(self) -> float | None:
        """Estimated seconds here; None without an estimate."""
        return self.estimate.seconds if self.estimate else None

    def to_json(self) -> dict[str, Any]:
        """Every number, as one JSON object."""
        return asdict(self) | {"seconds": self.seconds, "bottleneck": self.estimate and self.estimate.bottleneck}


def previewed(
    job: Job,
    source: str | Sequence[str] | Source,
    database: str,
    table: str | None,
    options: Options,
    executor: Executor,
    prices: str | Path | None,
    tally: Tally,
    before: float,
) -> Preview:
    """See `fanfold.preview`; `executor` processes the sample."""
    entered, table_of_prices = time.monotonic(), pricing.load(prices)
    chosen, workers = options, executor.workers
    collection, where, name = addressed(job, source, database, job.name if table is None else table)
    held = Held()
    if ledger := Ledger.open(where, name) if exists(where) else None:
        collection = fitting(ledger, job, collection, chosen.ids)
        ledger.rows.refresh()
        ledger.failures.refresh()
        held = ledger.held
    opened = time.monotonic()
    sample, expected = sampling.Reservoir(sampling.size(workers)), Total.of(job)
    for item in wanted(collection, suffixes_of(job), chosen, held, tally):
        sample.offer(item)
        expected.add(item)
    listing, standings, size = time.monotonic() - opened, tally.standings, tally.bytes
    tally.listed, tally.planned, tally.bytes, tally.note = 0, 0, 0, "measuring a sample"
    done = None
    if sample.offered:
        is_known = expected.seconds is not None
        done = sampling.NONE if is_known else sampling.take(job, collection, sample.shuffled(), executor, tally)
    estimate = None
    if done and (measured := expected.pace() or pace(done.outcomes, done.began)):
        work = Todo(sample.offered, size, chosen.task_size, listing)
        estimate = estimated(measured, work, workers, before + opened - entered + done.prepared, done, table_of_prices)
    return Preview(
        new=standings[Standing.NEW],
        changed=standings[Standing.CHANGED],
        unchanged=standings[Standing.UNCHANGED],
        failed_before=standings[Standing.FAILED],
        unread=standings[Standing.UNREAD],
        left_out=dict(collection.left_out),
        todo=sample.offered,
        bytes=size,
        workers=workers,
        listing_seconds=listing,
        sampled=done.items if done else 0,
        sample_failed=done.failed if done else 0,
        trouble=done.trouble if done else "",
        estimate=estimate,
    )


@dataclass
class Total:
    """What a job expects its items to take, all together."""

    expect: Callable[[Item], float | None] | None
    seconds: float | None = 0.0
    """Seconds of a worker; None if the job cannot tell."""
    items: int = 0

    @classmethod
    def of(cls, job: Job) -> "Total":
        """Nothing yet."""
        expect = expected_of(job)
        return cls(expect, 0.0 if expect else None)

    def add(self, item: Item) -> None:
        """Add an item."""
        if self.expect and self.seconds is not None:
            more = self.expect(item)
            self.seconds = None if more is None else self.seconds + more
            self.items += 1

    def pace(self) -> Pace | None:
        """The pace of a worker; None if the job cannot tell."""
        if self.seconds is None or not self.items:
            return None
        return Pace(_START, {EXPECTED: 0.0}, {EXPECTED: self.seconds / self.items}, None)


@dataclass(frozen=True)
class Todo:
    """The work of a run."""

    items: int
    bytes: int
    task_size: int
    listing: float
    """Seconds of the listing."""


def estimated(
    measured: Pace, todo: Todo, workers: int, before: float, done: sampling.Sample, prices: pricing.Prices
) -> Estimate:
    """The estimate from the pace of `workers` here; `before` is the driver's time of preparation, in seconds."""
    crowd = min(1.0, cores() / workers)  # workers may share processors
    sizes = task_sizes(todo.items, todo.task_size, workers)
    stages = measured.stages(todo.items / len(sizes))
    seconds = _seconds(measured, todo, workers)
    alone = {stage: s * crowd for stage, s in stages.items()}
    paid = {stage: s for stage, s in alone.items() if stage != READ}  # the network there is different
    return Estimate(
        seconds=before + seconds + done.committed,
        margin=_margin(measured, done.items, todo.items),
        items_per_second=workers / sum(stages.values()),
        startup=measured.startup,
        stages=tuple(
            Stage(name, stages[name], share, 1 / stages[name] if stages[name] else None)
            for name, share in proportions(stages).items()
        ),
        elsewhere=tuple(_scaled(measured, crowd, todo, before + done.committed, many) for many in ELSEWHERE),
        aws=prices.costs(paid, todo.items, len(sizes), todo.task_size),
        prices=f"{prices.date}, {prices.region}",
    )


def _seconds(measured: Pace, todo: Todo, workers: int, crowd: float = 1.0) -> float:
    """Seconds from the start of the listing to the end of the last task."""
    # The first task starts when `workers` x `task_size` items are listed, or all.
    until_first = todo.listing * min(1.0, workers * todo.task_size / todo.items)
    sizes = task_sizes(todo.items, todo.task_size, workers)
    working = makespan(sizes, workers, measured.startup, measured.task * crowd, measured.item * crowd)
    return max(until_first + working, todo.listing + measured.startup)


def _scaled(measured: Pace, crowd: float, todo: Todo, driver: float, workers: int) -> Scaled:
    seconds = driver + _seconds(measured, todo, workers, crowd)
    working = (
        makespan(task_sizes(todo.items, todo.task_size, workers), workers, 0.0, measured.task, measured.item) * crowd
    )
    return Scaled(
        workers, seconds, todo.items / seconds, todo.bytes / seconds, "listing" if todo.listing > working else ""
    )


def _margin(measured: Pace, sampled: int, items: int) -> float | None:
    """Two standard errors, smaller for a sample of most items; at least `BEST_MARGIN`."""
    if measured.error is None:
        return None
    return max(BEST_MARGIN, 2 * measured.error * math.sqrt(1 - sampled / items))
