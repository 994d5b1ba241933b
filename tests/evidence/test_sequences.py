"""Scans of one database after one another, with other options or of changed evidence: each record is shown once."""

import contextlib
import re
import resource
import shutil
from pathlib import Path

import pytest
from scans import records, scan
from test_shadow_copies import with_log

from commands import fanfold as command
from disk_images import ewf, mbr, windows_volume, write_ewf
from event_logs import COUNTS, events, log_bytes, total, write_log
from fanfold.evidence import tables
from fanfold.evidence.work import Parts

STAGES = (["live"], ["deleted"], ["carved", "verify"])
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


def test_scans_of_more_and_more(disk: Path, database: str) -> None:
    """The scan of some logs, then of all, with or without carving in between: each record once, as in one scan."""
    for words in (["--only", "Security"], ["--no-carve", "--verify", "none"], []):
        done = command("evidence", "scan", disk, database, "--workers", "1", *words)
        assert done.returncode == 0, done.stderr
    found = records(database, "digest")
    assert (found.total(), set(found.values())) == (ALL, {1})


def test_a_log_that_another_has_the_records_of(tmp_path: Path, database: str) -> None:
    """A deleted log that was read first, and later a log with the same records: they are shown in the log only."""
    volume = with_log(windows_volume(), "Security", log_bytes(events(DELETED["Old"], "Old")))
    (file,) = write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(volume)))
    scan(file, database, ["deleted"], ["live"])
    assert set(records(database, "digest").values()) == {1}
    assert records(database, "origin")["deleted",] == DELETED["Setup"]


def test_a_database_that_is_made_again(tmp_path: Path) -> None:
    """Nothing that was found in a database is taken for what is in another one of the same name, in one process."""
    for count in (5, 7):
        folder = tmp_path / str(count)
        write_log(folder / "logs" / "Security.evtx", events(count))
        for _ in range(2):
            shutil.rmtree(folder / "db", ignore_errors=True)
            with contextlib.chdir(folder):
                scan("logs", "db")
                assert records("db").total() == count


def test_extract_to_a_disk_that_is_full(disk: Path, tmp_path: Path, database: str) -> None:
    """Extract ends with one sentence when it cannot write."""
    scan(disk, database, *STAGES)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        done = command("evidence", "extract", database, "--to", tmp_path / "logs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"fanfold: Cannot write .*/logs/\S.*: File too large\. Delete .*\n", done.stderr)


def test_an_image_that_failed_is_not_told_of_others(disk: Path, database: str) -> None:
    """A disk image that cannot be read is a failure of its own; the reports on other images do not name it."""
    disk.with_name("other.E01").write_bytes(b"rubbish" * 1000)
    scan(disk.parent, database, *STAGES)
    assert [name for name, _ in tables.failures(database)] == ["other.E01"]
    assert tables.unread(database, ["mesa.E01"]) == {"mesa.E01": ([], [])}
    write_log(disk.parent / "System.evtx", events(5, "System"))
    (disk.parent / "Security.evtx").write_bytes(b"rubbish" * 1000)
    scan(disk.parent, database, *STAGES)
    assert tables.unread(database, ["mesa.E01"]) == {"mesa.E01": ([], [])}
    assert "Security.evtx" in tables.unread(database, ["given"])["given"][0]
