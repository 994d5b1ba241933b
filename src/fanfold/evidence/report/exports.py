"""Timelines: the records of a machine in the order of time, also in the forms that Timesketch imports.

Format: Timesketch's "Import from JSON or CSV": the columns message, datetime and timestamp_desc; `timestamp` is in
microseconds. And log2timeline's L2T CSV: plaso's documentation, "l2tcsv output format".
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from fanfold.evidence.report.clock import Clock
from fanfold.evidence.report.record import Record, data_of, short_provider, values_in_line

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
L2TCSV = pa.schema([(name, _TEXT) for name in (
    "date", "time", "timezone", "MACB", "source", "sourcetype", "type", "user", "host", "short", "desc", "version",
    "filename", "inode", "notes", "format", "extra",
)])  # fmt: skip
"""The columns of a timeline for tools that read what log2timeline wrote."""
_LONGEST = 2000  # characters of a message
_SHORT = 80


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


def l2tcsv(rows: Iterable[Mapping[str, Any]], clock: Clock) -> Iterator[dict[str, Any]]:
    """Records as log2timeline wrote them. A date has no fraction of a second there: `extra` has the whole time."""
    for row in rows:
        for known in timesketch([row], clock):
            local = clock.local(row["time"], _placed(row))
            names = ("datetime", "event_identifier", "record_number", "source_name", "channel")
            yield {
                "date": f"{local:%m/%d}/{local.year:04}",
                "time": f"{local:%H:%M:%S}",
                "timezone": _zone(local),
                "MACB": "...B",  # born: that is when a record was made
                "source": "EVT",
                "sourcetype": "WinEVTX",
                "type": known["timestamp_desc"],
                "user": known["user_sid"] or "-",
                "host": known["computer_name"] or "-",
                "short": known["message"][:_SHORT],
                "desc": known["message"],
                "version": "2",
                "filename": "/".join(filter(None, (known["image"], known["log"]))),
                "inode": "-",
                "notes": "-" if known["origin"] == "live" else f"origin: {known['origin']}",
                "format": "winevtx",
                "extra": "; ".join(f"{name}: {known[name]}" for name in names),
            }


def _zone(local: datetime) -> str:
    """The name of a time's zone; its offset, if the clock showed the time twice, or the zone has no name."""
    name = local.tzname() or ""
    if name == "UTC":
        return name
    is_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return str(timezone(local.utcoffset() or timedelta())) if is_twice else getattr(local.tzinfo, "key", name)


def _placed(row: Mapping[str, Any]) -> Record:
    """A record without its values: its place in its log decides about times that the clock showed twice."""
    channel, event_id = row["channel"] or "", row["event_id"] or 0
    return Record("", row["record_id"], row["time"], event_id, "", "", {}, row["origin"], channel=channel)
