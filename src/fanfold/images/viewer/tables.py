"""The versions of a table that pages look at.

A page names rows by their number in one version, and everything it shows is of that version. A version that is not
there any more is answered with 410, and the page starts over with the newest.
"""

import secrets
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lance
import pyarrow as pa
from more_itertools import chunked
from starlette.exceptions import HTTPException

from fanfold.damage import is_gone, reading
from fanfold.errors import FanfoldError, StorageError
from fanfold.images.columns.table import with_columns
from fanfold.images.viewer.kept import Kept
from fanfold.storage import join

_OPEN = 4
"""Versions open at a time."""
_METADATA, _INDEX = 64 << 20, 256 << 20  # bytes of Lance's caches


def quoted(text: str) -> str:
    """A text as conditions have it."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Version:
    """A table at one version."""

    name: str
    """For clients: `7-1f2e3d4c`. The second part changes if the table is made again in the same place."""
    dataset: lance.LanceDataset

    @cached_property
    def rows(self) -> int:
        """The number of rows."""
        count: int = self.dataset.count_rows()
        return count

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the run wrote down about the table."""
        return {key.decode(): value.decode() for key, value in (self.dataset.schema.metadata or {}).items()}

    @cached_property
    def wide(self) -> lance.LanceDataset:
        """The same rows, with the columns that were joined to them."""
        with suppress(FanfoldError):
            return with_columns(self.dataset)
        return self.dataset

    @cached_property
    def facts(self) -> list[str]:
        """The columns to show of a row: all but vectors and other lists."""
        schema = self.wide.schema
        return [name for name in schema.names if not pa.types.is_nested(schema.field(name).type)]

    def command(self, verb: str) -> str:
        """What to type to do something with the table."""
        database, _, table = self.dataset.uri.rpartition("/")
        name = table.removesuffix(".lance")
        return shlex.join(["fanfold", "images", verb, database, *([] if name == "images" else ["--table", name])])

    def read(self, columns: Sequence[str], **asked: Any) -> pa.Table:
        """Rows with their numbers, by Lance's `to_table`. Raises StorageError."""
        with reading(self.dataset.uri):
            found: pa.Table = self.wide.to_table(columns=[*columns, "_rowoffset"], **asked)
            return found

    def at(self, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """These columns of rows, in the order given, each with its `row`; those that do not exist are left out."""
        there = [row for row in rows if 0 <= row < self.rows]
        if not there:
            return []
        with reading(self.dataset.uri):
            source = self.dataset if set(columns) <= set(self.dataset.schema.names) else self.wide
            found = source.take(there, columns=list(columns)).to_pylist()
        return [{"row": row, **facts} for row, facts in zip(there, found, strict=True)]

    def of(self, keys: Sequence[str]) -> dict[str, int]:
        """The rows of keys, by key."""
        found: dict[str, int] = {}
        for some in chunked(keys, 500):
            rows = self.read(["key"], filter=f"key IN ({', '.join(map(quoted, some))})").to_pylist()
            found.update((row["key"], row["_rowoffset"]) for row in rows)
        return found


class Tables:
    """A table, at any version that is asked for."""

    def __init__(self, database: str, table: str) -> None:
        """`database`: in full, as `fanfold.storage.absolute` gives it."""
        self.database, self.table = database, table
        self.uri = join(database, f"{table}.lance")
        self._highest = 0
        self._session = lance.Session(index_cache_size_bytes=_INDEX, metadata_cache_size_bytes=_METADATA)
        self._forget()

    def newest(self) -> Version:
        """The newest version. Raises StorageError if the table is not there."""
        try:
            dataset = self._dataset()
        except StorageError as error:
            self._forget()
            if is_gone(error) or "was not found" in str(error.__cause__):
                raise StorageError(f"Table '{self.table}' is not in {self.database} any more.") from error
            raise
        if dataset.version < self._highest:  # made again
            self._forget()
        self._highest = dataset.version
        name = f"{dataset.version}-{self._stamp}"
        return self._open.get((name,), lambda: Version(name, dataset))

    def at(self, name: str) -> Version:
        """The version that a client names. Raises HTTPException 410 if it is not there any more."""
        number, _, stamp = name.partition("-")
        if stamp != self._stamp or not number.isdecimal() or len(number) > 18:
            raise HTTPException(410, "The table has changed.")
        try:
            return self._open.get((name,), lambda: Version(name, self._dataset(int(number))))
        except FanfoldError:
            raise HTTPException(410, "The table has changed.") from None

    def _dataset(self, version: int | None = None) -> lance.LanceDataset:
        with reading(self.uri):
            return lance.dataset(self.uri, version=version, session=self._session)

    def _forget(self) -> None:
        """Pages that know rows of the table that was here start over."""
        self._stamp, self._highest = secrets.token_hex(4), 0
        self._open: Kept[Version] = Kept(_OPEN)
