"""Logs of which a part could not be read: what they do not have is never said not to have happened."""

import os
import zipfile
from pathlib import Path

import mesa
import pytest
from scans import STAGES, rows, scan

from commands import fanfold
from disk_images import chunk_at, ewf, flipped, mbr, windows_volume, write_ewf
from event_logs import Event, events, log_bytes
from fanfold.evidence.report.report import made
from fanfold.evidence.tables import short_log
from fat_volumes import Entry, exfat

LOGS = "C/Windows/System32/winevt/Logs"


def boots(count: int) -> list[Event]:
    """Records of a log System, of which the first is a start."""
    start = Event(1, 12, mesa.at("08:00:00"), "Microsoft-Windows-Kernel-General", "System", "HOST")
    return [start, *events(count, "System")[1:]]


def sentences(database: str, machine: str) -> dict[str, tuple[str, str]]:
    """The status and the reason of each sentence."""
    found = made(database, machine)
    return {finding.id: (finding.status, finding.reason) for finding in found.findings}


def test_a_log_in_an_archive_that_was_cut_off(tmp_path: Path, database: str) -> None:
    """The report says so at its top, and that no shutdown is recorded tells nothing."""
    (tmp_path / "given").mkdir()
    file = tmp_path / "given" / "kape.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{LOGS}/System.evtx", log_bytes(boots(900)))
    file.write_bytes(file.read_bytes()[:20_000])
    scan(tmp_path / "given", database)
    top = " ".join(made(database, "kape.zip").sources)
    assert "READ IN PART: kape.zip: The list of files in this archive is missing or damaged" in top
    assert f"READ IN PART: C:{LOGS[1:]}/System.evtx: The archive is damaged: '{LOGS}/System.evtx' is cut off." in top
    assert sentences(database, "kape.zip")["taking.unknown"] == (
        "not recorded", "a part of the log System could not be read",
    )  # fmt: skip
    shown = fanfold("evidence", "coverage", database).stdout
    assert "is cut off; " in " ".join(shown.split())


def test_more_logs_than_are_named(tmp_path: Path, database: str) -> None:
    """The report names some that were read in part, and says how many more there are."""
    (tmp_path / "given").mkdir()
    file = tmp_path / "given" / "kape.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.evtx", log_bytes(boots(1)))
    data, at = bytearray(file.read_bytes()), 0
    for _ in range(5):
        at = data.index(b"PK\x01\x02", at + 1)
        data[at + 24] = at % 251 + 1  # each claims another size
    file.write_bytes(data)
    scan(tmp_path / "given", database)
    found = [sentence for sentence in made(database, "kape.zip").sources if sentence.startswith("READ IN PART")]
    assert len(found) == 4
    assert found[-1] == ("READ IN PART: 2 more. The columns `problems` and `problem` of the database have the reasons.")


def test_a_log_on_a_damaged_chunk_of_an_image(tmp_path: Path, database: str) -> None:
    """The unit says so, and so does the report; a log beside it has no problem."""
    logs = [Entry("System.evtx", log_bytes(boots(900))), Entry("Security.evtx", log_bytes(events(20)))]
    below = [Entry("System32", below=[Entry("winevt", below=[Entry("Logs", below=logs)])])]
    data = mbr(exfat([Entry("Windows", below=below)]))
    (image,) = ewf(data, chunk=4096, per_table=1 << 20)
    flipped(image, chunk_at(image, (data.index(logs[0].content or b"") + 100_000) // 4096))
    write_ewf(tmp_path / "given" / "mesa.E01", [image])
    scan(tmp_path / "given", database, *STAGES)
    problems = {row["path"]: row["problem"] for row in rows(database, "evidence") if row["kind"] == "log"}
    assert problems == {
        "Windows/System32/winevt/Logs/System.evtx": "Parts of it are damaged in the disk image.",
        "Windows/System32/winevt/Logs/Security.evtx": None,
    }
    assert sentences(database, "mesa.E01")["taking.unknown"][1] == "a part of the log System could not be read"


def test_a_raw_image_that_was_cut_off(tmp_path: Path, database: str) -> None:
    """What stands of its logs is read, also of those that lie behind its end in part, and it says what is missing."""
    whole = mbr(windows_volume())
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "disk.dd").write_bytes(whole[: len(whole) // 3])
    scan(tmp_path / "given", database, *STAGES)
    assert rows(database, "failures") == []
    missing = (len(whole) - 64 * 512 - 512) // 4096 * 4096 - (len(whole) // 3 - 64 * 512) // 4096 * 4096
    (container,) = rows(database, "containers")
    assert container["problems"] == [f"p1 (NTFS): its last {missing:,} bytes are not in the image, which was cut off."]
    units = [row for row in rows(database, "evidence") if row["kind"] == "log"]
    logs = {row["path"].rpartition("/")[2]: (row["records"], row["problem"]) for row in units}
    assert logs["Packed.evtx"] == (80, None)
    assert logs["System.evtx"] == (0, "Parts of it are damaged in the disk image.")
    assert sentences(database, "disk.dd")["taking.unknown"][0] == "not recorded"


def test_logs_of_names_that_are_no_text() -> None:
    """Bytes that are escaped are a part of a name; a backslash of Windows is none."""
    assert [short_log(path) for path in ("a/sur\\xFF\\xFE.evtx", "C:\\x86\\System.evtx")] == ["sur\\xFF\\xFE", "System"]


@pytest.mark.parametrize("name", ["x.evtx", "x.E01", "x.zip"])
def test_an_empty_file_that_is_named(name: str, tmp_path: Path, database: str) -> None:
    """It is a failure that says so; in a folder, it is counted."""
    (tmp_path / name).write_bytes(b"")
    scan(tmp_path / name, database)
    assert [row["message"] for row in rows(database, "failures")] == ["This file is empty."]


def test_what_is_neither_a_file_nor_a_folder(tmp_path: Path, database: str) -> None:
    """A pipe or a device is refused, and never read."""
    os.mkfifo(tmp_path / "pipe.evtx")
    for name in (str(tmp_path / "pipe.evtx"), "/dev/zero"):
        done = fanfold("evidence", "scan", name, database)
        assert done.returncode == 2
        assert "is neither a file nor a folder. Of a device or a pipe, make a file; then name that." in done.stderr
