"""Reads the tables of evidence, and leaves out what is out of date.

A unit is current if its version is the newest version of its container: a log that was cleared has fewer units than
before, and the rows of the old ones remain. A unit without a row is still being read, so its records are left out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lance
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

import fanfold
from fanfold.errors import UsageError
from fanfold.evidence import Evidence
from fanfold.evidence.containers import SCHEMA
from fanfold.evidence.disk.shadow import not_searched
from fanfold.evidence.disk.volumes import SHADOW_COPY
from fanfold.evidence.duplicates import copies as copies_in
from fanfold.evidence.duplicates import located, named
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import (
    CONTAINERS,
    CONTENTS,
    COPIES,
    COPIES_CONTENTS,
    EVENTS,
    FACTS,
    OLDER,
    UNITS,
    nothing_in,
    quoted,
)
from fanfold.storage import first_line, is_url

_RECOVERED = "origin IN ('shadow', 'deleted', 'carved')"


def table_of(database: str, name: str) -> lance.LanceDataset:
    """A table of evidence. Raises UsageError if there is none, or if an older version of fanfold has made it."""
    if not is_url(database) and Path(database).is_file():
        raise UsageError(f"{database} is a file, not a database. First: fanfold evidence scan {database} DATABASE")
    try:
        table = fanfold.open_table(database, name)
    except UsageError as error:
        raise UsageError(why_none(database)) from error
    there = set(table.schema.names)
    if lacking := [column for column in _columns().get(name, ()) if column not in there]:
        raise UsageError(f"{database} was made by an older fanfold: its table {name} has no column '{lacking[0]}'. "
                         "Scan again, into a new database: fanfold evidence scan SOURCE... DATABASE")  # fmt: skip
    return table


@lru_cache(1)
def _columns() -> dict[str, list[str]]:
    """The columns of each table, as this version writes them."""
    schemas = {CONTAINERS: SCHEMA, UNITS: Evidence().schema(), EVENTS: Evidence().details()["events"]}
    return {name: schema.names for name, schema in schemas.items()}


def why_none(database: str) -> str:
    """Why a database has no table, and what to do."""
    if failed := failures(database):
        return (f"{database} holds no evidence: {failed[0][0]}: {failed[0][1].rstrip('.')}. "
                f"To see all that failed: fanfold failures {database}")  # fmt: skip
    if not is_url(database) and not Path(database).exists():
        return f"There is no database {database}. To make one: fanfold evidence scan SOURCE... {database}"
    return nothing_in(database)


def units(database: str, columns: Sequence[str] = (), where: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of all current units, or those that meet a condition; all columns, if none is named.

    A record that several have counts for the best of them, and is known to others.
    """
    table, current = table_of(database, UNITS), _current(database)
    names = columns or table.schema.names
    copies = Counter(_copies(database)["key"].to_pylist() if "records" in names else ())
    read = list(dict.fromkeys([*names, "key", "container", "version"]))
    for batch in table.to_batches(read, filter=where):
        for row in batch.filter(pc.is_in(named(batch, "container"), current)).to_pylist():
            if count := copies[row["key"]]:
                row |= {"records": row["records"] - count, "known": row.get("known", 0) + count}
            yield row


def _done(database: str) -> Any:
    """The current units that were read."""
    return _done_in(database, _state(database, CONTAINERS, UNITS))


def _state(database: str, *names: str) -> tuple[str, ...]:
    """What tells whether something that was found in some tables is still so.

    A database of the same name, in another folder or made again, may have the same versions, but no file of this name.
    """
    return tuple(f"{table.version} {_newest(table)}" for table in (table_of(database, name) for name in names))


def _newest(table: lance.LanceDataset) -> str:
    """The random name of a table's newest file."""
    fragments = table.get_fragments()
    return str(fragments[-1].data_files()[0].path) if fragments else ""


