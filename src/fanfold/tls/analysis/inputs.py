"""Reads what was measured, in batches: a store of `serve`, CSV, JSON Lines, Parquet, or a table of a database.

A store is an SQLite file. Its table of handshakes has the columns below; its table `issued`, if there is one, has the
columns `key` and `n`: the pairs that the server has handed out. They become rows of the role `issued`.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from pyarrow.csv import ConvertOptions, InvalidRow, ParseOptions, ReadOptions, open_csv

import fanfold
from fanfold.damage import reading
from fanfold.errors import StorageError, UsageError
from fanfold.storage import absolute, errors_of, is_url, is_web, open_store
from fanfold.tls.analysis.columns import UNPARSABLE, WORDS, no_table, shown, wanted
from fanfold.tls.analysis.damage import arrow_errors
from fanfold.tls.analysis.lines import json_lines
from fanfold.tls.analysis.store import SQLITE, store

_HEADER = 1 << 20  # bytes of a CSV's first line, at most
_COLUMNS = 10_000  # at most
_BLOCK = 4 << 20  # bytes of a CSV in memory at a time, a few times over
_ROWS = 1 << 16  # rows of other files in memory at a time
_OTHERS = {
    b"\x1f\x8b": " This is gzip: give its name the ending .gz.",
    b"\x28\xb5\x2f\xfd": " This is Zstandard: give its name the ending .zst.",
    b"PK": " This is a spreadsheet or a zip archive: save the table as CSV.",
    b"\xff\xfe": " This is UTF-16: iconv -f UTF-16 -t UTF-8 FILE > FILE.csv",
}
"""How files of other formats begin, and what to do about them."""
_DECIMAL_COMMA = r"^\s*-?\d+,\d+\s*$"


def batches(source: str, dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a source, with the columns that the analysis uses; rows without form are counted in `dropped`.

    Raises UsageError for a file that is not a table of handshakes, StorageError for one that cannot be read.
    """
    path = Path(source)
    if is_web(source):
        raise UsageError(f"{source} is on a web server. Download it first: curl -O {source}")
    try:
        start = None if is_url(source) or path.is_dir() else _start(path)
    except OSError as error:
        raise StorageError(f"Cannot read {source}: {error.strerror}.") from error
    if start is None:
        yield from _database(source)
    elif not start:
        raise UsageError(f"{source} is empty: it has no header and no rows.")
    elif start == SQLITE:
        yield from store(source)
    elif start[:4] == b"PAR1":
        yield from _parquet(source)
    else:
        yield from (json_lines if _is_json(source) else _csv)(source, dropped)


def _start(path: Path) -> bytes:
    """The first bytes of a file. Raises UsageError where there is none, OSError."""
    if not path.exists():
        raise UsageError(f"{path} does not exist.")
    if not path.is_file():
        raise UsageError(f"{path} is not a file. Write what it holds to a file first.")
    with path.open("rb") as file:
        return file.read(16)


def _is_json(source: str) -> bool:
    """Whether a text has a JSON object in its first line. Raises UsageError for one that is a list as a whole."""
    with arrow_errors(source, "a compressed file"), pa.input_stream(source, compression="detect") as file:
        start: bytes = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"\[\s*\{", start):
        raise UsageError(f"{source} is one JSON list. Write an object a line: jq -c '.[]' FILE > FILE.jsonl")
    return start.startswith(b"{")


def size_of(source: str) -> int:
    """Bytes of a source, more or less."""
    if is_url(source):
        return 1 << 30  # a guess: only the number of temporary files depends on it
    path = Path(source)
    with suppress(OSError):  # `batches` says what is wrong
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    return 0


def _parquet(source: str) -> Iterator[pa.RecordBatch]:
    with arrow_errors(source, "Parquet"), parquet.ParquetFile(source, pre_buffer=False) as file:
        columns, missing = wanted(file.schema_arrow.names)
        if missing:
            raise no_table(source, file.schema_arrow.names, missing)
        yield from file.iter_batches(_ROWS, columns=columns, use_threads=False)


