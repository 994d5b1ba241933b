"""Fragments that wait for their commit: what is in them, and whether they can be read at all.

A fragment may be gone (swept up as litter, or replaced by a compaction that came after somebody else's commit of it),
or torn (empty, cut off, or full of something else after a power cut). Neither is an error here: the answer is None.

Lance keeps no sums, and reads noise as rows. So the receipt of a fragment on a disk of this machine has its files'
sums. Object stores keep sums themselves, and have an object as a whole or not at all.
"""

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lance import FragmentMetadata
from lance.file import LanceFileSession
from obstore.exceptions import NotFoundError

from fanfold.core.index import Digests, Words, digests, words
from fanfold.errors import StorageError
from fanfold.storage import broke_off, errors_of, is_url, join, open_store, side_by_side, sync

Fragment = Mapping[str, Any]
"""Lance's metadata of a fragment, in the form of JSON."""

_MIX = 0x9E3779B97F4A7C15  # 2^64 / the golden ratio: sums of counts times its powers hardly ever agree by chance
_READS = 8  # fragments read at once when they are committed: each is a few round trips to an object store


@dataclass(frozen=True)
class Content:
    """What is in some rows: their items, in order. In a detail table an item is a run of rows, else it is one row."""

    keys: Digests
    versions: Words
    sizes: Words
    """How many detail rows each item has: in a detail table, here; in a table with details, all together (`mixed`)."""

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, keep: npt.NDArray[np.bool_]) -> "Content":
        """Only some of the items."""
        return Content(self.keys[keep], self.versions[keep], self.sizes[keep])

    @classmethod
    def of(cls, *parts: "Content") -> "Content":
        """All the items of several contents, in order."""
        return cls(
            np.concatenate([digests([]), *(part.keys for part in parts)]),
            np.concatenate([words([]), *(part.versions for part in parts)]),
            np.concatenate([words([]), *(part.sizes for part in parts)]),
        )


@dataclass(frozen=True)
class Shape:
    """How the rows of a table make up items."""

    many: bool = False
    """Whether an item is a run of rows: a detail table."""
    counts: tuple[str, ...] = ()
    """In a table with details: the columns that count an item's rows in each detail table."""

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return ["key", "version", *self.counts]

    def starts(self, rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.int64]:
        """Where the items begin among rows."""
        if not self.many or not len(rows):
            return np.arange(len(rows))
        begins = np.ones(len(rows), bool)
        begins[1:] = False
        for name in ("key", "version"):
            values = rows.column(name)
            differs = pc.not_equal(values.slice(1), values.slice(0, len(rows) - 1))
            begins[1:] |= np.asarray(differs)
        return np.flatnonzero(begins)

    def content(self, rows: pa.Table | pa.RecordBatch, starts: npt.NDArray[np.int64] | None = None) -> Content:
        """The items that rows make up; they begin at `starts`, if that is known."""
        if self.many:
            starts = self.starts(rows) if starts is None else starts
            sizes = np.diff(starts, append=len(rows)).astype(np.uint64)
            rows = rows.select(["key", "version"]).take(starts)
        else:
            sizes = mixed(len(rows), (rows.column(name).to_numpy() for name in self.counts))
        return Content(digests(texts(rows, "key")), words(texts(rows, "version")), sizes)


def mixed(items: int, counts: Iterable[npt.NDArray[Any]]) -> Words:
    """The counts of items in several detail tables as one number each: with a single table, the count itself."""
    total, factor = np.zeros(items, np.uint64), 1
    for column in counts:
        total = total + column.astype(np.uint64) * np.uint64(factor)
        factor = factor * _MIX % 2**64
    return total


class Uncommitted:
    """The fragments of one table that are no part of it yet."""

    def __init__(self, uri: str, shape: Shape = Shape()) -> None:
        self.uri, self.shape = uri, shape
        self.data = join(uri, "data")
        self._files: LanceFileSession | None = None

    def sealed(self, fragment: dict[str, Any]) -> dict[str, Any]:
        """A fragment that has just been written, with its sums once it is on the disk. Raises StorageError.

        So a receipt never reaches the disk before the rows that it names.
        """
        if is_url(self.uri):
            return fragment
        files = [join(self.data, file["path"]) for file in fragment["files"]]
        with errors_of(self.uri):
            sync(*files)
            return fragment | {"crc32": [_sum(file) for file in files]}

    def contents(self, fragments: Sequence[Fragment]) -> list[Content | None]:
        """What is in each fragment; None of one that is gone or torn. Several are read at once."""

        def look(fragment: Fragment) -> Content | None:
            rows = self.read(fragment, self.shape.columns)
            return None if rows is None else self.shape.content(rows)

        return side_by_side(look, fragments, _READS)

    def read(self, fragment: Fragment, columns: list[str] | None = None) -> pa.Table | None:
        """A fragment's rows; None of one that is gone or torn. Raises StorageError when it cannot be reached."""
        try:
            known = metadata(fragment)
        except (KeyError, TypeError, ValueError):  # of a receipt with something else in it
            return None
        tables = []
        for file, wanted in zip(known.files, fragment.get("crc32", [None] * len(known.files)), strict=True):
            if self._is_torn(file, wanted) or (rows := self._read(file.path, columns)) is None:
                return None
            tables.append(rows)
        whole = pa.concat_tables(tables) if tables else None
        return whole if whole is not None and len(whole) == known.physical_rows else None

    def _read(self, path: str, columns: list[str] | None) -> pa.Table | None:
        for _ in range(2):  # what failed for want of open files, say, succeeds when there are some
            try:
                with errors_of(self.uri):
                    self._files = self._files or LanceFileSession(self.data)
                    rows: pa.Table = self._files.open_reader(path, columns).read_all().to_table()
                    return rows
            except StorageError as error:
                if broke_off(error):
                    raise
                self._see_that_it_can_be_had(path)
        return None

    def _is_torn(self, file: Any, wanted: int | None) -> bool:
        """Whether a file of this machine is not what was written. (Lance panics over one that is empty.)"""
        path = join(self.data, file.path)
        if is_url(self.uri):
            return False
        try:
            is_short = file.file_size_bytes not in (None, os.stat(path).st_size)  # noqa: PTH116
            return is_short or wanted not in (None, _sum(path))
        except OSError:
            return False  # the reader says why

    def _see_that_it_can_be_had(self, path: str) -> None:
        """Raise StorageError if a file that Lance cannot read is there and cannot be had: it may be whole."""
        with errors_of(self.uri), suppress(FileNotFoundError, NotFoundError):
            store = open_store(self.data)
            if store.head(path)["size"]:
                store.get_range(path, start=0, length=1)


def _sum(path: str) -> int:
    """The CRC-32 of a file. Raises OSError."""
    found = 0
    with open(path, "rb") as file:  # noqa: PTH123
        while data := file.read(1 << 20):
            found = zlib.crc32(data, found)
    return found


def metadata(fragment: Fragment) -> FragmentMetadata:
    """A fragment as Lance takes it."""
    return FragmentMetadata.from_json(json.dumps(fragment))


def texts(rows: pa.Table | pa.RecordBatch, column: str) -> list[str]:
    """The values of `key` or `version`, neither of which has nulls."""
    return rows.column(column).to_pylist()  # type: ignore[return-value]
