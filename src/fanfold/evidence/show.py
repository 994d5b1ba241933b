"""What the verbs of `evidence` show: records, and the coverage of logs."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
from more_itertools import chunked
from pyarrow import csv, parquet
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fanfold.cli import show
from fanfold.cli.spreadsheet import safe
from fanfold.errors import UsageError
from fanfold.evidence.extract import Extracted
from fanfold.evidence.report.exports import L2TCSV, TIMELINE
from fanfold.evidence.report.html import page
from fanfold.evidence.report.report import Report
from fanfold.evidence.report.text import lines, markdown
from fanfold.evidence.tables import by_reason, short_log
from fanfold.evidence.verification import Checked
from fanfold.source.folder import UNREADABLE, UNSUPPORTED, VANISHED

COLUMNS = ("time", "computer", "channel", "event_id", "record_id", "data")
"""The columns that a person sees first."""
_FAILURES, _MACHINES = 5, 20  # that are shown
PROBLEMS = 20
"""Problems that are shown."""
ROWS = 100
"""Records that are shown unless more are asked for."""
_MAY_BE_EVIDENCE = {
    (UNREADABLE, VANISHED): "Folders or files could not be opened ({count}), and what is in them was not read. "
    "Check their permissions, and scan again.",
    (UNSUPPORTED,): "Files that CompactOS or its like keeps elsewhere were not read ({count}), and logs may be among "
    "them. Scan the image of the disk, which names them, or the folder on a Windows machine.",
}
"""Reasons for leaving out what may be evidence, and a sentence on them."""


def events(found: Iterable[pa.RecordBatch], limit: int | None) -> None:
    """A line for each record."""
    rows = [row for batch in found for row in batch.to_pylist()]
    if not rows:
        show.note("No records.")
        return
    cut = limit is None and len(rows) > ROWS
    table = Table(*rows[0], box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows[:ROWS] if cut else rows:
        table.add_row(*(Text(_text(value), overflow="fold") for value in row.values()))
    show.out.print(table)
    if cut:
        show.note(f"Only the first {ROWS} are shown. Show more with --limit, or write all with --format jsonl.")


def _text(value: Any) -> str:
    """A value for people: a time in UTC, to the millisecond."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    return show.harmless(str(value)).replace("\n", "\\n")


def export(found: Iterable[pa.RecordBatch], kind: str, out: Path | None) -> None:
    """Write records as jsonl, csv or parquet to a file, or to stdout."""
    with _opened(out) as file:
        writer: Any = None
        for batch in found:
            if kind == "jsonl":
                file.writelines(msgspec.json.encode(_nested(row)) + b"\n" for row in batch.to_pylist())
                continue
            rows = safe(batch) if kind == "csv" else batch
            if writer is None:
                writer = (csv.CSVWriter if kind == "csv" else parquet.ParquetWriter)(file, rows.schema)
            writer.write(rows)
        if writer is not None:
            writer.close()


@contextmanager
def _opened(out: Path | None) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with out.open("wb") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"There is no folder {out.parent}. Make it first.") from None
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from error


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose `data` is an object, not a text."""
    return row | {"data": msgspec.Raw(row["data"].encode())} if row.get("data") else row


def coverage(logs: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A line for each log: how far it reaches, and what is missing."""
    rows = []
    empty = 0
    for log in logs:
        if as_json:
            show.put_json(log)
        elif not log["records"] and not log["problem"]:
            empty += 1
        else:
            ids = f"{log['first_record_id']:,}..{log['last_record_id']:,}" if log["records"] else ""
            times = f"{_day(log['first_time'])} .. {_day(log['last_time'])}" if log["records"] else ""
            rows.append([_place(log), f"{log['records']:,}", ids, times, "; ".join(_remarks(log))])
    if as_json:
        return
    if not rows:
        show.note("No log has a record." if empty else "No log was read.")
        return
    heads = ("log", "records", "ids", "times (UTC)", "remarks")
    longest = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if sum(longest) + 2 * len(longest) <= show.out.width:
        show.fitted(heads, rows, numbers=[1], spare=())
    else:
        _blocks(rows)
    if empty:
        show.note(f"{empty:,} more logs have no record." if empty > 1 else "1 more log has no record.")


