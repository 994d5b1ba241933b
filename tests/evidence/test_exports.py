"""Exported logs: their records are numbered again, and what a filter left out is not there."""

import struct
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from scans import records, scan

from event_logs import CHUNK_HEADER, FILE_HEADER, START, Event, events, log_bytes, sealed, write_log
from fanfold.evidence import coverage, tables
from fanfold.evidence.report.report import made


def told(database: str) -> dict[str, tuple[str, str]]:
    """The sentences of the report, each with its status and its reason."""
    return {one.text: (one.status, one.reason) for one in made(database, "host1").findings}


def exported(folder: Path, *written: int) -> Path:
    """A log Security of records that were numbered so where they were written."""
    some = [replace(event, written_id=number) for event, number in zip(events(len(written)), written, strict=True)]
    return write_log(folder / "host1" / "Security.evtx", some)


def log_of(database: str) -> dict[str, Any]:
    """The coverage of the only log."""
    (log,) = coverage.logs(tables.units(database))
    return log


def test_an_export_with_a_filter_does_not_tell_what_did_not_happen(tmp_path: Path, database: str) -> None:
    """Records that were chosen from a log are no ground for a sentence that something is shown not to be recorded."""
    scan(exported(tmp_path / "given", 2751, 2775, 2776).parent.parent, database)
    found = told(database)
    text = (
        "Security is a copy of 3 records, numbered again: before, they were 2,751 to 2,776, "
        "and others between were left out."
    )
    assert found[text][0] == "shown"
    part = "the log Security is a part of another one: its records were chosen from that"
    assert found["No logon by Remote Desktop is recorded."] == ("not recorded", part)
    assert not any("without a gap" in one for one in found)


def test_an_export_of_a_whole_stretch(tmp_path: Path, database: str) -> None:
    """Where the ids that the records had follow each other, nothing between them is missing."""
    scan(exported(tmp_path / "given", 501, 502, 503).parent.parent, database)
    found = told(database)
    text = "Security is a copy of 3 records, numbered again: before, they were 501 to 503, and none between is missing."
    assert found[text][0] == "shown"
    assert found["No logon by Remote Desktop is recorded."][0] == "shown"


def test_an_export_of_one_record(tmp_path: Path, database: str) -> None:
    """A record alone was chosen from a log, and tells nothing of what that did not have."""
    scan(exported(tmp_path / "given", 14224).parent.parent, database)
    found = told(database)
    assert found["Security is a copy of 1 record, numbered again: before, it was 14,224."][0] == "shown"
    assert found["No logon by Remote Desktop is recorded."][0] == "not recorded"


def test_the_id_of_a_record_where_it_was_written(tmp_path: Path, database: str) -> None:
    """It is a column of the table of events, for records that have another one in their log."""
    some = [replace(event, written_id=number) for event, number in zip(events(3), (1, 900, 3), strict=True)]
    write_log(tmp_path / "given" / "host1" / "Security.evtx", some)
    scan(tmp_path / "given", database)
    assert set(records(database, "record_id", "written_id")) == {(1, None), (2, 900), (3, None)}
    assert log_of(database)["renumbered"] == 1


def test_a_last_record_without_a_time(tmp_path: Path, database: str) -> None:
    """Where the frame of the last record has no time, its event has."""
    data = bytearray(log_bytes(events(3)))
    at = data.rfind(b"**\0\0")
    struct.pack_into("<Q", data, at + 16, 0)
    data[FILE_HEADER:] = sealed(bytearray(data[FILE_HEADER:]))
    assert at > FILE_HEADER + CHUNK_HEADER
    log = tmp_path / "given" / "host1" / "Security.evtx"
    log.parent.mkdir(parents=True)
    log.write_bytes(data)
    scan(tmp_path / "given", database)
    assert log_of(database)["newest_time"] == events(3)[2].time


def test_frames_with_the_times_of_other_records(tmp_path: Path, database: str) -> None:
    """The frames of exported records have the times of those that followed them; a log's times are its events' own."""
    late = [replace(event, frame_time=event.time + timedelta(days=21)) for event in events(3)]
    write_log(tmp_path / "given" / "host1" / "Security.evtx", late)
    scan(tmp_path / "given", database)
    log = log_of(database)
    assert (log["first_time"], log["last_time"], log["newest_time"]) == (late[0].time, late[2].time, late[2].time)
    assert log["backwards"] == 0


def test_records_that_are_written_a_moment_later(tmp_path: Path, database: str) -> None:
    """Where frames have nearly the times of their events, those are the times of the log."""
    soon = [replace(event, frame_time=event.time + timedelta(milliseconds=200)) for event in events(3)]
    write_log(tmp_path / "given" / "host1" / "Security.evtx", soon)
    scan(tmp_path / "given", database)
    assert log_of(database)["newest_time"] == soon[2].frame_time


def test_records_that_two_exports_have_count_once(tmp_path: Path, database: str) -> None:
    """What several parts of one log have is one record, and their order is that of the log."""
    wrong = {"TargetUserName": "eve", "LogonType": "3", "IpAddress": "10.0.0.9"}
    attempts = [
        Event(number, 4625, START + timedelta(seconds=number), computer="HOST", data=wrong) for number in range(1, 9)
    ]
    first, later = (
        [replace(event, record_id=number, written_id=event.record_id) for number, event in enumerate(some, 1)]
        for some in (attempts[:6], attempts[3:])
    )
    for name, some in (("first", first), ("later", later), ("later - Copy", later)):
        write_log(tmp_path / "given" / "host1" / f"{name}.evtx", some)
    scan(tmp_path / "given", database)
    assert any(text.startswith("8 failed attempts over the network from 10.0.0.9") for text in told(database))
