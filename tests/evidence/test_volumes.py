"""Volumes: each is searched or accounted for, whatever its file system is, and whatever is damaged of it."""

import random
import struct
from collections import Counter
from pathlib import Path

import pytest
from scans import STAGES, records, rows, scan
from test_disk_scan import GONE, LIVE, by_origin, record_of_file

from commands import fanfold as command
from disk_images import SECTOR, ewf, gpt, in_memory, mbr, windows_volume, write_ewf
from event_logs import events, log_bytes
from fanfold.evidence.disk.ntfs import FileSystem
from fanfold.evidence.disk.raw import Raw
from fat_volumes import Entry, exfat, fat16

SECURITY, SETUP = log_bytes(events(300)), log_bytes(events(40, "Setup"))
DAMAGED = "the start of its file table is damaged; the copy of it ($MFTMirr) was used"


def stick() -> list[Entry]:
    """Files of a stick: a log in a folder, a deleted one beside it, and a folder that is inside itself."""
    folder = Entry("Exported logs")
    circle = Entry("circle", same_as=folder)
    folder.below = [
        Entry("Security of the file server.evtx", SECURITY),
        Entry("an older copy of Setup.EVTX", SETUP, is_deleted=True),
        circle,
    ]
    return [folder, Entry("notes.txt", b"not a log"), Entry("Empty.evtx", b"")]