def _blocks(rows: Iterable[Sequence[str]]) -> None:
    """A few lines for each log, where a table has no room."""
    for place, records, ids, times, remarks in rows:
        show.out.print(Text(place), soft_wrap=True)
        counted = f"{records} records" + f", ids {ids}" * bool(ids)
        for text in filter(None, (counted, times, *remarks.split("; "))):
            show.out.print(Padding(Text(text), (0, 0, 0, 4)))


def failures(found: Sequence[tuple[str, str]], database: str) -> None:
    """A line for each of the first reasons for which something failed."""
    for _, keys, message in by_reason(found)[:_FAILURES]:
        show.note(f"Not read: {show.printable(keys)}: {message}")
    if found:
        show.note(f"To see all that failed: fanfold failures {database}")


def left_out(counts: Mapping[str, int]) -> int:
    """What a listing left out, by its reasons. Returns the exit code, which is 3 if evidence may be among it."""
    if counts:
        show.note(f"  Left out: {', '.join(f'{count:,} {reason}' for reason, count in sorted(counts.items()))}.")
    code = 0
    for reasons, sentence in _MAY_BE_EVIDENCE.items():
        if count := sum(counts.get(reason, 0) for reason in reasons):
            show.note(sentence.format(count=f"{count:,}"))
            code = 3
    return code


def machines(found: Sequence[tuple[str, int, int]], as_json: bool) -> None:
    """A line for each machine, on stdout: what was read of it."""
    if as_json:
        for name, records, logs in found:
            show.put_json({"image": name, "records": records, "logs": logs})
        return
    for name, records, logs in found[:_MACHINES]:
        plural = "s" * (logs != 1)
        show.out.print(f"{show.printable(name)}: {records:,} records of {logs:,} log{plural}", soft_wrap=True)
    if len(found) > _MACHINES:
        show.out.print(f"... and {len(found) - _MACHINES:,} more machines")


def problems(found: Iterable[tuple[str, str]]) -> int:
    """A line for each thing that could not be read. Returns the exit code."""
    every = list(found)
    for key, problem in every[:PROBLEMS]:
        show.note(f"{show.printable(key)}: {problem}")
    if len(every) > PROBLEMS:
        show.note(f"... and {len(every) - PROBLEMS:,} more. The columns `problems` and `problem` have them all.")
    return 3 if every else 0


def _place(log: Mapping[str, Any]) -> str:
    parts = (log["image"], log["volume"], short_log(log["path"]) if log["path"] else "")
    return show.printable("/".join(part for part in parts if part))


