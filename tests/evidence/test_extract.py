"""Logs that are written for other tools: each has a file of its own, whatever it is called, and each record once."""

import re
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from evtx import PyEvtxParser
from scans import STAGES, scan

from disk_images import mbr
from event_logs import Event, events, log_bytes
from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.disk.ntfs import FileSystem
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.eventlog.chunks import Chunk, chunks_of, log_of, records_of, without
from fanfold.evidence.extract import Writer, _safe, extract
from fat_volumes import Entry, exfat, fat16


def records_in(file: Path) -> Counter[int]:
    """How often each record is in a log, as another reader sees it; without empty ones."""
    found = PyEvtxParser(str(file)).records_json()
    return Counter(record["event_record_id"] for record in found if "EventID" in record["data"])


NAMES = [
    "Security.evtx", "SECURITY.EVTX", "security.evtx", "CON.evtx", "nul", "com1.a.evtx", ".evtx", "..", "a?.evtx",
    "a*.evtx", "a_.evtx", "x/Security.evtx", "x.evtx/Security.evtx", "x.evtx", "X.evtx/b/Security.evtx",
    "\u4e2d" * 200 + "1.evtx", "\u4e2d" * 200 + "2.evtx", "a" * 300 + ".evtx", "b" * 100 + "a" * 300 + ".evtx",
    "cafe\u0301.evtx", "caf\u00e9.evtx", "dot..evtx.", "dot..evtx ", "a\nb.evtx", "a\u202eb.evtx", "\ud800.evtx",
    "/".join(["folder" * 30] * 60) + "/x.evtx", "/".join(["folder" * 30] * 60) + "/X.evtx",
]  # fmt: skip


def test_every_log_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Names that are equal once they are made harmless, or in another case, are of two files; none leads outside."""
    writer = Writer(tmp_path / "out")
    for number, name in enumerate(NAMES, 1):
        (chunk,) = chunks_of([log_bytes(events(1, first=number))])
        writer.add(f"disk/{name}", chunk)
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert sorted(record for file in files for record in records_in(file)) == [*range(1, len(NAMES) + 1)]
    paths = [str(file.relative_to(tmp_path / "out")) for file in files]
    assert len({path.casefold() for path in paths}) == len(NAMES)
    for name in (part for path in paths for part in path.split("/")):
        assert len(name.encode()) <= 255
        assert not re.search(r'[\x00-\x1f<>:"\\|?*]|[. ]$', name)
        assert not re.fullmatch(r"(con|nul|com1)(\..*)?", name, re.IGNORECASE)


def test_a_safe_path_stays_below_its_folder() -> None:
    """Dots are no way out, and an empty name is a name."""
    assert _safe("../..//a/./b.evtx") == Path("_/_/_/a/_/b.evtx")


def test_a_carved_record_is_written_once(tmp_path: Path, database: str) -> None:
    """Of a chunk that lies on a disk several times, also in earlier states, the fullest is written, once."""
    states = [log_bytes(events(count, "Setup"))[4096:] for count in (20, 40, 40, 10)]
    other = log_bytes([*events(15, "Setup"), *events(10, "Setup", first=1001)])[4096:]
    disk = b"".join(bytes(4096) + state for state in (*states, other))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(disk.ljust(2 << 20, b"\0"))
    scan(tmp_path / "given", database, *STAGES)
    list(extract(database, tmp_path / "out", ["carved"]))
    (file,) = (tmp_path / "out").rglob("*.evtx")
    assert records_in(file) == Counter([*range(1, 41), *range(1001, 1011)])
    assert [chunk.ok for chunk in chunks_of([file.read_bytes()])] == [True, True]


@pytest.mark.parametrize("gone", [[1], [3], [2, 3], [1, 2], [5]])
def test_a_chunk_without_some_records(gone: list[int]) -> None:
    """The other records are read as before."""
    chunk = Chunk.of(0, log_bytes(events(5))[4096:])
    digests = {record.digest for record in records_of(chunk) if record.record_id in gone}
    left = without(chunk, digests)
    assert left.ok
    found = PyEvtxParser(BytesIO(log_of([left.data]))).records_json()
    assert [record["event_record_id"] for record in found if "EventID" in record["data"]] == [
        number for number in range(1, 6) if number not in gone
    ]


def test_logs_of_a_stick_with_names_of_its_own(tmp_path: Path, database: str) -> None:
    """A volume whose names no other system takes gives all of its logs."""
    names = ["CON.evtx", "con .evtx", "a\u4e2d" * 100 + ".evtx"]
    some = [Entry(name, log_bytes([Event(number, 1, events(1)[0].time)])) for number, name in enumerate(names, 1)]
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(mbr(exfat(some)))
    scan(tmp_path / "given", database, *STAGES)
    assert not any(unit.error for unit in extract(database, tmp_path / "out", []))
    files = [*(tmp_path / "out").rglob("*.evtx")]
    assert sorted(record for file in files for record in records_in(file)) == [1, 2, 3]


def test_ctrl_c_is_no_damage() -> None:
    """The Sleuth Kit makes an error of its own of what stops it; that does not count as a log that cannot be read."""
    disk, stopped = fat16([Entry("a.evtx", log_bytes(events(5)))]), list[bool]()

    def read(offset: int, length: int) -> bytes:
        if stopped:
            raise KeyboardInterrupt
        return disk[offset : offset + length]

    system = FileSystem(Raw([SegmentFile("a.raw", len(disk), read)]), 0)
    number = system.find("a.evtx")
    stopped.append(True)
    with pytest.raises(KeyboardInterrupt):
        system.read_at(number, 0, 100_000)
