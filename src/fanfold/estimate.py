"""What a run would do, and about how long it would take, without doing it."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fanfold.driver import addressed
from fanfold.executors.local import cores
from fanfold.index import Index
from fanfold.job import Item, Job
from fanfold.ledger import Ledger, classified
from fanfold.plan import Options, Standing
from fanfold.source import Source
from fanfold.storage import exists


@dataclass(frozen=True)
class Preview:
    """What a run would do."""

    new: int
    changed: int
    unchanged: int
    failed_before: int
    """Failed before at this version: not tried again unless asked."""
    left_out: dict[str, int]
    bytes: int
    """To be read: of the items a run would work on."""
    seconds: float | None
    """Estimated, from a sample done here and now; None when nothing is to be done."""
    workers: int


SAMPLE = 24  # items: enough for a rate within some 20 %, few enough to take a second or two


def preview(
    job: Job,
    *,
    source: str | Sequence[str],
    database: str,
    table: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Preview:
    """Say what `run` would do with the same arguments; nothing is written. Raises what `run` raises."""
    chosen = Options(**options)
    collection, where, name = addressed(source, database, table or job.name)
    ledger = Ledger.open(where, name) if exists(where) else None
    rows = failures = Index()
    if ledger:
        collection = ledger.fit(job, collection, chosen.ids)
        ledger.rows.refresh()
        ledger.failures.refresh()
        rows, failures = ledger.rows.index, ledger.failures.index
    standings: Counter[Standing] = Counter()
    size = 0
    sample: list[Item] = []
    for item, standing in classified(collection, job.suffixes, chosen.ids, rows, failures):
        standings[standing] += 1
        if standing in chosen.wanted:
            size += item.size
            if len(sample) < SAMPLE:
                sample.append(item)
    hands = workers or cores()
    todo = sum(standings[standing] for standing in chosen.wanted)
    return Preview(
        standings[Standing.NEW],
        standings[Standing.CHANGED],
        standings[Standing.UNCHANGED],
        standings[Standing.FAILED],
        dict(collection.left_out),
        size,
        _seconds_an_item(job, collection, sample) * todo / min(hands, todo) if todo else None,
        hands,
    )


def _seconds_an_item(job: Job, source: Source, sample: list[Item]) -> float:
    """Do a sample in this process, and time it without the set-up."""
    work = job.open()
    list(work(sample[:1], source))
    started = time.monotonic()
    list(work(sample, source))
    return (time.monotonic() - started) / len(sample)
