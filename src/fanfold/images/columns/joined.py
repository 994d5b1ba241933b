"""What is joined to a table: a file of columns is checked against the table, and kept beside it by key."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from more_itertools import chunked
from pyarrow import parquet

from fanfold.errors import StorageError, UsageError
from fanfold.images import beside
from fanfold.images.columns.files import KEY, read
from fanfold.images.kept import Rows, find, keys_of
from fanfold.images.search.rows import name_of
from fanfold.images.search.where import kind_of
from fanfold.storage import first_line

DIGEST = "_digest"
"""The column of the kept file that has the digests of the rows, ascending."""
BY_KEY, BY_ROW = "key", "key and version"
"""What a row of the table is known by: with its version, a row that has changed has no values any more."""
_ABOUT = b"fanfold.joined"
_FILE = re.compile(r"columns-(.+)\.parquet")
_VALID = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Joined:
    """Columns that are joined to a table, from one file."""

    name: str
    file: str
    """The file's name, when it was joined."""
    columns: Mapping[str, str]
    """Name and kind of each column."""
    rows: int
    written: str
    """When it was joined: an ISO 8601 time."""
    by: str = BY_KEY
    """BY_KEY or BY_ROW."""


@dataclass(frozen=True, slots=True)
class Joining:
    """What a join has done."""

    joined: Joined
    table_rows: int
    matched: int
    """Rows of the table that have values now."""
    unknown: int
    """Rows of the file whose keys are not in the table."""
    example: str
    """One of their keys; empty if there are none."""
    left_out: Mapping[str, str]
    """Columns of the file that were left out, with the reason."""
    place: str
    """Where the columns are kept."""


def join(
    dataset: lance.LanceDataset, path: Path, name: str | None = None, by: str = KEY, only: Sequence[str] | None = None
) -> Joining:
    """Join the columns of a CSV or Parquet file to a table, instead of earlier ones of the same name.

    The table itself is not changed. Needs memory for about three times the file's size. Raises UsageError if the file
    cannot be used: it says why. Raises StorageError, FanfoldError if the columns cannot be kept.
    """
    name = name or re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "columns"
    if not _VALID.fullmatch(name):
        raise UsageError(f"'{name}' is not a valid name. Use letters, digits, '_', '-' and '.', at most 100 of them.")
    given, left_out = read(path, by, only)
    _check_names(dataset, path, name, given.column_names[1:])
    digests, table_keys = _digests(given[KEY]), keys_of(dataset)
    matched = int((find(table_keys, digests) >= 0).sum())
    if not matched:
        raise UsageError(_no_match(dataset, path, given[KEY]))
    unknown = np.flatnonzero(~np.isin(digests, table_keys))
    joined, place = keep(dataset, name, path.name, given, digests)
    example = given[KEY][int(unknown[0])].as_py() if len(unknown) else ""
    return Joining(joined, len(table_keys), matched, len(unknown), example, left_out, place)


def keep(
    dataset: lance.LanceDataset, name: str, file: str, given: pa.Table, digests: Rows, by: str = BY_KEY
) -> tuple[Joined, str]:
    """Keep columns under a name, instead of any earlier ones, for the rows with these digests; returns the place, too.

    Raises StorageError, FanfoldError if they cannot be kept.
    """
    order = np.argsort(digests, kind="stable")
    columns = {field.name: kind_of(field.type) for field in given.schema if field.name != KEY}
    joined = Joined(name, file, columns, len(given), datetime.now(UTC).isoformat(timespec="seconds"), by)
    given = given.take(order).add_column(0, DIGEST, pa.array(digests[order]))
    return joined, beside.put(dataset, f"columns-{name}.parquet", _packed(given, joined))


def joined_to(dataset: lance.LanceDataset, but: str = "") -> list[Joined]:
    """What is joined to a table, by name, but for one. Raises StorageError."""
    return [about(kept) for kept in tables_of(dataset, but).values()]


def tables_of(dataset: lance.LanceDataset, but: str = "") -> dict[str, parquet.ParquetFile]:
    """The kept files by name, open: the newer one if both the database and the cache have one. Raises StorageError."""
    found = {name: _newest(dataset, name) for name in names_of(dataset) if name != but}
    return {name: kept for name, kept in found.items() if kept}


def called(dataset: lance.LanceDataset, name: str) -> Joined | None:
    """What is joined to a table under a name. Raises StorageError."""
    kept = _newest(dataset, name)
    return about(kept) if kept else None


