"""Reads the store of `serve`: an SQLite file, perhaps one that a server is writing, or was killed while writing.

What a transaction has committed is read, also from the write-ahead log beside the file; a half-written end of that log
is left out. The store is opened for reading only.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from fanfold.errors import StorageError
from fanfold.tls.analysis.columns import wanted

SQLITE = b"SQLite format 3\0"
"""How an SQLite file begins."""
_NUMBERS = ("n", "handshake_ms", "initcwnd", "first_flight_bytes")
_ROWS = 1 << 15  # in memory at a time


def store(source: str) -> Iterator[pa.RecordBatch]:
    """The rows of a store, then those of the pairs that its server has issued. Raises StorageError."""
    path = Path(source).resolve()
    try:
        yield from _rows(path, source)
    except sqlite3.OperationalError as error:
        if not _is_unopened(error):
            raise StorageError(f"Cannot read the store {source}: {error}.") from error
        # With a write-ahead log, SQLite must write a file beside it, and may not here. In a copy it may.
        with TemporaryDirectory(prefix="fanfold-tls-") as folder:
            for file in (path, path.with_name(f"{path.name}-wal")):
                if file.exists():
                    shutil.copy(file, folder)
            yield from _rows(Path(folder, path.name), source)
    except sqlite3.Error as error:
        raise StorageError(f"Cannot read the store {source}: {error}.") from error


def _is_unopened(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _rows(path: Path, source: str) -> Iterator[pa.RecordBatch]:
    address = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as opened:
        opened.text_factory = lambda text: text.decode("utf-8", "replace")
        opened.execute("BEGIN")  # both tables as they are at one moment
        tables = _tables(opened)
        name, columns = _handshakes(source, tables)
        yield from _batches(opened, name, columns)
        if {"key", "n"} <= set(tables.get("issued", ())):
            empty = [column for column in columns if column not in ("key", "role", "n")]
            for batch in _batches(opened, "issued", ["key", "n"]):
                fixed: list[Any] = [pa.repeat("issued", batch.num_rows), *[pa.nulls(batch.num_rows)] * len(empty)]
                yield pa.RecordBatch.from_arrays([*batch.columns, *fixed], names=["key", "n", "role", *empty])


def _tables(opened: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table."""
    names = opened.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name").fetchall()
    return {
        name: [column for (column,) in opened.execute("SELECT name FROM pragma_table_info(?)", (name,))]
        for (name,) in names
    }


def _handshakes(source: str, tables: dict[str, list[str]]) -> tuple[str, list[str]]:
    """The table of handshakes, and its columns that are read."""
    found = {name: columns for name, (columns, missing) in ((n, wanted(c)) for n, c in tables.items()) if not missing}
    if len(found) == 1:
        return found.popitem()
    have = f"its tables are: {', '.join(tables)}" if tables else "it has no tables"
    raise StorageError(f"{source} is an SQLite file, but not a store of `fanfold tls serve`: {have}.")


def _batches(opened: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a table: numbers as floats, the rest as texts; a value of another type is null."""
    rows = opened.execute(f"SELECT {', '.join(map(_selected, columns))} FROM {_quoted(table)}")
    kinds: list[Any] = [pa.float64() if name in _NUMBERS else pa.string() for name in columns]
    while some := rows.fetchmany(_ROWS):
        arrays = [pa.array(values, kind) for values, kind in zip(zip(*some, strict=True), kinds, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=columns)


def _selected(column: str) -> str:
    name = _quoted(column)
    if column in _NUMBERS:
        return f"CASE WHEN typeof({name}) IN ('integer', 'real') THEN CAST({name} AS REAL) END"
    return f"CASE typeof({name}) WHEN 'blob' THEN hex({name}) ELSE CAST({name} AS TEXT) END"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
