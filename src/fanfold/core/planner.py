"""The planner: lists a source, finds where each item stands, and writes down the tasks to do.

source ──list──▶ items ──classify──▶ new, changed ──cut──▶ tasks/000017.parquet, one a task
                           └──▶ unchanged, failed before: counted in plan.json, written last
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fanfold.core.ledger import Ledger
from fanfold.core.plan import OUT_OF_REACH, Held, Options, Standing, classify, cut, listed
from fanfold.core.progress import Tally
from fanfold.core.runs import RunDirectory, Task
from fanfold.errors import FanfoldError, StorageError
from fanfold.job import Item
from fanfold.source import Places, Source
from fanfold.source.folder import UNREADABLE, VANISHED


class Stopped(FanfoldError):
    """Planning was asked to stop."""


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
            raise Stopped("The run was stopped during planning.")

    def split(self, _task: int, parts: list[list[Item]]) -> list[Task]:
        """New tasks for the parts of one."""
        return [self._task(items) for items in parts]

    def _task(self, items: list[Item]) -> Task:
        """The next task, of these items. Both the planner and the splitter of tasks ask for numbers."""
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
        return wanted(self.source, self.suffixes, self.options, self.ledger.held, self.tally, self.check)


def wanted(
    source: Source,
    suffixes: frozenset[str],
    options: Options,
    held: Held,
    tally: Tally,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Item]:
    """List a source, count in the tally where its items stand, and yield those to work on.

    Items whose rows are kept count as left out. `check` is called now and then, and may raise to end the listing.
    """
    codes = [code for code, standing in enumerate(Standing) if standing in options.wanted]
    for items, standings in classify(listed(source, suffixes, options.ids), held):
        check()
        counts = dict(zip(Standing, np.bincount(standings, minlength=len(Standing)).tolist(), strict=True))
        tally.standings.update(counts)
        if kept := counts[Standing.KEPT]:
            source.left_out[OUT_OF_REACH] += kept
        tally.listed += len(items) - kept
        some = [items[place] for place in np.flatnonzero(np.isin(standings, codes)).tolist()]
        tally.planned += len(some)
        tally.bytes += sum(item.size for item in some)
        yield from some
