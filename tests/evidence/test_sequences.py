"""Scans of one database after one another, with other options or of changed evidence: each record is shown once."""

from pathlib import Path

import pytest
from scans import records, scan

from commands import fanfold as command
from disk_images import ewf, mbr, windows_volume, write_ewf
from event_logs import COUNTS, total
from fanfold.evidence import tables
from fanfold.evidence.work import Parts

STAGES = (["live"], ["deleted"], ["carved", "verify"])
LOGS = "Windows/System32/winevt/Logs"
OTHERS = {"Packed": 80, "Pieces": 120}
DELETED = {"Setup": 40, "Old": 250}
ALL = total() + sum(OTHERS.values()) + sum(DELETED.values())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk image with logs, some of them deleted."""
    return write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(windows_volume())))[0]


def failing(name: str, monkeypatch: pytest.MonkeyPatch, start: int = 0) -> None:
    """Let the reads of a log fail, from a byte on."""
    read_at = Parts._read_at

    def failing(self: Parts, offset: int, length: int) -> bytes:
        if (self.place.path or "").endswith(f"/{name}.evtx") and self.place.start >= start:
            raise OSError("Input/output error")
        return read_at(self, offset, length)

    monkeypatch.setattr(Parts, "_read_at", failing)


def test_a_log_that_is_read_after_it_was_carved(disk: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that failed at first is carved; when it is read later, its records are shown once, in the log."""
    with monkeypatch.context() as patched:
        failing("Security", patched)
        scan(disk, database, *STAGES)
    assert records(database, "origin")["carved",] == COUNTS["Security"]
    for _ in range(2):
        asked = command("evidence", "scan", disk, database, "--retry-failed", "--workers", "1")
        assert asked.returncode == 0, asked.stderr
    found = records(database, "digest")
    assert (found.total(), set(found.values())) == (ALL, {1})
    assert ("carved",) not in records(database, "origin")
    assert f"{ALL:,} records" in asked.stdout


def test_the_rest_of_a_log_of_which_a_part_failed_is_carved(
    disk: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a log that cannot be read is carved, though the rest of the log was read."""
    monkeypatch.setattr("fanfold.evidence.units.GROUP", 1)
    failing("Security", monkeypatch, start=1)
    scan(disk, database, *STAGES)
    found = records(database, "digest")
    assert (found.total(), set(found.values())) == (ALL, {1})


def test_facts_of_an_image_as_it_was(disk: Path, database: str) -> None:
    """Of an image that has changed since it was verified, the result is not told."""
    scan(disk, database, *STAGES)
    assert {fact["kind"] for fact in tables.facts(database, "mesa.E01")} == {"verification", "digest"}
    data = bytearray(disk.read_bytes())
    data[len(data) // 2] ^= 1
    disk.write_bytes(data)
    scan(disk, database, ["live"])
    assert [fact["kind"] for fact in tables.facts(database, "mesa.E01")] == []