@lru_cache(1)  # a command asks several times
def _done_in(database: str, _as_it_is: tuple[str, ...]) -> Any:
    """See `_done`."""
    rows = table_of(database, UNITS).to_table(["key", "version", "container"])
    return named(rows.filter(pc.is_in(named(rows, "container"), _current(database)))).combine_chunks()


def failures(database: str) -> list[tuple[str, str]]:
    """What failed, and why: the key and a sentence."""
    return [(row["key"], row["message"]) for row in _failures(database)]


def by_reason(found: Iterable[tuple[str, str]]) -> list[tuple[int, str, str]]:
    """What failed for one reason, together: how many, the first one (and how many more), and the reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found:
        reasons.setdefault(reason, []).append(name)
    return [
        (len(names), names[0] + (f" and {len(names) - 1:,} more" if names[1:] else ""), reason)
        for reason, names in reasons.items()
    ]


def totals(database: str) -> list[tuple[str, int, int]]:
    """For each machine: its name, and how many records of how many logs were read."""
    found: dict[str, tuple[int, set[str]]] = {}
    try:
        read = list(units(database, ["image", "path", "origin", "records"], "records > 0"))
    except UsageError:  # nothing was read
        return []
    for unit in read:
        if unit["image"]:
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


def disks(database: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of those machines that are disk images, with `sidecar` as an object."""
    for row in table_of(database, CONTAINERS).to_table(filter=f"key IN ({', '.join(map(quoted, names))})").to_pylist():
        if row["segments"]:
            yield row | {"sidecar": msgspec.json.decode(row["sidecar"] or "{}")}


def facts(database: str, *names: str) -> list[dict[str, Any]]:
    """What is known of some machines besides their records, with `value` as an object."""
    try:
        table = fanfold.open_table(database, FACTS)
    except UsageError:  # no unit has any
        return []
    found = table.to_table(filter=f"image IN ({', '.join(map(quoted, names))})")
    current = found.filter(pc.is_in(named(found), _done(database)))
    return [row | {"value": msgspec.json.decode(row["value"])} for row in current.to_pylist()]


def unread(database: str, names: Iterable[str]) -> dict[str, tuple[list[str], list[tuple[str, str]]]]:
    """For each machine, the paths of its units that are listed and have no row, and those that failed, with reasons.

    Units of shadow copies are there only if they failed: see `copies`.
    """
    failed = _failures(database)
    keys = {one["key"] for one in failed}
    left = {**_left(database, CONTENTS, ("live", "deleted")), **_left(database, COPIES_CONTENTS, ("shadow", OLDER))}
    found: dict[str, dict[str, str]] = {image: {} for image in names}  # the paths, by unit
    for unit, place in left.items():
        if place["image"] in found and (unit in keys or not place["copy"]):
            found[place["image"]][unit] = place["path"] or unit
    in_files = _in_files(database, found)
    for one in failed:  # files of which not even the beginning could be read have no unit
        machine, path = machine_and_path(one["key"], "")
        for image in ([machine] if machine else [*found]) if one["table"] == CONTAINERS else ():
            if image in found and image not in in_files:
                found[image][one["key"]] = path
    return {
        image: (list(dict.fromkeys(paths.values())),
                [(paths[one["key"]], one["message"]) for one in failed if one["key"] in paths])
        for image, paths in found.items()
    }  # fmt: skip


def _in_files(database: str, names: Iterable[str]) -> set[str]:
    """Those that are disk images, or machines in an archive, and not of loose files."""
    files = table_of(database, CONTAINERS).to_table(["key"], filter="kind NOT IN ('log', 'facts', 'other')")
    keys = set(files["key"].to_pylist())
    return {image for image in names if any(folder in keys for folder in accumulate(image.split("/"), "{}/{}".format))}


