"""The planner: lists a source, says where each item stands, and writes down the tasks to do.

source ──list──▶ items ──classify──▶ new, changed ──cut──▶ tasks/000017.parquet, one a task
                           └──▶ unchanged, failed before: counted in plan.json, written last
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fanfold.errors import FanfoldError, StorageError
from fanfold.job import Item
from fanfold.ledger import Ledger, listed
from fanfold.pace import shares
from fanfold.plan import OUT_OF_REACH, Options, Standing, cut, looked_up
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.source import Places, Source
from fanfold.source.folder import UNREADABLE, VANISHED

RECENT = 16
"""Tasks that tell where the time goes now: few enough for a change of the pictures to show."""


class Stopped(FanfoldError):
    """Somebody asked for the planning to stop."""


@dataclass
class Tally:
    """How far a run is. Read it at any time, from any thread."""

    listed: int = 0
    listing: bool = True
    """Whether the source is still being listed, so that `listed` may grow."""
    standings: Counter[Standing] = field(default_factory=Counter)
    planned: int = 0
    """Items this run has to work on, as far as they are listed."""
    bytes: int = 0
    """Of the items planned."""
    ok: int = 0
    failed: int = 0
    unread: int = 0
    """Of those that failed, the ones that could not be read."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why tasks were given up: reason -> items."""
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Task number -> items done and failed, of tasks not committed yet."""
    lost: int = 0
    """Items of tasks that were given up: they are in no table."""
    note: str = ""
    """What else is worth saying now: that machines are being waited for, say."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Where the workers' time went, by stage, of tasks that have ended."""
    recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The same, of each of the last tasks."""

    @property
    def done(self) -> int:
        """Items done so far, those of unfinished tasks included."""
        return self.ok + sum(ok for ok, _ in list(self.under_way.values()))

    def watch(self, task: int, ok: int, failed: int) -> None:
        """Take note of how far a task is: what executors call their progress."""
        self.under_way[task] = (ok, failed)

    def count(self, outcome: Outcome) -> None:
        """Count a task that has ended for good."""
        self.under_way.pop(outcome.task, None)
        self.ok += outcome.ok
        self.failed += outcome.failed
        self.unread += outcome.unread
        if outcome.error:
            lost = outcome.items - outcome.ok - outcome.failed
            self.lost += lost
            self.reasons[outcome.error[:1000]] += lost
        self.seconds.update(outcome.seconds)
        self.recent.append(outcome.seconds)

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the workers' time of late, the largest first; empty until a task has ended."""
        spent: Counter[str] = Counter()
        for seconds in list(self.recent):
            spent.update(seconds)
        return shares(spent)

    @property
    def unsuccessful(self) -> int:
        """Items that failed so far, those of unfinished tasks included."""
        return self.failed + sum(failed for _, failed in list(self.under_way.values()))

    @property
    def ended(self) -> int:
        """Items done, failed or lost so far. It falls when a worker dies, and its task begins again."""
        return self.done + self.unsuccessful + self.lost


class Planner:
    """Plans one run."""

    def __init__(
        self, source: Source, suffixes: frozenset[str], ledger: Ledger, options: Options, directory: RunDirectory
    ) -> None:
        self.source, self.suffixes, self.ledger = source, suffixes, ledger
        self.options, self.directory = options, directory
        self.tally = Tally()
        self._places = Places(source.addresses)
        self._tasks = 0
        self._numbering = threading.Lock()
        self._stop = threading.Event()

    def tasks(self, workers: int) -> Iterator[Task]:
        """Write manifests one by one; yield their tasks, cut for so many workers (see `cut`).

        Raises StorageError when the source cannot be listed, Stopped after `stop`.
        """
        try:
            for items in cut(self._wanted(), self.options.task_size, workers):
                yield self._task(self._distinct(items))
        except OSError as error:  # what was there when the source was opened is not any more
            self._places.check()
            raise StorageError(f"Cannot list {self.source.root}: {error}") from error
        if any(self.source.left_out[reason] for reason in (UNREADABLE, VANISHED)):  # each for itself, or all at once
            self._places.check()
        self.tally.listing = False
        self.directory.put("plan.json", self._counts())

    def stop(self) -> None:
        """Plan no more; callable from any thread."""
        self._stop.set()

    def check(self) -> None:
        """Raise Stopped after `stop`."""
        if self._stop.is_set():
            raise Stopped("The run was stopped while it was planned.")

    def split(self, _task: int, parts: list[list[Item]]) -> list[Task]:
        """New tasks for the parts of one."""
        return [self._task(items) for items in parts]

    def _task(self, items: list[Item]) -> Task:
        """The next task, of these items. Numbers are given out by the lister and by whoever splits tasks."""
        with self._numbering:
            number, self._tasks = self._tasks, self._tasks + 1
        return self.directory.write_manifest(number, items)

    @property
    def unchanged(self) -> int:
        """Items in the table before, at the version listed."""
        return self.tally.standings[Standing.UNCHANGED]

    @property
    def failed_before(self) -> int:
        """Items that failed at this version in earlier runs, and are not tried again."""
        return 0 if self.options.retry_failed else self.tally.standings[Standing.FAILED]

    def _counts(self) -> Mapping[str, Any]:
        return {
            "listed": self.tally.listed,
            "unchanged": self.unchanged,
            "failed_before": self.failed_before,
            "planned": self.tally.planned,
            "bytes": self.tally.bytes,
            "tasks": self._tasks,
            "left_out": dict(self.source.left_out),
        }

    def _distinct(self, items: list[Item]) -> list[Item]:
        """The items, each key once: a folder gives a file twice that is replaced by renaming while it is listed."""
        distinct = {item.key: item for item in items}
        self.tally.listed -= len(items) - len(distinct)
        self.tally.planned -= len(items) - len(distinct)
        return list(distinct.values())

    def _wanted(self) -> Iterator[Item]:
        # Commits go on meanwhile: the listing is compared with what the tables held when it began.
        held = self.ledger.held
        wanted = [place for place, standing in enumerate(Standing) if standing in self.options.wanted]
        found = listed(self.source, self.suffixes, self.options.ids)
        for items, standings in looked_up(found, held):
            self.check()
            counts = dict(zip(Standing, np.bincount(standings, minlength=len(Standing)).tolist(), strict=True))
            self.tally.standings.update(counts)
            if kept := counts[Standing.KEPT]:
                self.source.left_out[OUT_OF_REACH] += kept
            self.tally.listed += len(items) - kept
            some = [items[place] for place in np.flatnonzero(np.isin(standings, wanted)).tolist()]
            self.tally.planned += len(some)
            self.tally.bytes += sum(item.size for item in some)
            yield from some
