"""The failed items of a database: each with its reason, and whether it is still in its source.

failures.lance ──▶ rows ──run──▶ run.json ──▶ the sources they were listed from ──list again──▶ still there, or gone
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from more_itertools import chunked, map_reduce

from fanfold.core.asked import Asked
from fanfold.core.index import Digests, Index, digests
from fanfold.core.plan import listed
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Table
from fanfold.damage import reading
from fanfold.errors import FanfoldError, UsageError
from fanfold.job import suffixes_of
from fanfold.source import collection
from fanfold.source.folder import UNREADABLE

_CHUNK = 4096

Failed = dict[str, Any]
"""A row of the failures table, and with `gone` whether the item has left its source: None where that cannot be seen."""


def failed(database: str, table: str | None = None, *, check: bool = False) -> Iterator[Failed]:
    """The failed items of a database, or of one of its tables; with `check`, their sources are listed first.

    Memory: 100 bytes a failed item with `check`, none without. Raises UsageError when there is no such database,
    StorageError when it cannot be read. A source that cannot be listed now is not an error: see `Failed`.
    """
    failures = Table.open(database, "failures")
    if failures is None:
        raise UsageError(f"There is no fanfold database at {database}.")
    sought = _sought(database, failures, table) if check else {}
    for rows in _batches(failures, table):
        for row in rows:
            yield row | ({"gone": sought[row["table"]].is_gone(row)} if check else {})


@dataclass
class _Sought:
    """The failed items of one table, and which of them are still in a source."""

    keys: list[Digests] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    there: Index = field(default_factory=Index)
    unseen: set[str] = field(default_factory=set)
    """The runs whose sources cannot be listed."""

    def is_gone(self, row: Failed) -> bool | None:
        """Whether an item has left its source; None if that cannot be seen."""
        if self.there.has(digests([row["key"]]))[0]:
            return False
        return None if row["run"] in self.unseen else True

    def look(self, database: str, name: str) -> None:
        """List the sources of the runs, each once."""
        sought = Index()
        keys = np.unique(np.concatenate(self.keys))
        sought.add(keys, np.zeros(len(keys), np.uint64), np.arange(len(keys), dtype=np.uint64))
        table = Table.open(database, name)
        root = table.metadata.get("fanfold.root") if table else None
        looked: dict[tuple[str, ...], bool] = {}
        for id in sorted(self.runs):
            asked = RunDirectory(database, id).asked
            sources = tuple(asked.sources)
            if sources not in looked:
                looked[sources] = root is not None and bool(sources) and self._list(sources, asked, root, sought)
            if not looked[sources]:
                self.unseen.add(id)

    def _list(self, sources: Sequence[str], asked: Asked, root: str, sought: Index) -> bool:
        """Take note of what is in these sources. Returns whether they could be listed to the end."""
        try:
            job, ids = asked.load_job(), asked.options["ids"]
            source = collection(job, sources).within(root)
            if source is None:
                return False
            for items in chunked(listed(source, suffixes_of(job), ids), _CHUNK):
                keys = digests([item.key for item in items])
                found = np.unique(keys[sought.has(keys)])
                self.there.add(found, *np.zeros((2, len(found)), np.uint64))
        except (FanfoldError, OSError, KeyError, TypeError, ImportError, AttributeError):
            return False  # or the job is one that cannot be loaded here
        return not source.left_out[UNREADABLE]


def _sought(database: str, failures: Table, only: str | None) -> dict[str, _Sought]:
    """The failed items of each table, looked for in their sources."""
    sought: dict[str, _Sought] = defaultdict(_Sought)
    for rows in _batches(failures, only, ["table", "key", "run"]):
        for name, some in map_reduce(rows, itemgetter("table")).items():
            sought[name].keys.append(digests([row["key"] for row in some]))
            sought[name].runs.update(row["run"] for row in some)
    for name, failed_items in sought.items():
        failed_items.look(database, name)
    return sought


def _batches(failures: Table, only: str | None, columns: list[str] | None = None) -> Iterator[list[Failed]]:
    with reading(failures.uri):
        for batch in failures.dataset.to_batches(columns=columns):
            yield [row for row in batch.to_pylist() if only in (None, row["table"])]
