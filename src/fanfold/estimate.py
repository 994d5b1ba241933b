"""What a run would do, how long it would take and what it would cost, from a sample that is really done.

listing ──▶ counts, bytes, a random sample ──done here──▶ pace ──▶ time here, on more workers, dollars on AWS
"""

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fanfold import sample as sampling
from fanfold.aws import prices as pricing
from fanfold.driver import addressed
from fanfold.executors.local import Local, cores
from fanfold.job import Item, Job
from fanfold.ledger import Ledger, classified
from fanfold.pace import READ, Pace, makespan, pace, shares, task_sizes
from fanfold.plan import Held, Options, Standing
from fanfold.planner import Tally
from fanfold.storage import exists

ELSEWHERE = (1, 8, 64, 512)
"""Numbers of workers that are told of."""
BEST_MARGIN = 0.1
"""No estimate claims to be nearer than this: machines do other things, too."""


@dataclass(frozen=True)
class Stage:
    """A stage of the work."""

    name: str
    seconds: float
    """Of a worker, an item."""
    share: float
    """Of a worker's time."""
    alone: float | None
    """Items a second that a worker could do if it did nothing else; None if it takes no time at all."""


@dataclass(frozen=True)
class Scaled:
    """The run on so many workers."""

    workers: int
    seconds: float
    items_per_second: float
    bytes_per_second: float
    """To be read: what the source must be able to give."""
    limit: str
    """What holds it back instead of the workers: `listing`, or nothing."""


@dataclass(frozen=True)
class Estimate:
    """How long a run takes, and what it costs; measured on a sample."""

    seconds: float
    """Here: from calling `run` to its end, or from the start of the command."""
    margin: float | None
    """How far off that may be, as a share: two standard errors of the sample; None if it was too small to tell."""
    items_per_second: float
    """Here, once the workers are warm."""
    startup: float
    """Seconds from starting the workers until they are warm."""
    stages: tuple[Stage, ...]
    """The most costly first."""
    elsewhere: tuple[Scaled, ...]
    """On workers like those here, if every worker has a processor of its own."""
    aws: tuple[pricing.Cost, ...]
    prices: str
    """The date and the region of the prices."""

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
    """Failed before at this version: not tried again unless asked."""
    unread: int
    """Could not be read before at this version: tried again."""
    left_out: dict[str, int]
    todo: int
    """Items a run would work on."""
    bytes: int
    """To be read: of the items a run would work on."""
    workers: int
    listing_seconds: float
    sampled: int
    """Items that were done to measure it; none when there is nothing to do."""
    sample_failed: int
    """Those of them that failed."""
    trouble: str
    """Why a whole task of the sample failed, if one did."""
    estimate: Estimate | None
    """None when nothing is to be done, or when no task of the sample could be done."""

    @property
    def seconds(self) -> float | None:
        """Estimated, here; None without an estimate."""
        return self.estimate.seconds if self.estimate else None

    def to_json(self) -> dict[str, Any]:
        """Every number, as one JSON object."""
        return asdict(self) | {"seconds": self.seconds, "bottleneck": self.estimate and self.estimate.bottleneck}


def preview(
    job: Job,
    *,
    source: str | Sequence[str],
    database: str,
    table: str | None = None,
    workers: int | None = None,
    prices: str | Path | None = None,
    tally: Tally | None = None,
    before: float = 0.0,
    **options: Any,
) -> Preview:
    """Say what `run` would do with the same arguments. Nothing is written but a sample, for a moment, elsewhere.

    Args:
        prices: A file like `fanfold/aws/prices.toml`, to be used instead of it.
        tally: Counts along, for whoever shows how far this is.
        before: Seconds that were spent already, as they will be before the run.

    Raises:
        UsageError: What `run` raises, and for prices that cannot be read.
    """
    entered, tally = time.monotonic(), tally or Tally()
    chosen, hands, table_of_prices = Options(**options), Local(workers).workers, pricing.load(prices)
    collection, where, name = addressed(source, database, job.name if table is None else table)
    held = Held()
    if ledger := Ledger.open(where, name) if exists(where) else None:
        collection = ledger.fit(job, collection, chosen.ids)
        ledger.rows.refresh()
        ledger.failures.refresh()
        held = ledger.held
    opened = time.monotonic()
    found = Found(sampling.Reservoir(sampling.size(hands)))
    found.count(classified(collection, job.suffixes, chosen.ids, held), chosen.wanted, tally)
    listing = time.monotonic() - opened
    sample = found.sample
    tally.listed, tally.planned, tally.note = 0, 0, "measuring a sample"
    done = sampling.take(job, collection, sample.shuffled(), hands, tally) if sample.seen else None
    estimate = None
    if done and (seen := pace(done.outcomes, done.began)):
        work = Todo(sample.seen, found.bytes, chosen.task_size, listing)
        estimate = estimated(seen, work, hands, before + opened - entered + done.prepared, done, table_of_prices)
    return Preview(
        new=found.standings[Standing.NEW],
        changed=found.standings[Standing.CHANGED],
        unchanged=found.standings[Standing.UNCHANGED],
        failed_before=found.standings[Standing.FAILED],
        unread=found.standings[Standing.UNREAD],
        left_out=dict(collection.left_out),
        todo=sample.seen,
        bytes=found.bytes,
        workers=hands,
        listing_seconds=listing,
        sampled=done.items if done else 0,
        sample_failed=done.failed if done else 0,
        trouble=done.trouble if done else "",
        estimate=estimate,
    )


