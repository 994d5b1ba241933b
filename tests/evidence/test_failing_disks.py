"""Evidence on a disk that fails: what it cannot give is named, and the rest is read."""

import errno
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mesa
import pytest
from scans import STAGES, records, rows, scan
from traces import OS

from disk_images import SECTOR, chunk_at, ewf, flipped, in_memory, mbr, windows_volume, write_ewf
from event_logs import CHUNK, FILE_HEADER, events, log_bytes, write_log
from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.report.report import made
from fanfold.evidence.units import Units
from fanfold.job import Item
from fat_volumes import Entry, exfat
from prefetch import packed, prefetch
from registry import filetime, hive, log_of

DAMAGED = "Parts of it are damaged in the disk image."
UNREADABLE_LOG = (
    "Its transaction log: Parts of it are on sectors that cannot be read. Copy it again, or scan an image of its disk."
)
UNREADABLE = "Parts of it are on sectors that cannot be read."


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


@pytest.mark.parametrize("section", ["sectors", "table", "table2", "digest", "done"])
def test_what_says_where_chunks_lie_cannot_be_read(section: str) -> None:
    """If the head of a section or a table is lost, what other tables name is read, and the rest is named."""
    data = mbr(windows_volume())
    (segment,) = ewf(data, per_table=8)
    places = [start for name, start in segment.sections if name == section]
    medium = Ewf.open([failing(in_memory("mesa.E01", bytes(segment.data)), places[len(places) // 2])])
    read = b"".join(medium.read_at(offset, 1 << 20) for offset in range(0, len(data), 1 << 20))
    lost = {sector for damage in medium.damage for sector in range(damage.first_sector, sum(damage[:2]))}
    assert len(lost) <= 2 * 8 * 64
    for number in {*range(len(data) // SECTOR)} - lost:
        assert read[number * SECTOR : (number + 1) * SECTOR] == data[number * SECTOR : (number + 1) * SECTOR]


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


FILLER = {f"{name} filler\\{number:04}": {"text": "x" * 200} for name in "AD" for number in range(100)}
HIVE = {
    "Select": {"Current": 1},
    "ControlSet001\\Control\\ComputerName\\ComputerName": {"ComputerName": "EMSSERVER"},
    "ControlSet001\\Control\\Windows": {"ShutdownTime": filetime(mesa.at("10:00:00", 19))},
    **FILLER,  # keys are written in the order of their names
    "MountedDevices": {"\\DosDevices\\G:": "_??_USBSTOR#Disk#4C530001&0#".encode("utf-16-le")},
}


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Makes a sector of a file unreadable, wherever it is read from."""
    broken: dict[str, list[int]] = {}
    pread = os.pread

    def failing(file: int, length: int, offset: int) -> bytes:
        places = broken.get(str(Path(f"/proc/self/fd/{file}").readlink()), [])
        if any(offset < at + SECTOR and at < offset + length for at in places):
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    return lambda path, at: broken.setdefault(str(path), []).append(at // SECTOR * SECTOR)


def facts_in(database: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The facts of a database, by kind and name."""
    return {(row["kind"], row["name"]): row for row in rows(database, "evidence_facts")}


def test_a_hive_with_a_sector_that_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """What the rest of the hive says is there, each fact with the problem; a value that is cut is left out."""
    data = hive(HIVE)
    (tmp_path / "host").mkdir()
    file = tmp_path / "host" / "SYSTEM"
    file.write_bytes(data)
    fails(file, data.index("EMSSERVER".encode("utf-16-le")))
    scan(tmp_path / "host", database)
    found = facts_in(database)
    assert set(found) == {("letter", "G:")}  # the last shutdown lay beside the name, in the same 4 KiB
    assert all(row["problem"].startswith(UNREADABLE) for row in found.values())
    (unit,) = rows(database, "evidence")
    assert unit["problem"].startswith(UNREADABLE)
    report = made(database, "host")
    assert f"READ IN PART: SYSTEM: {unit['problem']}" in report.sources
    assert rows(database, "failures") == []


@pytest.mark.parametrize("at", [0, 1024])
def test_a_hive_whose_head_cannot_be_read(at: int, tmp_path: Path, database: str, fails: Any) -> None:
    """The first cell is then taken for the root, and whether its latest changes are in it is not known."""
    (tmp_path / "host").mkdir()
    file = tmp_path / "host" / "SYSTEM"
    file.write_bytes(hive(HIVE))
    fails(file, at)
    scan(tmp_path / "host", database)
    found = facts_in(database)
    assert {("name", "EMSSERVER"), ("shutdown", "last"), ("letter", "G:")} <= set(found)
    assert all(row["problem"] and '"not replayed"' in row["value"] for row in found.values())


def test_a_transaction_log_with_a_sector_that_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """Its entries are not applied, and the problem says why; what is in the hive is there."""
    before, after = hive(HIVE, dirty=True), hive({**HIVE, "Newer": {"Name": "later"}}, dirty=True)
    file = tmp_path / "host" / "SYSTEM.LOG1"
    file.parent.mkdir()
    file.with_name("SYSTEM").write_bytes(before)
    file.write_bytes(log_of([before, after]))
    fails(file, 600)
    scan(tmp_path / "host", database)
    found = facts_in(database)
    assert ("name", "EMSSERVER") in found
    assert all(row["problem"] == UNREADABLE_LOG and '"not replayed"' in row["value"] for row in found.values())


def test_sentences_on_a_damaged_hive(tmp_path: Path, database: str, fails: Any) -> None:
    """What rests on a file that was read in part is `likely`, and nothing is said of what it lacks."""
    data = hive(HIVE)
    (tmp_path / "host").mkdir()
    file = tmp_path / "host" / "SYSTEM"
    file.write_bytes(data)
    fails(file, len(data) // 4)  # among what no sentence rests on
    scan(tmp_path / "host", database)
    found = {finding.id: finding for finding in made(database, "host").findings}
    assert found["machine.name_registry"].status == "likely"
    assert "parts of the file could not be read" in found["machine.name_registry"].reason
    assert "the registry knows none" not in found["usb.none"].reason


def test_a_text_with_a_sector_that_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """A line of which a part is lost is left out; the others are there."""
    lines = [f"C:\\tools\\{number:04}.exe|2021-05-23 22:00:00.000" for number in range(400)]
    (tmp_path / "host").mkdir()
    file = tmp_path / "host" / "PcaAppLaunchDic.txt"
    file.write_text("\r\n".join(lines))
    fails(file, 9000)
    scan(tmp_path / "host", database)
    found = facts_in(database)
    assert 280 < len(found) < 320
    assert {("program", line.partition("|")[0]) for line in lines} > set(found)
    assert all(row["problem"] for row in found.values())


def test_prefetch_with_a_sector_that_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """A file that cannot be made sense of any more is a failure, which says that it is the disk."""
    file = tmp_path / "host" / "NOTEPAD.EXE-07476F82.pf"
    file.parent.mkdir()
    file.write_bytes(prefetch("NOTEPAD.EXE", [mesa.at("10:00:00")], [OS]))
    fails(file, 0)
    scan(tmp_path / "host", database)
    (failure,) = rows(database, "failures")
    assert UNREADABLE in failure["message"]


def test_prefetch_with_a_sector_behind_its_beginning_that_cannot_be_read(
    tmp_path: Path, database: str, fails: Any
) -> None:
    """The program and its runs are known; the unit and the fact say that this is a part."""
    file = tmp_path / "host" / "NOTEPAD.EXE-07476F82.pf"
    file.parent.mkdir()
    many = OS._replace(files=[*OS.files, *(f"\\WINDOWS\\{number}.DLL" for number in range(200))])
    file.write_bytes(packed(prefetch("NOTEPAD.EXE", [mesa.at("10:00:00")], [many])))
    fails(file, 5000)
    scan(tmp_path / "host", database)
    (fact,) = rows(database, "evidence_facts")
    assert (fact["name"], json.loads(fact["value"])["count"]) == ("NOTEPAD.EXE", 1)
    (unit,) = rows(database, "evidence")
    assert unit["problem"] == fact["problem"]
    assert UNREADABLE in unit["problem"]
    assert "Only the beginning of this file of Prefetch is whole" in unit["problem"]


def zip_with_a_bad_sector(folder: Path, fails: Any, kind: int) -> bytes:
    """A zip archive with a log and a hive; the log has a sector in its middle that cannot be read."""
    log = log_bytes(events(3000))
    folder.mkdir()
    with zipfile.ZipFile(folder / "kape.zip", "w", kind) as archive:
        archive.writestr("C/Windows/System32/config/SYSTEM", hive(HIVE))
        archive.writestr("C/Windows/System32/winevt/Logs/Security.evtx", log)
        archive.writestr("C/Windows/System32/winevt/Logs/System.evtx", log_bytes(events(40, "System")))
        member = archive.infolist()[1]
    fails(folder / "kape.zip", member.header_offset + member.compress_size // 2)
    return log


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_a_sector_that_cannot_be_read(kind: int, tmp_path: Path, database: str, fails: Any) -> None:
    """The other files are read; of the one that it lies in, what stands, and that is a problem."""
    zip_with_a_bad_sector(tmp_path / "zips", fails, kind)
    scan(tmp_path / "zips", database)
    units = {row["path"].rpartition("/")[2]: row for row in rows(database, "evidence")}
    assert (units["SYSTEM"]["problem"], units["System.evtx"]["problem"]) == (None, None)
    assert UNREADABLE in units["Security.evtx"]["problem"]
    least, most = (2980, 3000) if kind == zipfile.ZIP_STORED else (1000, 2500)
    assert least < units["Security.evtx"]["records"] < most
    assert set(records(database, "path", "record_id").values()) == {1}
    assert units["System.evtx"]["records"] == 40
    assert rows(database, "failures") == []


def test_a_hive_in_a_zip_with_a_sector_that_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """A value that is cut by it is left out."""
    (tmp_path / "zips").mkdir()
    file = tmp_path / "zips" / "kape.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("notes.txt", bytes(5000))
        archive.writestr("C/Windows/System32/config/SYSTEM", hive(HIVE))
    fails(file, file.read_bytes().index("EMSSERVER".encode("utf-16-le")))
    scan(tmp_path / "zips", database)
    found = facts_in(database)
    assert ("letter", "G:") in found
    assert not any(kind == "name" for kind, _ in found)
    assert all(UNREADABLE in row["problem"] for row in found.values())


def test_a_zip_whose_list_of_files_cannot_be_read(tmp_path: Path, database: str, fails: Any) -> None:
    """Its files are found by their own headers, and that is a problem."""
    (tmp_path / "zips").mkdir()
    file = tmp_path / "zips" / "kape.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("System.evtx", log_bytes(events(40, "System")))
    fails(file, file.stat().st_size - 30)
    scan(tmp_path / "zips", database)
    assert (records(database, "path"), rows(database, "failures")) == ({("System.evtx",): 40}, [])
    (container,) = rows(database, "containers")
    assert container["problems"][-1].startswith(UNREADABLE)


@pytest.mark.parametrize(("name", "at"), [("mesa.dd", 0), ("mesa.dd", 700), ("Security.evtx", 0), ("kape.zip", 0)])
def test_the_first_sector_cannot_be_read(name: str, at: int, tmp_path: Path, database: str, fails: Any) -> None:
    """What a file is, its name tells then; what stands of it is read."""
    file = tmp_path / "given" / name
    file.parent.mkdir()
    if name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("notes.txt", bytes(5000))
            archive.writestr("Security.evtx", log_bytes(events(300)))
    else:
        file.write_bytes(log_bytes(events(300)) if name.endswith(".evtx") else mbr(windows_volume()))
    fails(file, at)
    scan(tmp_path / "given", database, *STAGES)
    assert sum(records(database).values()) >= 300
    assert rows(database, "failures") == []


def test_a_hive_on_a_damaged_chunk(tmp_path: Path, database: str) -> None:
    """Facts of a hive that lies partly in a damaged chunk of an image have a problem; those of others have none."""
    text = Entry("PcaAppLaunchDic.txt", b"C:\\tools\\dumpit.exe|2021-05-23 22:00:00.000")
    below = [Entry("System32", below=[Entry("config", below=[Entry("SYSTEM", hive(HIVE))])]),
             Entry("appcompat", below=[Entry("pca", below=[text])])]  # fmt: skip
    data = mbr(exfat([Entry("Windows", below=below)]))
    (image,) = ewf(data, chunk=4096, per_table=1 << 20)
    flipped(image, chunk_at(image, data.index("EMSSERVER".encode("utf-16-le")) // 4096))
    write_ewf(tmp_path / "given" / "mesa.E01", [image])
    scan(tmp_path / "given", database, *STAGES)
    problems = {key: row["problem"] for key, row in facts_in(database).items()}
    assert ("name", "EMSSERVER") not in problems
    assert problems["letter", "G:"] == DAMAGED
    assert problems["program", "C:\\tools\\dumpit.exe"] is None
    units = {row["path"]: row["problem"] for row in rows(database, "evidence") if row["kind"] == "facts"}
    assert set(units.values()) == {DAMAGED, None}
