"""Reads the tables of evidence, and leaves out what is out of date.

A unit is current if its version is the newest version of its container: a log that was cleared has fewer units than
before, and the rows of the old ones remain. A unit without a row is still being read, so its records are left out.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import lance
import orjson
import pyarrow as pa
import pyarrow.compute as pc

import fanfold
from fanfold.errors import UsageError
from fanfold.evidence import Evidence
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import CONTAINERS, CONTENTS, EVENTS, STAGES, quoted
from fanfold.storage import first_line, is_url

UNITS, FACTS = Evidence.name, f"{Evidence.name}_facts"


def table_of(database: str, name: str) -> lance.LanceDataset:
    """A table of evidence. Raises UsageError if there is none."""
    if not is_url(database) and Path(database).is_file():
        raise UsageError(f"{database} is a file, not a database. First: fanfold evidence scan {database} DATABASE")
    try:
        return fanfold.open_table(database, name)
    except UsageError as error:
        raise UsageError(_why_none(database)) from error


def _why_none(database: str) -> str:
    """Why a database has no table, and what to do."""
    if failed := failures(database):
        return (f"{database} holds no evidence: {failed[0][0]}: {failed[0][1]} "
                f"To see all that failed: fanfold failures {database}")  # fmt: skip
    if not is_url(database) and not Path(database).exists():
        return f"There is no database {database}. To make one: fanfold evidence scan SOURCE... {database}"
    return f"{database} holds no evidence yet. To add some: fanfold evidence scan SOURCE... {database}"


def units(database: str) -> Iterator[dict[str, Any]]:
    """The rows of all current units."""
    current = _current(database)
    for batch in table_of(database, UNITS).to_batches():
        yield from batch.filter(pc.is_in(_named(batch, "container"), current)).to_pylist()


def failures(database: str) -> list[tuple[str, str]]:
    """What failed, and why: the key and a sentence."""
    return [(row["key"], row["message"]) for row in _failures(database)]


def totals(database: str) -> list[tuple[str, int, int]]:
    """For each machine: its name, and how many records of how many logs were read."""
    found: dict[str, tuple[int, set[str]]] = {}
    try:
        read = list(units(database))
    except UsageError:  # nothing was read
        return []
    for unit in read:
        if unit["image"] and unit["records"]:
            count, logs = found.get(unit["image"], (0, set()))
            found[unit["image"]] = count + unit["records"], logs | {unit["path"] or unit["origin"]}
    return [(name, count, len(logs)) for name, (count, logs) in sorted(found.items())]


def in_time(database: str, where: str) -> Iterator[pa.RecordBatch]:
    """The records of current units that meet a condition, in the order of time. All are held in memory."""
    every = pa.Table.from_batches(list(events(database, where)))
    order: list[tuple[str, Literal["ascending", "descending"]]] = [
        ("time", "ascending"),
        ("path", "ascending"),
        ("record_id", "ascending"),
    ]
    yield from every.sort_by(order).to_batches(4096)


def container(database: str, image: str) -> dict[str, Any]:
    """The row of a disk image; empty for loose logs."""
    for row in table_of(database, CONTAINERS).to_table(filter=f"key = {quoted(image)}").to_pylist():
        if row["segments"]:
            return dict(row)
    return {}


def facts(database: str, image: str) -> list[dict[str, Any]]:
    """What is known of an image besides its records, with `value` as an object."""
    done = _named(table_of(database, UNITS).to_table(["key", "version"])).combine_chunks()
    try:
        table = fanfold.open_table(database, FACTS)
    except UsageError:  # no unit has any
        return []
    found = table.to_table(filter=f"image = {quoted(image)}")
    current = found.filter(pc.is_in(_named(found), done))
    return [row | {"value": orjson.loads(row["value"])} for row in current.to_pylist()]


def unread(database: str, image: str) -> tuple[list[str], list[str]]:
    """The paths of an image's units that are listed and have no row, and the reasons of those that failed."""
    wanted = f"stage IN ({', '.join(map(quoted, STAGES[:2]))})"
    listed = table_of(database, CONTENTS).to_table(["key", "version", "unit", "place"], filter=wanted)
    listed = listed.filter(pc.is_in(_named(listed), _current(database)))
    rows = table_of(database, UNITS).to_table(["key", "version"]).to_pylist()
    done = {(row["key"], row["version"]) for row in rows}
    left = {
        row["unit"]: json.loads(row["place"]) for row in listed.to_pylist() if (row["unit"], row["version"]) not in done
    }
    mine = {unit: place["path"] or unit for unit, place in left.items() if place["image"] == image}
    failed = _failures(database)
    reasons = [f"{mine[one['key']]}: {one['message']}" for one in failed if one["key"] in mine]
    for one in failed:  # files of which not even the beginning could be read have no unit
        machine, path = machine_and_path(one["key"], image)
        if one["table"] == CONTAINERS and machine == image:
            mine[one["key"]] = path
            reasons.append(f"{path}: {one['message']}")
    return list(dict.fromkeys(mine.values())), reasons