def _left(database: str, contents: str, stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The units of some stages that are listed and have no row: the place of each by its key."""
    try:
        table = fanfold.open_table(database, contents)
    except UsageError:  # nothing is listed there
        return {}
    wanted = ", ".join(map(quoted, stages))
    listed = table.to_table(["key", "version", "unit", "place"], filter=f"stage IN ({wanted})")
    listed = listed.filter(pc.is_in(named(listed), _current(database)))
    done = table_of(database, UNITS).to_table(["key", "version"])
    left = listed.filter(pc.invert(pc.is_in(named(listed, "unit"), named(done).combine_chunks())))
    return {row["unit"]: {"copy": 0} | json.loads(row["place"]) for row in left.to_pylist()}


class ShadowCopy(NamedTuple):
    """A shadow copy on a disk image."""

    image: str
    volume: str
    """p2@vss1"""
    created: datetime | None
    is_searched: bool
    """Whether its logs were listed and read, or could not be."""


def copies(database: str, image: str = "") -> list[ShadowCopy]:
    """The shadow copies on a disk image, or on all, in the order of their volumes."""
    try:
        listed = set(named(fanfold.open_table(database, COPIES).to_table(["key", "version"])).to_pylist())
    except UsageError:  # those of no image are listed
        listed = set()
    table = table_of(database, CONTAINERS)
    wanted = f"key = {quoted(image)}" if image else None
    found = table.to_table(["key", "version", "volumes"], filter=wanted)
    rows = [
        (row["key"], volume, name in listed)
        for row, name in zip(found.to_pylist(), named(found).to_pylist(), strict=True)
        for volume in row["volumes"] or ()
        if volume["kind"] == SHADOW_COPY
    ]
    if not rows:
        return []
    try:
        left = {
            (place["image"], place["volume"]) for place in _left(database, COPIES_CONTENTS, ("shadow", OLDER)).values()
        }
    except UsageError:  # nothing was read
        left = {(key, volume["name"]) for key, volume, _ in rows}
    return [
        ShadowCopy(key, volume["name"], volume["created"], is_listed and (key, volume["name"]) not in left)
        for key, volume, is_listed in rows
    ]


def unsearched(database: str, image: str = "") -> list[tuple[str, str]]:
    """The disk images with shadow copies that were not searched, and a sentence on each."""
    counts = Counter(copy.image for copy in copies(database, image) if not copy.is_searched)
    return [(name, not_searched(count)) for name, count in counts.items()]


def _failures(database: str) -> list[dict[str, Any]]:
    try:
        return list(fanfold.open_table(database, "failures").to_table(["key", "table", "message"]).to_pylist())
    except UsageError:  # nothing has failed
        return []


def stages(database: str) -> dict[str, tuple[int, int]]:
    """The stages of all units that are listed, each with the number of its units and their bytes."""
    found: dict[str, tuple[int, int]] = {}
    for name in (CONTENTS, COPIES_CONTENTS):
        with suppress(UsageError):  # nothing has units there
            rows = fanfold.open_table(database, name).to_table(["stage", "bytes"])
            every = rows.group_by("stage").aggregate([("bytes", "count"), ("bytes", "sum")])
            found |= {row["stage"]: (row["bytes_count"], row["bytes_sum"]) for row in every.to_pylist()}
    return found


def problems(database: str) -> Iterator[tuple[str, str]]:
    """What of the evidence could not be read, besides what failed: a container or a unit, and a sentence."""
    for row in table_of(database, CONTAINERS).to_table(["key", "problems"]).to_pylist():
        for problem in row["problems"] or ():
            yield row["key"], problem
    yield from problems_of_copies(database)
    try:
        read = list(units(database, ["key", "problem"], "problem IS NOT NULL"))
    except UsageError:  # nothing was read
        return
    for unit in read:
        yield unit["key"], unit["problem"]


def damaged_archives(database: str) -> dict[str, list[str]]:
    """What of each archive was not read, in sentences."""
    rows = table_of(database, CONTAINERS).to_table(["key", "problems"], filter="kind = 'zip'").to_pylist()
    return {row["key"]: row["problems"] for row in rows if row["problems"]}


def problems_of_copies(database: str) -> Iterator[tuple[str, str]]:
    """What of shadow copies could not be read: a disk image, and a sentence."""
    try:
        found = fanfold.open_table(database, COPIES).to_table(["key", "version", "problems"])
    except UsageError:  # those of no image are listed
        return
    for row in found.filter(pc.is_in(named(found), _current(database))).to_pylist():
        for problem in row["problems"] or ():
            yield row["key"], problem


def _current(database: str) -> Any:
    """The newest version of each container."""
    return named(table_of(database, CONTAINERS).to_table(["key", "version"])).combine_chunks()


def events(
    database: str, where: str | None = None, columns: Sequence[str] = (), limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The records of current units that meet a condition in SQL; at least one batch, which may be empty.

    Raises UsageError for a condition that is not valid, or a column that does not exist.
    """
    table = table_of(database, EVENTS)
    schema = table.schema
    wanted = list(columns or schema.names)
    if unknown := set(wanted).difference(schema.names):
        raise UsageError(f"'{min(unknown)}' is not a column. The columns are: {', '.join(schema.names)}.")
    if where and "?" in re.sub(r"'[^']*'|\"[^\"]*\"", "", where):  # Lance takes it for a parameter, and crashes
        raise _refused(where, "a ? is only allowed in a text")
    done = _done(database)
    copies = located(_copies(database)).combine_chunks()
    read = list(dict.fromkeys([*wanted, "key", "version", "offset"]))
    left, empty = None if limit is None else min(limit, 1 << 62), True  # Arrow counts no further
    try:
        for batch in table.scanner(read, filter=where or None, batch_size=4096).to_batches():
            rows = batch.filter(pc.is_in(named(batch), done))
            if len(copies):
                rows = rows.filter(pc.invert(pc.is_in(located(rows), copies)))
            rows = rows.select(wanted).slice(0, left)
            left = None if left is None else left - len(rows)
            yield rows
            empty = False
            if left == 0:
                break
    except (ValueError, OSError) as error:
        if where is None:
            raise
        why = first_line(error).removeprefix("Invalid user input: ").rstrip(".")
        raise _refused(where, re.sub(r"(, _row\w*)+$", "", why)) from error  # columns of Lance's own
    if empty:
        yield pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(name) for name in wanted]))


