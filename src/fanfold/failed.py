"""The failed items of a database: each with its reason, and whether it is still in its source.

failures.lance ──▶ rows ──run──▶ run.json ──▶ the sources they were listed from ──list again──▶ still there, or gone
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from fanfold.damage import reading
from fanfold.errors import FanfoldError, UsageError
from fanfold.index import NOWHERE, Digests, Index, digests
from fanfold.job import Item, load
from fanfold.ledger import listed
from fanfold.runs import RunDirectory
from fanfold.source import open_source
from fanfold.source.folder import UNREADABLE
from fanfold.table import Table

_CHUNK = 4096

Failed = dict[str, Any]
"""A row of the failures table, and with `gone` whether the item has left its source: None where that cannot be seen."""


def failed(database: str, table: str | None = None, *, check: bool = False) -> Iterator[Failed]:
    """The failed items of a database, or of one of its tables; with `check`, their sources are listed first.

    Memory: 100 bytes a failed item with `check`, none without. Raises UsageError when there is no such database,
    StorageError when it cannot be read. A source that cannot be listed now is no error: see `Failed`.
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
        if self.there.find(digests([row["key"]]))[1][0] != NOWHERE:
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
            asked = RunDirectory(database, id).get("run.json") or {}
            sources = tuple(asked.get("sources", ()))
            if sources not in looked:
                looked[sources] = root is not None and bool(sources) and self._list(sources, asked, root, sought)
            if not looked[sources]:
                self.unseen.add(id)

    def _list(self, sources: Sequence[str], asked: Mapping[str, Any], root: str, sought: Index) -> bool:
        """Take note of what is in these sources. Returns whether they could be listed to the end."""
        try:
            job, ids = load(asked["job"]["name"], asked["job"]["options"]), asked["options"]["ids"]
            for address in sources:
                source = open_source(address).within(root)
                if source is None:
                    return False
                for keys in _chunks(listed(source, job.suffixes, ids)):
                    found = np.unique(keys[sought.find(keys)[1] != NOWHERE])
                    self.there.add(found, *np.zeros((2, len(found)), np.uint64))
                if source.left_out[UNREADABLE]:
                    return False
        except (FanfoldError, OSError, KeyError, TypeError, ImportError, AttributeError):
            return False  # or the job is one that cannot be loaded here
        return True


def _sought(database: str, failures: Table, only: str | None) -> dict[str, _Sought]:
    """The failed items of each table, looked for in their sources."""
    sought: dict[str, _Sought] = defaultdict(_Sought)
    for rows in _batches(failures, only, ["table", "key", "run"]):
        for name in {row["table"] for row in rows}:
            of_table = [row for row in rows if row["table"] == name]
            sought[name].keys.append(digests([row["key"] for row in of_table]))
            sought[name].runs.update(row["run"] for row in of_table)
    for name, some in sought.items():
        some.look(database, name)
    return sought


def _batches(failures: Table, only: str | None, columns: list[str] | None = None) -> Iterator[list[Failed]]:
    with reading(failures.uri):
        for batch in failures.dataset.to_batches(columns=columns):
            yield [row for row in batch.to_pylist() if only in (None, row["table"])]


def _chunks(items: Iterator[Item]) -> Iterator[Digests]:
    """The digests of the items' keys, some thousands at a time."""
    while keys := [item.key for item in islice(items, _CHUNK)]:
        yield digests(keys)