def _failures(database: str) -> list[dict[str, Any]]:
    try:
        return list(fanfold.open_table(database, "failures").to_table(["key", "table", "message"]).to_pylist())
    except UsageError:  # nothing has failed
        return []


def stages(database: str) -> set[str]:
    """The stages of all units that are listed."""
    try:
        table = fanfold.open_table(database, CONTENTS)
    except UsageError:  # nothing has units
        return set()
    return set(table.to_table(["stage"])["stage"].unique().to_pylist())


def problems(database: str) -> Iterator[tuple[str, str]]:
    """What of the evidence could not be read, besides what failed: a container or a unit, and a sentence."""
    for row in table_of(database, CONTAINERS).to_table(["key", "problems"]).to_pylist():
        for problem in row["problems"] or ():
            yield row["key"], problem
    try:
        read = list(units(database))
    except UsageError:  # nothing was read
        return
    for unit in read:
        if unit["problem"]:
            yield unit["key"], unit["problem"]


def _current(database: str) -> Any:
    """The newest version of each container."""
    return _named(table_of(database, CONTAINERS).to_table(["key", "version"])).combine_chunks()


def events(
    database: str, where: str | None = None, columns: Sequence[str] = (), limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The records of current units that meet a condition in SQL; at least one batch, which may be empty.

    Raises UsageError for a condition that is not valid, or a column that does not exist.
    """
    table = table_of(database, EVENTS)
    wanted = list(columns or table.schema.names)
    if unknown := [name for name in wanted if name not in table.schema.names]:
        raise UsageError(f"'{unknown[0]}' is not a column. The columns are: {', '.join(table.schema.names)}.")
    read_units = table_of(database, UNITS).to_table(["key", "version", "container"])
    done = _named(read_units.filter(pc.is_in(_named(read_units, "container"), _current(database)))).combine_chunks()
    copies = _copies(database, done)
    read = list(dict.fromkeys([*wanted, "key", "version", "offset"]))
    left, empty = limit, True
    try:
        for batch in table.scanner(read, filter=where or None, batch_size=4096).to_batches():
            rows = batch.filter(pc.is_in(_named(batch), done))
            if len(copies):
                rows = rows.filter(pc.invert(pc.is_in(_located(rows), copies)))
            rows = rows.select(wanted).slice(0, left)
            left = None if left is None else left - len(rows)
            yield rows
            empty = False
            if left == 0:
                break
    except (ValueError, OSError) as error:
        if where is None:
            raise
        why = first_line(error).removeprefix("Invalid user input: ")
        hint = " Write times as: timestamp '2021-05-23 22:00:00', and texts in single quotes." * bool(where)
        raise UsageError(f"--where does not accept {where!r}: {why}.{hint}") from error
    if empty:
        yield pa.RecordBatch.from_pylist([], schema=pa.schema([table.schema.field(name) for name in wanted]))


def _copies(database: str, done: Any) -> Any:
    """The records of current units that are on a disk more than once: the unit and the offset of all but one of each.

    Units that are read side by side do not know of each other, so two may have the same record of free space.
    """
    recovered = "origin IN ('deleted', 'carved')"
    if not table_of(database, UNITS).count_rows(f"{recovered} AND records > 0"):
        return pa.array([], pa.string())
    rows = table_of(database, EVENTS).to_table(
        ["image", "digest", "origin", "key", "version", "offset"], filter=recovered
    )
    rows = rows.filter(pc.is_in(_named(rows), done))
    # What was deleted comes before what was carved.
    rows = rows.sort_by([("origin", "descending"), ("key", "ascending"), ("offset", "ascending")])
    rows = rows.append_column("row", pa.array(range(len(rows)), pa.int64()))
    first = rows.group_by(["image", "digest"]).aggregate([("row", "min")])["row_min"]
    return _located(rows.filter(pc.invert(pc.is_in(rows["row"], first)))).combine_chunks()


def _located(rows: "pa.Table | pa.RecordBatch") -> Any:
    """Where each record lies, as one text."""
    join: Any = pc.binary_join_element_wise
    return join(rows["key"], pc.cast(rows["offset"], pa.string()), "\0")


def _named(rows: "pa.Table | pa.RecordBatch", key: str = "key") -> Any:
    """The unit or container that each row names: its key and its version, as one text."""
    join: Any = pc.binary_join_element_wise  # its stubs know no scalar as the separator
    return join(rows[key], rows["version"], "\0")


def short_log(path: str) -> str:
    """The short name of a log: that of its file, without its maker and its ending."""
    name = re.sub(r"\.evtx$", "", path.replace("\\", "/").rpartition("/")[2], flags=re.IGNORECASE)
    return name.replace("%4", "/").removeprefix("Microsoft-Windows-")
