"""Filters: which rows of a table meet a condition, such as `format = 'PNG' AND width > 1000`.

The language is that of Lance's filters (SQL's WHERE, by DataFusion: https://lance.org/guide/read_and_write). A filter
sees every column but the vectors. Lance reads the condition and stops where it ends, so that `width > 9 limit 3` would
pass as `width > 9`; in brackets the rest is an error.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import lance
import numpy as np
import pyarrow as pa

from fanfold.damage import of_table
from fanfold.errors import UsageError
from fanfold.images.search.rows import Indices
from fanfold.storage import first_line, is_panic

LONGEST = 10_000
"""Characters of a filter: deeply nested ones take time to read."""
EXAMPLE = "format = 'PNG' AND width > 1000"

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*")
_KINDS = (
    (pa.types.is_boolean, "true or false"),
    (pa.types.is_integer, "whole number"),
    (lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind), "number"),
    (pa.types.is_timestamp, "time"),
    (pa.types.is_date, "date"),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"),
)


def filterable(schema: pa.Schema) -> "list[pa.Field[pa.DataType]]":
    """The columns that a filter may use: those of single values."""
    return [field for field in schema if kind_of(field.type)]


def kind_of(kind: pa.DataType) -> str:
    """The kind of a column's values in plain words; empty if they are not single values (vectors, say)."""
    return next((word for fits, word in _KINDS if fits(kind)), "")


@of_table
def rows_where(dataset: lance.LanceDataset, where: str) -> Indices:
    """The numbers of the rows that meet a condition, ascending, in the table's order: int64[rows].

    Raises UsageError for a condition that cannot be used.
    """
    condition = checked(dataset.schema, where)
    with explained(dataset.schema, where):
        found = dataset.to_table(columns=["_rowoffset"], filter=condition, scan_in_order=True)
    numbers: Indices = found["_rowoffset"].to_numpy().astype(np.int64)
    return numbers


def checked(schema: pa.Schema, where: str) -> str:
    """A condition in the form for Lance. Raises UsageError if it cannot be used, without reading any row."""
    if not where.strip():
        raise UsageError(_refusal(schema, "it is empty"))
    if len(where) > LONGEST:
        raise UsageError(f"--where takes at most {LONGEST:,} characters, not {len(where):,}.")
    if odd := re.search(r"[?$]", _QUOTED.sub("", where)):  # over these, Lance panics
        raise UsageError(_refusal(schema, f"'{odd[0]}' has no meaning there"))
    condition = f"({where}\n)"  # a comment ends with the line
    with explained(schema, where):
        empty = lance.write_dataset(pa.schema(filterable(schema)).empty_table(), "memory://")
        empty.count_rows(filter=condition)
    return condition


@contextmanager
def explained(schema: pa.Schema, where: str) -> Iterator[None]:
    """Turn what Lance raises over a condition, as it is read or applied, into a UsageError that names the columns."""
    try:
        yield
    except BaseException as error:
        text = first_line(error)
        if not (is_panic(error) or (isinstance(error, OSError | ValueError) and _is_about_the_filter(text))):
            raise
        hint = "; a column's name has no quotation marks, or `backticks`" if '"' in where else ""
        raise UsageError(_refusal(schema, _reason(text, schema) + hint)) from error


def _is_about_the_filter(text: str) -> bool:
    return text.startswith(("Invalid user input", "Not supported")) or "applying filter expression" in text


def _refusal(schema: pa.Schema, reason: str) -> str:
    columns = ", ".join(f"{field.name} ({kind_of(field.type)})" for field in filterable(schema))
    return f'--where cannot be used: {reason}. The columns are {columns}. For example: --where "{EXAMPLE}"'


def _reason(text: str, schema: pa.Schema) -> str:
    """What is wrong with a condition, from what Lance says."""
    if found := re.search(r'No field named ["`]?(.*?)["`]?\. ', text + " "):
        return _unknown(found[1], schema)
    if "does not return a boolean" in text:
        return "it must be true or false for each row, such as a comparison"
    if "Unterminated string" in text:
        return "a quotation mark is not closed"
    if found := re.search(r"literal \w+\((.*?)\) and could not convert to literal of type '(.+?)'", text):
        return f"{found[1]} cannot be compared with a column of {_compared(found[2])}"
    if found := re.search(r"Expected: (.*?), found: (.*?)(?: at Line.*)?\)?$", text):
        what = "it ends too early" if found[2] in (")", "EOF") else f"'{found[2]}' does not fit where it stands"
        return f"{what}; conditions are joined by AND or OR"
    if found := re.search(r"Invalid function '(.*?)'", text):
        return f"the function '{found[1]}' is not known"
    if found := re.search(r"Cannot cast string '(.*?)' to value of", text):
        return f"the text '{found[1]}' cannot be read as a value of another kind"
    if "Divide by zero" in text:
        return "it divides by zero"
    return "it is not a condition that can be used here"


def _unknown(name: str, schema: pa.Schema) -> str:
    if name in schema.names:
        return f"the column '{name}' does not hold single values"
    names = [field.name for field in filterable(schema)]
    near = get_close_matches(name.lower(), names, 1)
    meant = f" (did you mean '{near[0]}'?)" if near else ""
    return f"the column '{name}' is not known{meant}; text is written in single quotes"


def _compared(kind: str) -> str:
    """The kind of a column's values, in the plural, from Arrow's name of its type."""
    if "Utf8" in kind:
        return "texts"
    if kind.startswith(("Time", "Date")):
        return "times, which are written timestamp '2026-11-22 20:00:00'"
    return "whole numbers" if "Int" in kind else "numbers"