def _refused(where: str, why: str) -> UsageError:
    end = "" if why.endswith("?") else "."
    hint = "Write times as: timestamp '2021-05-23 22:00:00', and texts in single quotes."
    return UsageError(f"--where does not accept {where!r}: {why}{end} {hint}")


def _copies(database: str) -> pa.Table:
    """The records of current units that are on a disk more than once: the unit and the offset of all but one of each.

    Units that are read side by side do not know of each other, so two may have the same record: of free space, or of
    two shadow copies. And a log, or a shadow copy, may have been read after what was deleted or carved: in a later
    scan, with other options, or because it had failed.
    """
    if not _has_recovered(database, _state(database, UNITS)):
        return pa.table({"key": pa.array([], pa.string()), "offset": pa.array([], pa.uint64())})
    return _copies_of(database, _state(database, CONTAINERS, UNITS, EVENTS))


@lru_cache(1)
def _has_recovered(database: str, _as_it_is: tuple[str, ...]) -> bool:
    """Whether a unit has records that are not of a log that is there."""
    return bool(table_of(database, UNITS).count_rows(f"{_RECOVERED} AND records > 0"))


@lru_cache(1)
def _copies_of(database: str, _as_it_is: tuple[str, ...]) -> pa.Table:
    """See `_copies`."""
    return copies_in(table_of(database, EVENTS), _done(database), _RECOVERED)


def short_log(path: str) -> str:
    """The short name of a log: that of its file, without its maker and its ending."""
    parts = re.split(r"/|\\(?!x[0-9A-F]{2})", path)  # \xNN is a byte that is not text
    name = re.sub(r"\.evtx$", "", parts[-1], flags=re.IGNORECASE)
    return name.replace("%4", "/").removeprefix("Microsoft-Windows-")
