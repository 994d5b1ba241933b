"""Detail tables: any number of rows an item, all of them there or none.

    a worker     detail rows of "a", more of "a", the row of "a", detail rows of "b", the row of "b", ...
                      │                                │
                 fragments of the detail table         the row itself, with a column that counts them
    a driver     details first, then rows: an item's details go in only if they are as many as its row counts

The count in the row makes the tables comparable, whatever was killed and however many drivers were at work. An item is
whole if each detail table has as many rows of this (key, version) as its row counts. Else it is done again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fanfold.core.fragments import Content, Fragment, texts
from fanfold.core.index import NOWHERE, Index, Mask, Places

if TYPE_CHECKING:
    from fanfold.core.table import Table

DETAILS = "fanfold.details"
"""The metadata key of a table with details: the short names of the detail tables, as JSON, in order."""
DETAIL_OF = "fanfold.detail_of"
"""The metadata key of a detail table: the name of the table whose items its rows are of."""

GROUP_BYTES = 64 << 20
"""Detail rows that are held before they are written; an item is cut only if it alone has more."""
_MOST_BATCHES = 1000
DONE_AT_ONCE = 8
"""Outcomes whose rows are read at once."""


def count_column(detail: str) -> str:
    """The column of a job's own table that counts the rows an item has in a detail table."""
    return f"{detail}_count"


@dataclass(frozen=True)
class Lot:
    """What one task wrote for one detail table. What counts of it are the items that have a row of the same task."""

    fragments: Sequence[Fragment]
    wanted: Content
    """Those items, each once, and how many rows of each must be here."""

    def whole(self, contents: list[Content]) -> tuple[Mask, Places]:
        """Which wanted items are here with all their rows; and of each run in the contents which one it is, or -1."""
        runs = Content.of(*contents)
        places = Index()
        places.add(self.wanted.keys, self.wanted.versions, np.arange(len(self.wanted), dtype=np.uint64))
        versions, found = places.find(runs.keys)
        ours = (found != NOWHERE) & (versions == runs.versions)
        place = np.where(ours, found.astype(np.int64), -1)
        totals = np.bincount(place[ours], runs.sizes[ours], len(self.wanted))
        return totals == self.wanted.sizes, place


class _Held:
    """Rows in memory, in few batches."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.bytes = 0

    def add(self, batches: list[pa.RecordBatch], size: int) -> None:
        """Take batches of so many bytes: Arrow takes a while to add them up."""
        self.batches += batches
        self.bytes += size
        if len(self.batches) > _MOST_BATCHES:  # each takes a kilobyte, however few rows it has
            self.batches = pa.Table.from_batches(self.batches).combine_chunks().to_batches()

    def take(self) -> tuple[list[pa.RecordBatch], int]:
        """All of them, which are then held no more, and their bytes."""
        taken = self.batches, self.bytes
        self.batches, self.bytes = [], 0
        return taken


class DetailWriter:
    """Writes the rows of one detail table, and cuts no item that fits into a fragment."""

    def __init__(self, table: "Table") -> None:
        self.table = table
        self.fragments: list[dict[str, Any]] = []
        self.rows = 0
        """Rows of the item that is not closed yet."""
        self._closed, self._open = _Held(), _Held()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows of the item that is not closed yet. Raises StorageError."""
        self.rows += len(rows)
        self._open.add([rows], rows.nbytes)
        if self._open.bytes >= GROUP_BYTES:
            self._write(self._closed)
            self._write(self._open)

    def close(self) -> int:
        """Keep the item's rows, and return how many there are."""
        rows, self.rows = self.rows, 0
        self._closed.add(*self._open.take())
        if self._closed.bytes >= GROUP_BYTES:
            self._write(self._closed)
        return rows

    def drop(self) -> None:
        """Forget the item's rows. Some may be in a fragment already; no commit takes them."""
        self.rows = 0
        self._open.take()

    def end(self) -> list[dict[str, Any]]:
        """Write the rest; return all fragments."""
        self.drop()
        self._write(self._closed)
        return self.fragments

    def _write(self, held: _Held) -> None:
        batches, _ = held.take()
        if batches:
            self.fragments += self.table.write_group(batches)


class Collected:
    """The detail rows of a task, as its job yields them: those of one item after those of another."""

    def __init__(self, tables: Mapping[str, "Table"]) -> None:
        self.writers = {name: DetailWriter(table) for name, table in tables.items()}
        self.item: str | None = None
        """The key of the item whose row is still to come."""
        self.forgotten: set[str] = set()
        """Items with details and without a row, though another's details have followed."""

    def add(self, name: str, rows: pa.RecordBatch, key: str) -> None:
        """Take detail rows of an item. Raises ValueError for a job that does not keep to the contract."""
        if name not in self.writers:
            raise ValueError(f"the job gave details called {name!r}, but details() does not name them")
        if self.item not in (None, key):
            self.forgotten.add(self.item)
            self.drop(self.item)
        if key in self.forgotten:
            raise ValueError(f"the job gave details of {key!r}, then of another item, then more of {key!r}")
        self.item = key
        self.writers[name].add(rows)

    def drop(self, key: str) -> None:
        """Forget the rows of an item that has failed."""
        if self.item == key:
            self.item = None
            for writer in self.writers.values():
                writer.drop()

    def counted(self, rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """The job's rows with their counts of detail rows; their items are closed."""
        keys = texts(rows, "key")
        if late := self.forgotten.intersection(keys):
            raise ValueError(f"the job gave the row of {min(late)!r} after details of another item")
        counts = {name: [0] * len(keys) for name in self.writers}
        if self.item in keys:
            for name, writer in self.writers.items():
                counts[name][keys.index(self.item)] = writer.close()
            self.item = None
        arrays = [*rows.columns, *(pa.array(count, pa.int64()) for count in counts.values())]
        if rows.schema.names != schema.names[: len(rows.schema)]:
            raise ValueError(f"the job gave rows with the columns {rows.schema.names}, which schema() does not name")
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def end(self) -> dict[str, list[dict[str, Any]]]:
        """Write the rest; return the fragments of each table."""
        return {name: writer.end() for name, writer in self.writers.items()}
