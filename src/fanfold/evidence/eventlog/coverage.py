"""Counts what was read of a log: records, chunks, checksums that are wrong, and the ranges of record ids."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from fanfold.evidence.eventlog.chunks import Chunk, Header
from fanfold.evidence.eventlog.records import Decoded
from fanfold.evidence.times import filetime, is_likely, moment

COVERAGE_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("records", pa.int64()),  # found, decoded or not
    pa.field("known", pa.int64()),  # records that are not counted, since a unit of an earlier stage has them
    pa.field("undecoded", pa.int64()),  # those of them that could not be decoded; `error` says why
    pa.field("chunks", pa.int64()),  # chunks of 64 KiB that were found
    pa.field("bad_chunks", pa.int64()),  # those of them with a wrong checksum
    pa.field("empty_chunks", pa.int64()),  # those of them without a record
    pa.field("first_record_id", pa.uint64()),  # lowest, not first in the file: a full log begins again at its start
    pa.field("last_record_id", pa.uint64()),
    pa.field("newest_time", pa.timestamp("us", "UTC")),  # of the record with the highest id that has a time
    pa.field("first_time", pa.timestamp("us", "UTC")),  # earliest and latest; clocks jump
    pa.field("last_time", pa.timestamp("us", "UTC")),
    pa.field("id_ranges", pa.list_(pa.struct([("first", pa.uint64()), ("last", pa.uint64())]))),  # in order
    pa.field("renumbered", pa.int64()),  # records that had another id where they were written: of an export, say
    pa.field("written_first", pa.uint64()),  # the lowest and the highest id that those had
    pa.field("written_last", pa.uint64()),
    pa.field("backwards", pa.int64()),  # times that the clock went back by more than 2 s from a record to the next
    pa.field("dirty", pa.bool_()),  # the log was in use: its header is not up to date
    pa.field("channel", pa.string()),  # of its records, if all have the same: a file may have been renamed
    pa.field("header_chunks", pa.int64()),  # chunks of the whole log, as its header counts them
]
"""The columns of a unit that is a log, or a part of one."""

_LATE = 10_000_000  # 1 s: records are written some milliseconds after the event
_JITTER = 20_000_000  # 2 s: records of several threads are written out of order, and clocks are set a little


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of ids, first and last, in order; those that touch or overlap become one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _timed(records: Sequence[Decoded]) -> Iterator[tuple[int, int]]:
    """The id of each record that has a time, and its FILETIME.

    That is the one of its frame, which is soon read, unless the first or the last record has happened at another time:
    in an export, frames have the times of the records that followed them in the log before.
    """
    ends = (one for one in (*records[:1], *records[-1:]))
    by_content = any(abs((_happened(one) or one.record.filetime) - one.record.filetime) > _LATE for one in ends)
    for one in records:
        time = (by_content and _happened(one)) or one.record.filetime
        if is_likely(time):
            yield one.record.record_id, time


def _happened(record: Decoded) -> int | None:
    """The FILETIME at which an event happened, as the record says; None if it does not."""
    try:
        return filetime(datetime.fromisoformat(record.content.time))
    except (TypeError, ValueError):  # missing, or not a date
        return None


@dataclass
class Coverage:
    """Counts the chunks and the records of a log as they are read."""

    records: int = 0
    known: int = 0
    undecoded: int = 0
    chunks: int = 0
    bad_chunks: int = 0
    empty_chunks: int = 0
    backwards: int = 0
    ids: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of record ids, first and last. A full log starts again at its beginning."""
    times: tuple[int, int] | None = None
    """The earliest and the latest FILETIME."""
    newest: tuple[int, int] = (0, 0)
    """The highest id of a record that has a FILETIME, and that time."""
    channels: set[str] = field(default_factory=set)
    renumbered: int = 0
    written: tuple[int, int] | None = None
    """The lowest and the highest id that renumbered records had where they were written."""
    _before: int = 0

    def add(self, chunk: Chunk, records: list[Decoded], known: int = 0) -> None:
        """Count a chunk and its records; `known` more are in a unit of an earlier stage."""
        self.chunks += 1
        self.bad_chunks += not chunk.ok
        self.empty_chunks += not records and not known
        self.records += len(records)
        self.known += known
        self.undecoded += sum(1 for decoded in records if decoded.error)
        self.channels.update(filter(None, (decoded.content.context.channel for decoded in records)))
        ids = [decoded.record.record_id for decoded in records]
        self._add_ids(ids)
        if ids != [decoded.content.written_id for decoded in records]:  # as is rare
            others = [written for one in records if (written := one.written_id) is not None]
            if chunk.ok or 2 * len(others) > len(records):  # else it is an id that was damaged
                self._add_written(others)
        self._add_times(records)

    def _add_ids(self, ids: list[int]) -> None:
        if ids and ids == list(range(ids[0], ids[0] + len(ids))):  # as a rule
            self.ids.append((ids[0], ids[-1]))
        else:
            self.ids += merged((record_id, record_id) for record_id in ids)

    def _add_written(self, ids: list[int]) -> None:
        if ids:
            first, last = self.written or (ids[0], ids[0])
            self.written = min(first, *ids), max(last, *ids)
            self.renumbered += len(ids)

    def _add_times(self, records: Sequence[Decoded]) -> None:
        written = [time for one in records if is_likely(time := one.record.filetime)]
        if written:  # the order of writing, which times of events need not have
            self.backwards += sum(later < time - _JITTER for time, later in pairwise([self._before, *written]))
            self._before = written[-1]
        timed = [*_timed(records)]
        if timed:
            times = [time for _, time in timed]
            first, last = self.times or (times[0], times[0])
            self.times = min(first, *times), max(last, *times)
            self.newest = max(self.newest, *timed)

    def row(self, header: Header | None) -> dict[str, Any]:
        """The values of `COVERAGE_FIELDS`, of a log with this header."""
        ranges = merged(self.ids)
        first, last = self.times or (0, 0)
        written_first, written_last = self.written or (None, None)
        return {
            "records": self.records,
            "known": self.known,
            "undecoded": self.undecoded,
            "chunks": self.chunks,
            "bad_chunks": self.bad_chunks,
            "empty_chunks": self.empty_chunks,
            "first_record_id": ranges[0][0] if ranges else None,
            "last_record_id": ranges[-1][1] if ranges else None,
            "newest_time": moment(self.newest[1]),
            "first_time": moment(first),
            "last_time": moment(last),
            "id_ranges": [{"first": first_id, "last": last_id} for first_id, last_id in ranges],
            "renumbered": self.renumbered,
            "written_first": written_first,
            "written_last": written_last,
            "backwards": self.backwards,
            "dirty": header.dirty if header else None,
            "channel": next(iter(self.channels)) if len(self.channels) == 1 else None,
            "header_chunks": header.chunks if header else None,
        }
