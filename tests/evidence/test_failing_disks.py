"""Evidence on a disk that fails: what it cannot give is named, and the rest is read."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from scans import records, rows, scan

from disk_images import SECTOR, chunk_at, ewf, in_memory, mbr, windows_volume
from event_logs import CHUNK, FILE_HEADER, events, write_log
from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.units import Units
from fanfold.job import Item


def failing(file: SegmentFile, at: int) -> SegmentFile:
    """A file of which a sector cannot be read."""

    def read(offset: int, length: int) -> bytes:
        if offset < at + SECTOR and at < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return file.read(offset, length)

    return replace(file, read=read)


def test_a_chunk_of_an_image_that_cannot_be_read() -> None:
    """A chunk of an EnCase image that its disk cannot give is zeros, and named; all others are read."""
    data = mbr(windows_volume())
    (segment,) = ewf(data)
    file, number, size = in_memory("mesa.E01", bytes(segment.data)), 21, 32768
    medium = Ewf.open([failing(file, chunk_at(segment, number) + 9)])
    read = b"".join(medium.read_at(offset, 1 << 20) for offset in range(0, len(data), 1 << 20))
    assert read == data[: number * size] + bytes(size) + data[(number + 1) * size :]
    (damage,) = medium.damage
    assert (damage.first_sector, damage.sectors, damage.why) == (number * 64, 64, "it cannot be read")


def test_a_log_that_lies_partly_where_nothing_can_be_read(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sector of a log that cannot be read costs the records in it, and those of its chunk are marked."""
    write_log(tmp_path / "host" / "Security.evtx", events(2000))
    read_at, at = Units.read_at, FILE_HEADER + 10 * CHUNK + 20_000

    def failing(self: Units, item: Item, offset: int, length: int) -> bytes:
        if offset < at + SECTOR and at < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return read_at(self, item, offset, length)

    monkeypatch.setattr(Units, "read_at", failing)
    scan(tmp_path / "host", database)
    (unit,) = rows(database, "evidence")
    assert unit["problem"].startswith("Parts of it are on sectors that cannot be read.")
    assert 1985 < unit["records"] < 2000
    damaged = {(chunk, damaged) for chunk, damaged in records(database, "chunk", "damaged") if damaged}
    assert damaged == {(10, True)}
    assert rows(database, "failures") == []