@dataclass
class Found:
    """What a listing found, counted by how it stands."""

    sample: sampling.Reservoir
    """Of the items that a run would work on."""
    standings: Counter[Standing] = field(default_factory=Counter)
    bytes: int = 0
    """Of the items that a run would work on."""

    def count(self, listing: Iterable[tuple[Item, Standing]], wanted: Collection[Standing], tally: Tally) -> None:
        """Count a listing to its end."""
        for item, standing in listing:
            self.standings[standing] += 1
            tally.listed += 1
            if standing in wanted:
                tally.planned += 1
                self.bytes += item.size
                self.sample.offer(item)


@dataclass(frozen=True)
class Todo:
    """The work of a run."""

    items: int
    bytes: int
    task_size: int
    listing: float
    """Seconds that listing takes."""


def estimated(
    seen: Pace, todo: Todo, workers: int, before: float, done: sampling.Sample, prices: pricing.Prices
) -> Estimate:
    """The estimate at the pace that `workers` showed here; `before` are the driver's seconds of preparation."""
    crowd = min(1.0, cores() / workers)  # more workers than processors share them
    sizes = task_sizes(todo.items, todo.task_size, workers)
    stages = seen.stages(todo.items / len(sizes))
    seconds = _seconds(seen, todo, workers)
    alone = {stage: s * crowd for stage, s in stages.items()}
    paid = {stage: s for stage, s in alone.items() if stage != READ}  # waiting for here's network is not waiting there
    return Estimate(
        seconds=before + seconds + done.committed,
        margin=_margin(seen, done.items, todo.items),
        items_per_second=workers / sum(stages.values()),
        startup=seen.startup,
        stages=tuple(
            Stage(name, stages[name], share, 1 / stages[name] if stages[name] else None)
            for name, share in shares(stages).items()
        ),
        elsewhere=tuple(_scaled(seen, crowd, todo, before + done.committed, many) for many in ELSEWHERE),
        aws=prices.costs(paid, todo.items, len(sizes), todo.task_size),
        prices=f"{prices.date}, {prices.region}",
    )


def _seconds(seen: Pace, todo: Todo, workers: int, crowd: float = 1.0) -> float:
    """From the first look at the source to the last task's end."""
    # The first task is handed out once `workers` x `task_size` items are listed, or all.
    until_first = todo.listing * min(1.0, workers * todo.task_size / todo.items)
    sizes = task_sizes(todo.items, todo.task_size, workers)
    working = makespan(sizes, workers, seen.startup, seen.task * crowd, seen.item * crowd)
    return max(until_first + working, todo.listing + seen.startup)


def _scaled(seen: Pace, crowd: float, todo: Todo, driver: float, workers: int) -> Scaled:
    seconds = driver + _seconds(seen, todo, workers, crowd)
    working = makespan(task_sizes(todo.items, todo.task_size, workers), workers, 0.0, seen.task, seen.item) * crowd
    return Scaled(
        workers, seconds, todo.items / seconds, todo.bytes / seconds, "listing" if todo.listing > working else ""
    )


def _margin(seen: Pace, sampled: int, items: int) -> float | None:
    """Two standard errors, less as the sample is more of the whole; never below `BEST_MARGIN`."""
    if seen.error is None:
        return None
    return max(BEST_MARGIN, 2 * seen.error * math.sqrt(1 - sampled / items))