@pytest.mark.parametrize("make", [fat16, exfat])
def test_a_stick_has_its_logs(make: object, tmp_path: Path, database: str) -> None:
    """The logs of a FAT or exFAT volume are read, deleted ones too; a folder inside itself is looked into once."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(mbr(make(stick())))  # type: ignore[operator]
    scan(tmp_path / "given", database, *STAGES)
    assert records(database, "origin", "path") == {
        ("live", "Exported logs/Security of the file server.evtx"): 300,
        ("deleted", "Exported logs/an older copy of Setup.EVTX"): 40,
    }
    assert rows(database, "containers")[0]["problems"] == []


def test_a_folder_whose_clusters_are_lost(tmp_path: Path, database: str) -> None:
    """A folder that cannot be read is a problem; the logs in other folders are read."""
    volume = bytearray(exfat([*stick(), Entry("other", below=[Entry("Setup.evtx", SETUP)])]))
    entry = volume.index("other".encode("utf-16-le")) - 2 - 32
    struct.pack_into("<L", volume, entry + 20, 5000)  # which is free
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(mbr(bytes(volume)))
    scan(tmp_path / "given", database, *STAGES)
    assert records(database, "origin")[("live",)] == 300
    (problem,) = rows(database, "containers")[0]["problems"]
    assert problem.startswith("p1/other cannot be read: ")


def test_old_logs_and_what_is_no_log(tmp_path: Path, database: str) -> None:
    """Event logs of Windows XP are a problem that says what to do; a file that is only called a log is a failure."""
    config = Entry("config", below=[Entry("AppEvent.Evt", b"0\0\0\0LfLe"), Entry("SysEvent.Evt", b"0\0\0\0LfLe")])
    windows = Entry("WINNT", below=[Entry("System32", below=[config])])
    picture = Entry("picture.evtx", b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(mbr(fat16([windows, picture, *stick()])))
    scan(tmp_path / "given", database, ["live"])
    assert rows(database, "containers")[0]["problems"] == [
        "p1/WINNT/System32/config/AppEvent.Evt (and 1 more) is an event log of Windows XP or 2003 (.evt), which is not "
        "read. Copy it from the disk. Convert it with: wevtutil export-log FILE.evt FILE.evtx /lf; then scan that."
    ]
    (failure,) = rows(database, "failures")
    assert failure["key"] == "stick.dd/p1/picture.evtx#0-0"
    assert failure["message"] == "This is not an event log: it begins with 89 50 4e 47 0d 0a 1a 0a."


def to_go() -> bytes:
    """The first sectors of a stick that BitLocker To Go has encrypted: they are those of a small FAT."""
    volume = bytearray(fat16([Entry("COV 0000. ER", b"encrypted")]))
    volume[424:440] = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    return bytes(volume)


KINDS = {
    "efi": "28732ac11ff8d211ba4b00a0c93ec93b",
    "reserved": "16e3c9e35c0bb84d817df92df00215ae",
    "recovery": "a4bb94ded106404da16abfd50179d6ac",
    "dynamic": "a0609baf3114624fbc683311714a69ad",
    "space": "8faf5ce780f6ee4cafa3b001e56efc2d",
}


VOLUMES = [
    ("efi", bytes(1 << 16), ""),
    ("reserved", bytes(1 << 16), ""),
    ("recovery", bytes(1 << 16), ""),
    ("data", bytes(1 << 16), "p2 (0.0 GB) has no file system that is known. Logs in it are found by carving only."),
    ("data", b"\0\0\0ReFS\0\0\0\0" + bytes(1 << 16), "p2 (0.0 GB) has the file system ReFS, which cannot be read."),
    ("data", b"XFSB" + bytes(1 << 16), "p2 (0.0 GB) has the file system XFS, where Windows keeps no logs."),
    ("data", b"\0\0\0-FVE-FS-" + bytes(1 << 16), "p2 (0.0 GB) is encrypted by BitLocker. Unlock it with its key,"),
    (
        "data",
        to_go(),
        "p2 (0.0 GB) is encrypted by BitLocker. Unlock it with its key, and scan the unlocked volume.",
    ),
    ("data", b"LUKS\xba\xbe" + bytes(1 << 16), "p2 (0.0 GB) is encrypted by LUKS. Unlock it with its key,"),
    (
        "data",
        random.Random(1).randbytes(1 << 17),
        "p2 (0.0 GB) has no file system that is known, and begins with "
        "random bytes: it is encrypted, as by VeraCrypt, or was wiped. If you have its key, unlock it,",
    ),
    ("data", bytes(1080) + b"\x53\xef" + bytes(1 << 16), "p2 (0.0 GB) has the file system ext, where Windows"),
    (
        "data",
        bytes(32) + b"NXSB" + bytes(1 << 16),
        "p2 (0.0 GB) has the file system APFS, where Windows keeps no logs.",
    ),
    ("dynamic", bytes(1 << 16), "p2 (0.0 GB) is a part of a dynamic disk, whose volumes may lie on several disks."),
    ("space", bytes(1 << 16), "p2 (0.0 GB) is a part of a storage space"),
]
"""Second volumes of a disk: the type of the partition, its content, and how the problem begins that is told of it."""
TABLES = [bytes(4096), bytes([0x55]) * 1024, b"BAAD"]
"""What stands where a file table should begin."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of disks with these volumes, and of disks with these file tables."""
    folder = tmp_path_factory.mktemp("shelf")
    for number, (kind, volume, _) in enumerate(VOLUMES):
        disk = bytearray(gpt(windows_volume(), volume[: len(volume) // SECTOR * SECTOR]))
        if kind in KINDS:
            disk = with_kind(disk, KINDS[kind])
        write_ewf(folder / "given" / f"volume{number}.E01", ewf(bytes(disk)))
    for number, damage in enumerate(TABLES):
        volume = bytearray(windows_volume())
        table, _ = places_of_table(volume)
        volume[table : table + len(damage)] = damage
        write_ewf(folder / "given" / f"table{number}.E01", ewf(mbr(bytes(volume))))
    scan(folder / "given", str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.mark.parametrize("number", range(len(VOLUMES)))
def test_every_volume_is_accounted_for(number: int, shelf: str) -> None:
    """Where logs could be and cannot be read is a problem; where none are to be expected is not. The rest is read."""
    image, says = f"volume{number}.E01", VOLUMES[number][2]
    (container,) = [row for row in rows(shelf, "containers") if row["key"] == image]
    assert [one["name"] for one in container["volumes"]] == ["p1", "p2"]
    assert [problem.startswith(says) for problem in container["problems"]] == ([True] if says else [])
    assert by_origin(shelf, image) == LIVE | GONE


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_a_file_table_whose_start_is_damaged(number: int, shelf: str) -> None:
    """Its copy is used, and that is told."""
    image = f"table{number}.E01"
    assert by_origin(shelf, image) == LIVE | GONE
    (container,) = [row for row in rows(shelf, "containers") if row["key"] == image]
    assert container["problems"] == [f"p1 (NTFS): {DAMAGED}."]


def test_a_disk_of_random_bytes(tmp_path: Path, database: str) -> None:
    """A disk that is encrypted as a whole is named, though nothing on it says so."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "disk.dd").write_bytes(random.Random(1).randbytes(2 << 20))
    scan(tmp_path / "given", database, *STAGES)
    (problem,) = rows(database, "containers")[0]["problems"]
    assert problem.startswith(
        "It has no partition table that can be read, and no file system that is known, and begins with random bytes:"
    )


def with_kind(disk: bytearray, kind: str) -> bytearray:
    """A disk whose second partition is of another type, with checksums that fit."""
    from zlib import crc32

    for head in (SECTOR, len(disk) - SECTOR):
        (entries,) = struct.unpack_from("<Q", disk, head + 72)
        at = entries * SECTOR
        disk[at + 128 : at + 144] = bytes.fromhex(kind)
        struct.pack_into("<L", disk, head + 88, crc32(disk[at : at + 128 * 128]))
        struct.pack_into("<L", disk, head + 16, 0)
        struct.pack_into("<L", disk, head + 16, crc32(disk[head : head + 92]))
    return disk


def test_a_dynamic_disk_with_a_volume_of_one_piece(tmp_path: Path, database: str) -> None:
    """The first volume of a dynamic disk is often a plain one. It is read, and that there may be more is told."""
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(windows_volume(), kind=0x42)))
    scan(tmp_path / "given", database, *STAGES)
    assert by_origin(database) == LIVE | GONE
    assert "is a part of a dynamic disk" in rows(database, "containers")[0]["problems"][0]


def places_of_table(volume: bytes) -> tuple[int, int]:
    """Where the file table of a volume begins, and its copy."""
    sector, clusters = struct.unpack_from("<HB", volume, 11)
    table, mirror = struct.unpack_from("<QQ", volume, 48)
    return table * sector * clusters, mirror * sector * clusters


def test_a_file_table_without_a_copy(tmp_path: Path) -> None:
    """If the start of the file table and its copy are damaged, logs are carved; that is told, with the exit code 3."""
    volume = bytearray(windows_volume())
    for place in places_of_table(volume):
        volume[place : place + 4096] = bytes(4096)
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(bytes(volume))))
    done = command("evidence", "scan", tmp_path / "given", tmp_path / "db")
    assert done.returncode == 3
    assert "mesa.E01: p1 (NTFS) cannot be read to its end: " in done.stderr
    assert "Logs in the rest of it are found by carving only." in done.stderr
    found = by_origin(str(tmp_path / "db"))
    assert {origin for origin, _ in found} == {"carved"}
    assert sum(found.values()) > 300


def content_of(volume: bytes, name: str) -> int:
    """Where the attribute with the content of a file begins in a volume."""
    at = record = record_of_file(volume, name)
    at += int.from_bytes(volume[record + 20 : record + 22], "little")
    while int.from_bytes(volume[at : at + 4], "little") != 0x80:
        at += int.from_bytes(volume[at + 4 : at + 8], "little")
    return at


@pytest.mark.parametrize("size", [1 << 60, 1 << 40])
def test_a_log_that_claims_to_be_larger_than_the_disk(size: int, tmp_path: Path, database: str) -> None:
    """What the disk has of it is read, whatever it claims; the other logs are read as well."""
    volume = bytearray(windows_volume())
    struct.pack_into("<QQQ", volume, content_of(volume, "Security.evtx") + 40, size, size, size)
    (tmp_path / "given").mkdir()
    with (tmp_path / "given" / "mesa.raw").open("wb") as file:
        file.write(mbr(bytes(volume)))
        file.truncate(40 << 30)
    scan(tmp_path / "given", database, *STAGES)
    units = [row["unit"] for row in rows(database, "containers_contents") if "Security.evtx" in row["unit"]]
    assert len(units) <= 1
    found = by_origin(database)
    assert sum(count for (_, name), count in found.items() if name in ("Security", None)) == 300
    assert {key: found[key] for key in found if key[1] not in ("Security", None)} == {
        key: count for key, count in (LIVE | GONE).items() if key[1] != "Security"
    }


def test_folders_that_are_above_each_other() -> None:
    """A circle of folders in the file table ends, and the logs below it are listed."""
    volume = bytearray(windows_volume())
    folder = record_of_file(volume, "pieces")
    number = (folder - places_of_table(volume)[0]) // 1024
    at = volume.index("pieces".encode("utf-16-le"), folder) - 66
    use = int.from_bytes(volume[folder + 16 : folder + 18], "little")
    struct.pack_into("<Q", volume, at, use << 48 | number)
    paths = Counter(
        log if isinstance(log, str) else log.path.rpartition("/")[2]
        for log in FileSystem(Raw([in_memory("a.raw", bytes(volume))]), 0).logs()
    )
    assert paths["Pieces.evtx"] == 1


def test_an_attribute_list_that_names_itself(tmp_path: Path, database: str) -> None:
    """A record whose list of attributes leads back to itself ends in a problem or a log, not in a circle."""
    volume = bytearray(windows_volume())
    record = record_of_file(volume, "Security.evtx")
    number = (record - places_of_table(volume)[0]) // 1024
    use = int.from_bytes(volume[record + 16 : record + 18], "little")
    at = record + int.from_bytes(volume[record + 20 : record + 22], "little")
    entry = struct.pack("<LHBBQQH6x", 0x80, 32, 0, 26, 0, use << 48 | number, 0) * 4
    listed = struct.pack("<LLBBHHHLHxx", 0x20, 24 + len(entry), 0, 0, 24, 0, 9, len(entry), 24) + entry
    end = record + int.from_bytes(volume[record + 24 : record + 28], "little")
    rest = bytes(volume[at:end])
    assert len(rest) + len(listed) < 1024 - (at - record)
    volume[at : at + len(listed) + len(rest)] = listed + rest
    struct.pack_into("<L", volume, record + 24, end + len(listed) - record)
    for sector in (510, 1022):  # the last two bytes of each sector are kept at the start of the record
        kept = record + int.from_bytes(volume[record + 4 : record + 6], "little")
        volume[kept + 2 + (sector // 512) * 2 : kept + 4 + (sector // 512) * 2] = volume[
            record + sector : record + sector + 2
        ]
        volume[record + sector : record + sector + 2] = volume[kept : kept + 2]
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(bytes(volume))))
    scan(tmp_path / "given", database, *STAGES)
    found = by_origin(database)
    assert sum(count for (_, name), count in found.items() if name in ("Security", None)) == 300


def test_files_whose_content_is_elsewhere(tmp_path: Path, database: str) -> None:
    """What CompactOS, Data Deduplication or EFS keeps is a problem with its reason, and not a log without records."""
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(windows_volume("unread"))))
    scan(tmp_path / "given", database, *STAGES)
    assert by_origin(database) == {("live", "Setup"): 40}
    below = "p1/Windows/System32"
    reasons = {
        f"{below}/winevt/Logs/Packed.evtx": "is compressed by CompactOS",
        f"{below}/winevt/Logs/Deduplicated.evtx": "is kept by Data Deduplication",
        f"{below}/winevt/Logs/Secret.evtx": "is encrypted by Windows (EFS)",
        f"{below}/config/SYSTEM": "is compressed by CompactOS",
    }
    problems = rows(database, "containers")[0]["problems"]
    assert sorted(problem.partition(",")[0] for problem in problems) == sorted(
        f"{path} {reason}" for path, reason in reasons.items()
    )
    assert rows(database, "failures") == []
    assert {row["path"].rpartition("/")[2] for row in rows(database, "evidence") if row["path"]} == {"Setup.evtx"}
