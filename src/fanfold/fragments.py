"""Fragments that wait for their commit: what is in them, and whether they can be read at all.

A fragment may be gone (swept up as litter, or replaced by a compaction that came after somebody else's commit of it),
or torn (empty, cut off, or full of something else after a power cut). Neither is an error here: the answer is None.

Lance keeps no sums, and reads noise as rows. So the receipt of a fragment on a disk of this machine has its files'
sums. Object stores keep sums themselves, and have an object as a whole or not at all.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
from lance import FragmentMetadata
from lance.file import LanceFileSession
from obstore.exceptions import NotFoundError

from fanfold.errors import StorageError
from fanfold.index import Digests, Words, digests, words
from fanfold.storage import broke_off, errors_of, is_url, join, open_store, side_by_side, sync

Fragment = Mapping[str, Any]
"""What Lance says of a fragment, as JSON can hold it."""

_READS = 8  # fragments read at once when they are committed: each is a few round trips to an object store


class Uncommitted:
    """The fragments of one table that are no part of it yet."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
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

    def columns(self, fragments: Sequence[Fragment]) -> list[tuple[Digests, Words] | None]:
        """The keys and versions of each fragment; None of one that is gone or torn. Several are read at once."""

        def look(fragment: Fragment) -> tuple[Digests, Words] | None:
            rows = self.read(fragment, ["key", "version"])
            return None if rows is None else (digests(texts(rows, "key")), words(texts(rows, "version")))

        return side_by_side(look, fragments, _READS)

    def read(self, fragment: Fragment, columns: list[str] | None = None) -> pa.Table | None:
        """A fragment's rows; None of one that is gone or torn. Raises StorageError when it cannot be reached."""
        try:
            known = metadata(fragment)
        except (KeyError, TypeError, ValueError):  # of a receipt that says something else
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
        """Raise StorageError if a file that Lance cannot read is there and cannot be had, which says nothing of it."""
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
