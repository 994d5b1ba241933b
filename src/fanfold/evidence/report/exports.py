"""Timelines: the records of a machine in the order of time, also in the forms that Timesketch imports.

Format: Timesketch's "Import from JSON or CSV": the columns message, datetime and timestamp_desc; `timestamp` is in
microseconds.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from fanfold.evidence.report.case import Record, short_provider
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.report.values import data_of, values_in_line

_TEXT: pa.DataType = pa.string()
_NUMBER: pa.DataType = pa.uint64()
_TIME: pa.DataType = pa.int64()  # microseconds since 1970
TIMELINE = pa.schema(
    {
        "message": _TEXT,
        "datetime": _TEXT,
        "timestamp": _TIME,
        "timestamp_desc": _TEXT,
        "data_type": _TEXT,
        "event_identifier": _NUMBER,
        "source_name": _TEXT,
        "record_number": _NUMBER,
        "computer_name": _TEXT,
        "user_sid": _TEXT,
        "channel": _TEXT,
        "image": _TEXT,
        "log": _TEXT,
        "origin": _TEXT,
    }
)
"""The columns of a timeline."""
_LONGEST = 2000  # characters of a message


def message(row: Mapping[str, Any]) -> str:
    """A record in one line: Security-Auditing/4624 TargetUserName=emsadmin LogonType=2 ..."""
    named = values_in_line(data_of(row))
    what = f"{short_provider(row['provider'] or '?')}/{row['event_id'] if row['event_id'] is not None else '?'}"
    return f"{what} {named or row['error'] or ''}".strip()[:_LONGEST]


def timesketch(rows: Iterable[Mapping[str, Any]], clock: Clock) -> Iterator[dict[str, Any]]:
    """Records with the names that Timesketch and its analyzers know. Those without a time are left out."""
    for row in rows:
        time: datetime | None = row["time"]
        if time is None:
            continue
        yield {
            "message": message(row),
            "datetime": clock.local(time, _placed(row)).isoformat(timespec="microseconds"),
            "timestamp": round(time.timestamp() * 1_000_000),
            "timestamp_desc": "Creation Time",
            "data_type": "windows:evtx:record",
            "event_identifier": row["event_id"],
            "source_name": row["provider"],
            "record_number": row["record_id"],
            "computer_name": row["computer"],
            "user_sid": row["user_sid"],
            "channel": row["channel"],
            "image": row["image"],
            "log": row["path"],
            "origin": row["origin"],
        }


def _placed(row: Mapping[str, Any]) -> Record:
    """A record without its values: its place in its log decides about times that the clock showed twice."""
    channel, event_id = row["channel"] or "", row["event_id"] or 0
    return Record("", row["record_id"], row["time"], event_id, "", "", {}, row["origin"], channel=channel)
