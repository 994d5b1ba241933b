"""A file of columns: CSV or Parquet, read and checked."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from fanfold.errors import UsageError
from fanfold.images.search.where import kind_of

KEY = "key"
EMPTY: Any = pa.scalar("")
ONCE: Any = pa.scalar(1)
_CSV, _PARQUET = {".csv", ".tsv", ".txt"}, {".parquet", ".pq"}
_HEAD = 1 << 20  # bytes in which the first line ends
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NAME = re.compile(r"[^_.`][^.`]{0,199}")  # Lance keeps the others for itself


def read(path: Path, by: str = KEY, only: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, str]]:
    """The columns of a file, and those left out, each with the reason.

    The first column of the table is `key`, of text, never missing and never twice; types are inferred by pyarrow. An
    empty cell is a missing value. `only` names the columns to read. Raises UsageError.
    """
    kind = path.suffix.lower()
    if kind not in _CSV | _PARQUET:
        raise UsageError(f"Columns come from a .csv, .tsv or .parquet file, but {path} is none.")
    with readable(path):
        table = _csv(path, by) if kind in _CSV else _parquet(path, by)
    names = _chosen(path, table.column_names, by, only)
    left_out = {name: why for name in names if (why := _unfit(name, table.schema.field(name).type))}
    names = [name for name in names if name not in left_out]
    if not names:
        why = (
            "; ".join(f"{name!r} is left out: {why}" for name, why in left_out.items()) or "it has none beside the key"
        )
        raise UsageError(f"{path} has no column to join: {why}.")
    fit = {name: _single(table[name]) for name in names}
    return _with_key(path, pa.table({KEY: _texts(table[by])} | fit)), left_out


def _with_key(path: Path, table: pa.Table) -> pa.Table:
    """The rows that have a key. Raises UsageError if there are none, or a key is there twice."""
    keys: Any = table[KEY]
    table = table.filter(pc.fill_null(pc.not_equal(keys, EMPTY), False))
    if not len(table):
        raise UsageError(f"{path} has no row with a key.")
    counted: Any = pc.value_counts(table[KEY])
    twice = counted.filter(pc.greater(counted.field("counts"), ONCE))
    if len(twice):
        key, times = twice[0]["values"].as_py(), twice[0]["counts"].as_py()
        more = f" (and {len(twice) - 1:,} more are repeated)" if len(twice) > 1 else ""
        raise UsageError(f"{path} has the key {key!r} in {times} rows{more}. A key can be in one row only.")
    return table


def _chosen(path: Path, names: Sequence[str], by: str, only: Sequence[str] | None) -> list[str]:
    """The columns to join. Raises UsageError for those that are not there, or there twice."""
    if again := next((name for name in names if name and names.count(name) > 1), None):
        raise UsageError(f"{path} has several columns called '{again}'. Rename all but one.")
    here = f"The columns of {path} are: {', '.join(name for name in names if name)}."
    if by not in names:
        hint = "" if by != KEY else " Name the column that holds the keys with: --by NAME"
        raise UsageError(f"{path} has no column '{by}'. {here}{hint}")
    for name in only or ():
        if name not in names:
            raise UsageError(f"{path} has no column '{name}'. {here}")
    return [name for name in only or names if name not in ("", by)]


def _unfit(name: str, kind: pa.DataType) -> str:
    """Why a column cannot be joined; empty if it can."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        return "a name may not begin with '_', or have '.' or '`' in it"
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_binary(values):
        return "its values are bytes"
    return "" if kind_of(values) or pa.types.is_null(values) or values == pa.string_view() else f"its type is {kind}"


def _single(column: Any) -> Any:
    """A column of plain values, in which an empty text is a missing value."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind in (pa.large_string(), pa.string_view(), pa.null()):
        kind = pa.string()
    if pa.types.is_float16(kind):
        kind = pa.float32()
    if pa.types.is_timestamp(kind):
        kind = pa.timestamp("us", kind.tz)  # as Python's
    column = column.cast(kind, safe=False)
    return pc.if_else(pc.equal(column, EMPTY), pa.scalar(None, kind), column) if kind == pa.string() else column


def _texts(column: Any) -> Any:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (kind_of(kind) in ("text", "whole number") or kind == pa.string_view()):
        raise UsageError(f"Keys are texts, but the column of keys has the type {kind}.")
    return column.cast(kind).cast(pa.string())


# -- formats -----------------------------------------------------------------------------------------------------------


def _csv(path: Path, by: str) -> pa.Table:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    check_text(path, head)
    first = head.splitlines()[0]
    convert = csv.ConvertOptions(column_types={by: pa.string()})
    parse = csv.ParseOptions(delimiter=max(",;\t", key=lambda one: first.count(one.encode())), newlines_in_values=True)
    table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    for field in table.schema:
        if pa.types.is_binary(field.type):  # what pyarrow makes of texts that are not UTF-8
            raise UsageError(f"{path} is not in UTF-8: see the column '{field.name}'. Save it as UTF-8.")
    if any("\n" in str(value) for row in table.slice(max(0, len(table) - 1)).to_pylist() for value in row.values()):
        _check_quotes(path)
    if by in table.column_names:  # else `_chosen` refuses it
        keys: Any = table[by]
        bare = pc.replace_substring_regex(keys, r"(?s)^'('*[=+@]|'*-.)", r"\1")  # as `export` has them for spreadsheets
        table = table.set_column(table.column_names.index(by), by, bare)
    return table


def check_text(path: Path, head: bytes) -> None:
    """Raise UsageError if a file with this beginning is not a text in UTF-8."""
    if not head.strip():
        raise UsageError(f"{path} is empty.")
    if mark := _MARKS.get(head[:2]):
        raise UsageError(f"{path} is in {mark}. Save it as UTF-8.")
    if b"\0" in head:
        raise UsageError(f"{path} is not a text file.")


def _check_quotes(path: Path) -> None:
    """Raise UsageError if a quotation mark is not closed: pyarrow takes the rest of the file for one value."""
    with path.open("rb") as file:
        if sum(part.count(b'"') for part in iter(lambda: file.read(_HEAD), b"")) % 2:
            raise UsageError(f"{path} has a quotation mark that is not closed.")


def _parquet(path: Path, by: str) -> pa.Table:
    if not path.stat().st_size:
        raise UsageError(f"{path} is empty.")
    with parquet.ParquetFile(path) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
        names = file.schema_arrow.names
        wanted = [name for name in names if name == by or not _unfit(name, kinds[name])]
        if len(set(names)) < len(names):
            return file.schema_arrow.empty_table()  # `_chosen` refuses it
        table = file.read(columns=wanted)
    for name in names:
        if name not in wanted:
            table = table.append_column(name, pa.nulls(len(table), kinds[name]))
    return table


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what reading raises into a UsageError in plain words."""
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"The file {path} does not exist.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not a file.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not in UTF-8: see its first line. Save it as UTF-8.") from None
    except pa.ArrowInvalid as error:
        text = str(error).splitlines()[0]
        if "invalid UTF8" in text:
            raise UsageError(f"{path} is not in UTF-8. Save it as UTF-8.") from None
        raise UsageError(f"{path} cannot be read: {text}") from None
    except (pa.ArrowException, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read: {why}") from None