def _newest(dataset: lance.LanceDataset, name: str) -> parquet.ParquetFile | None:
    contents = beside.contents(dataset, f"columns-{name}.parquet")
    with whole(dataset, name):
        files = [parquet.ParquetFile(io.BytesIO(one), page_checksum_verification=True) for one in contents]
        return max(files, key=lambda one: about(one).written, default=None)


@contextmanager
def whole(dataset: lance.LanceDataset, name: str) -> Iterator[None]:
    """Turn what reading a damaged file of columns raises into a StorageError that says what to do."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        database = dataset.uri.rpartition("/")[0]
        raise StorageError(
            f"The columns '{name}' beside table '{name_of(dataset)}' are damaged: {first_line(error).rstrip('.')}. "
            f"Join or label by their file again, or take them away with: {removing(database, name_of(dataset), name)}"
        ) from error


def removing(database: str, table: str, name: str) -> str:
    """The command that takes joined columns away."""
    return f"fanfold images columns {database} --remove {name}" + ("" if table == "images" else f" --table {table}")


def names_of(dataset: lance.LanceDataset) -> dict[str, str]:
    """The names of all that is joined to a table, each with a text that changes when it is joined again."""
    here, cached = beside.listed(dataset)
    known = ((_FILE.fullmatch(file), state) for file, state in [*sorted(here.items()), *sorted(cached.items())])
    names: dict[str, str] = {}
    for found, state in known:
        if found:
            names[found[1]] = names.get(found[1], "") + state
    return dict(sorted(names.items()))


def remove(dataset: lance.LanceDataset, name: str) -> None:
    """Take joined columns away. Raises UsageError if there are none of this name; StorageError."""
    names = names_of(dataset)
    if name not in names:
        known = f"These are: {', '.join(names)}." if names else "Nothing is joined to this table."
        raise UsageError(f"No columns called '{name}' are joined to this table. {known}")
    beside.remove(dataset, f"columns-{name}.parquet")


def owners(dataset: lance.LanceDataset, but: str = "") -> dict[str, str]:
    """What has each of the columns of a table and of what is joined to it, but for one, by the column's name in small
    letters. Raises StorageError."""
    found = {column.lower(): "the table" for column in dataset.schema.names}
    for other in joined_to(dataset, but):
        found |= {column.lower(): f"'{other.name}', which is joined to the table," for column in other.columns}
    return found


def _check_names(dataset: lance.LanceDataset, path: Path, name: str, columns: Sequence[str]) -> None:
    """Raise UsageError if the table, or something else that is joined to it, has one of these columns."""
    taken = owners(dataset, but=name)
    seen: set[str] = set()
    for column in columns:
        if owner := taken.get(column.lower()):
            raise UsageError(
                f"{path} has a column '{column}', but {owner} has one, too. Rename it, or choose others with --columns."
            )
        if column.lower() in seen:
            raise UsageError(f"{path} has several columns called '{column}' (filters ignore capitals). Rename one.")
        seen.add(column.lower())


def _no_match(dataset: lance.LanceDataset, path: Path, keys: Any) -> str:
    theirs = dataset.to_table(columns=["key"], limit=2)["key"].to_pylist()
    name = name_of(dataset)
    if not theirs:
        return f"Table '{name}' is empty, so no key of {path} is in it."
    ours = " and ".join(repr(key) for key in keys.slice(0, 2).to_pylist())
    root = (dataset.schema.metadata or {}).get(b"fanfold.root", b"").decode()
    below = f" Keys are the paths below {root}." if root else ""
    return (
        f"No key of {path} is in table '{name}'. The file has keys such as {ours}; the table has keys such as "
        f"{' and '.join(map(repr, theirs))}.{below} If the keys are in another column, name it with --by."
    )


def _digests(keys: Any) -> Rows:
    """As `keys_of` makes them. uint64[keys]"""
    parts = [np.empty(0, np.uint64)]
    for some in chunked((key for chunk in keys.chunks for key in chunk.to_pylist()), 65_536):
        parts.append(np.frombuffer(b"".join(sha256(key.encode()).digest()[:8] for key in some), np.dtype("<u8")))
    return np.concatenate(parts)


def _packed(given: pa.Table, joined: Joined) -> bytes:
    sink = io.BytesIO()
    given = given.replace_schema_metadata({_ABOUT: json.dumps(asdict(joined))})
    parquet.write_table(given, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def about(kept: parquet.ParquetFile) -> Joined:
    """What a kept file says of itself. Raises what reading a damaged one raises."""
    return Joined(**json.loads((kept.schema_arrow.metadata or {})[_ABOUT]))
