"""Planning, pure: which items need work, and how they are cut into tasks.

    listed ──classify──▶ new, changed, unread, failed (if asked again) ──cut──▶ tasks
                         unchanged, failed before, kept: counted, done with

The same listing and the same tables give the same plan, every time. Both steps stream.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from more_itertools import chunked

from fanfold.core.index import NOWHERE, Index, digests, words
from fanfold.core.mirror import scheme_of
from fanfold.errors import UsageError
from fanfold.job import UNKNOWN, Item
from fanfold.source import Ids, Source, by_stem

T = TypeVar("T")

Codes = npt.NDArray[np.int64]
"""Standings by number: their places in `Standing`."""

_CHUNK = 4096  # items looked up at once: enough to make the lookup cheap, few enough to start soon
SMALLEST = 4
"""Items of the last tasks: of pictures that take long, more would leave workers idle; of others, a task costs more."""
OUT_OF_REACH = "unreachable (their rows stay)"
"""Why an item is left out whose standing is `KEPT`."""


class Standing(StrEnum):
    """Where an item stands before a run."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    """It failed before, at this very version."""
    UNREAD = "unread"
    """It could not be read before, at this very version: a server was down, say."""
    KEPT = "kept"
    """It cannot be looked at now, so that its row stays as it is."""


_NEW, _CHANGED, _UNCHANGED, _FAILED, _UNREAD, _KEPT = range(6)
_UNKNOWN = words([UNKNOWN])


MOST_ITEMS = 10_000_000
"""Items that a task may have."""


@dataclass(frozen=True)
class Options:
    """How a run is done, whatever the job."""

    task_size: int = 1000
    """Items a task at most: what is done again when a worker dies, and what a commit publishes."""
    ids: Ids = "key"
    """What names an item: its path (`key`), or its file name without ending (`stem`, as in the article)."""
    retry_failed: bool = False
    """Whether items that failed before, at the version they still have, are tried again. Those that could not be read
    are in any case."""
    mirror: str = ""
    """The address of an external table to keep in sync: `dynamodb://NAME`."""

    @property
    def wanted(self) -> frozenset[Standing]:
        """The standings of the items to work on."""
        always = {Standing.NEW, Standing.CHANGED, Standing.UNREAD}
        return frozenset(always | ({Standing.FAILED} if self.retry_failed else set()))

    def __post_init__(self) -> None:
        if self.task_size < 1:
            raise UsageError(f"A task needs at least one item, not {self.task_size}.")
        if self.task_size > MOST_ITEMS:
            raise UsageError(
                f"A task has at most {MOST_ITEMS:,} items, not {self.task_size:,}: a worker holds its list."
            )
        if self.ids not in ("key", "stem"):
            raise UsageError(f"--id takes key or stem, not {self.ids}.")
        if self.mirror:
            scheme_of(self.mirror)


@dataclass(frozen=True)
class Held:
    """What the two tables hold."""

    rows: Index = field(default_factory=Index)
    failures: Index = field(default_factory=Index)
    passing: Index = field(default_factory=Index)
    """Those of the failures that may pass by themselves (see `Failure.passing`)."""


def classify(items: Iterable[Item], held: Held) -> Iterator[tuple[list[Item], Codes]]:
    """Some thousands of items at a time, and where each stands, given what the two tables hold."""
    for chunk in chunked(items, _CHUNK):
        keys, versions = digests([item.key for item in chunk]), words([item.version for item in chunk])
        done_at, done = held.rows.find(keys)
        failed_at, failed = held.failures.find(keys)
        is_done = (done != NOWHERE) & (done_at == versions)
        has_failed = (failed != NOWHERE) & (failed_at == versions)
        is_known = (done != NOWHERE) | (failed != NOWHERE)
        is_kept = (done != NOWHERE) & (versions == _UNKNOWN)
        is_unread = has_failed & held.passing.has(keys)
        states = [is_done, is_kept, is_unread, has_failed, is_known]
        yield chunk, np.select(states, [_UNCHANGED, _KEPT, _UNREAD, _FAILED, _CHANGED], _NEW)


def listed(source: Source, suffixes: frozenset[str], ids: Ids) -> Iterator[Item]:
    """List a source, with the keys that its items have in a table of these ids."""
    items = source.list(suffixes)
    return by_stem(items) if ids == "stem" else items


def cut(items: Iterable[T], task_size: int, workers: int) -> Iterator[list[T]]:
    """Cut items into tasks of at most `task_size`, the last ones ever smaller so that all workers end together.

    Reads ahead at most `workers` x `task_size` items. What remains when the items end is handed out by guided
    self-scheduling: each task takes a share of 1 / (2 x workers) of what is left (Polychronopoulos and Kuck,
    "Guided Self-Scheduling", IEEE Transactions on Computers C-36 (12), 1987). With no workers to be even with,
    all tasks are of `task_size`, save the last.
    """
    stream = iter(items)
    ahead: list[T] = []
    most = max(1, workers) * task_size
    while more := list(islice(stream, most + 1 - len(ahead))):
        ahead += more
        if len(ahead) > most:
            yield ahead[:task_size]
            del ahead[:task_size]
    while ahead:
        size = next_size(len(ahead), task_size, workers)
        yield ahead[:size]
        del ahead[:size]


def next_size(left: int, task_size: int, workers: int) -> int:
    """Items of the next task at most, when so many are left and no more will come."""
    return min(task_size, max(SMALLEST, -(-left // (2 * workers)))) if workers else task_size