def _database(source: str) -> Iterator[pa.RecordBatch]:
    """The rows of the only table with the columns that are needed."""
    where = absolute(source)
    with errors_of(where):
        found = open_store(where).list_with_delimiter()["common_prefixes"]
    names = sorted(Path(folder).stem for folder in found if folder.endswith(".lance"))
    if not names:
        raise UsageError(f"{source} is not a database: it has no tables. Name a file, or a database.")
    tables = {name: fanfold.open_table(source, name) for name in names}
    fitting = [name for name, table in tables.items() if not wanted(table.schema.names)[1]]
    if len(fitting) != 1:
        have = f"several do: {', '.join(fitting)}" if fitting else f"its tables are: {', '.join(names)}"
        raise UsageError(f"One table of {source} must have the columns {WORDS}; {have}.")
    table = tables[fitting[0]]
    with reading(table.uri):
        yield from table.to_batches(columns=wanted(table.schema.names)[0], batch_size=_ROWS)


def _csv(source: str, dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    names, line = _header(source)
    columns, missing = wanted(names)
    if missing or len(set(names)) < len(names):
        raise _bad_header(source, names, line, missing)
    unfit = Counter[str]()

    def skip(_row: InvalidRow) -> Literal["skip"]:
        unfit["rows"] += 1
        return "skip"

    read = ReadOptions(column_names=names, skip_rows=1, block_size=_BLOCK)
    convert = ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        check_utf8=False,  # a row with other bytes is dropped later, and counted
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    rows = 0
    try:
        with open_csv(source, read, ParseOptions(invalid_row_handler=skip), convert) as reader:
            for batch in reader:
                rows += batch.num_rows
                _check_decimals(source, batch, line)
                yield batch
    except pa.ArrowInvalid as error:
        raise UsageError(f"{source} cannot be read as CSV with the header {shown(line)}: {error}") from error
    if unfit["rows"] and not rows:
        raise UsageError(
            f"No row of {source} has as many columns as its header, {shown(line)}. "
            "Are decimals written with a comma? Write them with a point."
        )
    dropped[UNPARSABLE] += unfit["rows"]


def _header(source: str) -> tuple[list[str], str]:
    """The names of a CSV's columns, and its first line. Raises UsageError if it has none of a reasonable length."""
    with arrow_errors(source, "a compressed file"), pa.input_stream(source, compression="detect") as file:
        start: bytes = file.read(_HEADER)
    line, end, _ = start.partition(b"\n")
    try:
        text = line.decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        what = next((what for begin, what in _OTHERS.items() if start.startswith(begin)), "")
        raise UsageError(
            f"{source} is neither a store, nor Parquet, JSON Lines or CSV in UTF-8: it begins with "
            f"{start[:16]!r}.{what}"
        )
    names = next(csv.reader([text], strict=False), []) if end or len(start) < _HEADER else []
    if not names and len(start) < _HEADER:
        raise UsageError(f"The first line of {source} is empty. It must have the names of the columns.")
    if not names or len(names) > _COLUMNS:
        count = f"{len(names):,} columns" if names else f"more than {_HEADER:,} bytes"
        raise UsageError(f"The header of {source}, {shown(text)}, has {count}: this is not a table of handshakes.")
    return names, text


def _check_decimals(source: str, batch: pa.RecordBatch, line: str) -> None:
    """Raise UsageError if most times of a batch are written with a decimal comma."""
    times = batch.column("handshake_ms").drop_null()
    commas = times.filter(pc.match_substring_regex(times, _DECIMAL_COMMA))
    if 2 * len(commas) > len(times):
        raise UsageError(
            f"The column handshake_ms of {source} has decimal commas, such as {commas[0].as_py()} (its header: "
            f"{shown(line)}). Write decimals with a point."
        )


def _bad_header(source: str, names: list[str], line: str, missing: list[str]) -> UsageError:
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if not wanted(name.strip(' "') for name in line.split(mark))[1]:
            return UsageError(
                f"The columns of {source} are separated by {word}: its header is {shown(line)}. "
                "Write it with commas between columns, and with decimal points."
            )
    if missing:
        return no_table(source, names, missing)
    twice = next(name for name, count in Counter(names).items() if count > 1)
    return UsageError(f"The header of {source}, {shown(line)}, has the column '{twice}' twice.")