def _day(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else "?"


def _remarks(log: Mapping[str, Any]) -> Iterator[str]:
    """Remarks that matter to anyone who draws conclusions from missing records."""
    if log["problem"]:
        yield log["problem"].rstrip(".")
    if log["origin"] == "shadow":
        yield "from a shadow copy: what no newer log has"
    if log["origin"] == "deleted":
        yield "was deleted"
    if log["origin"] == "carved":
        yield "carved: no file has these records"
    if log["undecoded"]:
        yield f"{log['undecoded']:,} record{'s' * (log['undecoded'] > 1)} could not be decoded"
    if log["bad_chunks"]:
        yield f"{log['bad_chunks']:,} of {log['chunks']:,} chunks with a wrong checksum"
    if log["renumbered"]:
        before = f"{log['written_first']:,} to {log['written_last']:,}"
        yield f"numbered again: its records were {before} where they were written"
    if log["gaps"] and log["kind"] != "carve":  # what is carved is of several logs
        first, count = log["gaps"][0], len(log["gaps"]) - 1
        more = f", and {count:,} more gap{'s' * (count > 1)}" if count else ""
        yield f"no records between {first['after']:,} and {first['before']:,}{more}"
    if log["backwards"] and log["kind"] != "carve":
        yield f"the clock goes back {log['backwards']:,} time{'s' * (log['backwards'] > 1)}"
    if log["dirty"]:
        yield "was in use when it was copied"


def records(found: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """All that is known of some records."""
    for number, record in enumerate(found):
        if as_json:
            show.put_json(record)
            continue
        if number:
            show.out.print()
        for name, value in record.items():
            if name == "data" and value is not None:
                value = msgspec.json.format(value, indent=2)
                show.out.print(f"{name}: {show.harmless(value)}", soft_wrap=True)
            elif value is not None:
                show.out.print(f"{name}: {_text(value)}", soft_wrap=True)


def verified(checked: Checked, as_json: bool) -> int:
    """What the verification of a disk image has found. Returns the exit code."""
    if as_json:
        show.put_json(checked.to_json())
        return checked.exit_code
    show.out.print(f"{show.printable(checked.name)}: {show.harmless(checked.summary)}", soft_wrap=True)
    for name, digest in checked.computed.items():
        stored = checked.stored.get(name)
        word = "as stored" if stored == digest else f"but {stored} is stored" if stored else "none is stored"
        show.out.print(f"  {name:4}  {digest}  {word}", soft_wrap=True)
    for problem in checked.problems:
        show.out.print(f"  {show.harmless(problem)}", soft_wrap=True)
    for damage in checked.damage:
        sectors = f"sectors {damage.first_sector:,} to {damage.first_sector + damage.sectors - 1:,}"
        where = f" ({show.printable(damage.segment)} at byte {damage.offset:,})" if damage.offset is not None else ""
        show.out.print(f"  damaged: {sectors}{where}: {damage.why}", soft_wrap=True)
    for first, count in checked.unread:
        show.out.print(f"  not read by the acquirer: sectors {first:,} to {first + count - 1:,}", soft_wrap=True)
    return checked.exit_code


def extracted(units: Iterable[Extracted], folder: Path) -> int:
    """How many chunks were written. Returns the exit code."""
    failed = 0
    logs = set()
    for unit in units:
        logs |= {unit.unit.rpartition("#")[0]} if unit.chunks else set()
        if unit.error:
            failed += 1
            show.note(f"{show.printable(unit.unit)}: {unit.error}")
    if logs:
        show.out.print(f"{len(logs):,} event log{'s' * (len(logs) > 1)}, or parts of disks with some, are in {folder}.")
    else:
        show.out.print("No event log has anything to write.")
    return 3 if failed else 0


def reported(report: Report, as_json: bool, html: Path | None, md: Path | None) -> None:
    """A report: as a page, as Markdown, as JSON or as text."""
    for file, content in ((html, page), (md, lambda report: "\n".join(markdown(report)) + "\n")):
        if file:
            with _opened(file) as opened:
                opened.write(content(report).encode("utf-8", "backslashreplace"))
            show.note(f"The report is in {file}.")
    if as_json:
        show.put_json(report.to_json())
    elif not (html or md):
        for line in lines(report, min(show.out.width, 110)):
            show.out.print(show.harmless(line), soft_wrap=True)


def timeline(rows: Iterable[Mapping[str, Any]], kind: str, out: Path | None) -> None:
    """Records as other tools import them, to a file or to stdout."""
    schema = L2TCSV if kind == "l2tcsv" else TIMELINE
    batches = (pa.RecordBatch.from_pylist([dict(row) for row in some], schema=schema) for some in chunked(rows, 4096))
    heads = pa.RecordBatch.from_pylist([], schema=schema)  # for a file without records
    export(chain([heads], batches), kind.removeprefix("l2t"), out)
