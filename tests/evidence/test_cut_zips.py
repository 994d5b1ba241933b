"""Zip archives without the list of their files, which stands at the end: copies that were cut off."""

import random
import shutil
import struct
import subprocess
import zipfile
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

import pytest
from scans import records, rows, scan

from event_logs import events, log_bytes
from fanfold.evidence import archive, local_headers
from fanfold.evidence.archive import Archive
from fanfold.evidence.disk.medium import SegmentFile, Unreadable
from fanfold.evidence.files import DAMAGED
from fanfold.evidence.local_headers import made_up

NO_LIST = "The list of files in this archive is missing or damaged, so each file was found by the header before it."
SECURITY, SYSTEM = "C/Windows/System32/winevt/Logs/Security.evtx", "C/Windows/System32/winevt/Logs/System.evtx"


class Pipe(RawIOBase):
    """Something to write to that cannot seek, so that sizes stand behind each file."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Add some bytes."""
        self.written += data
        return len(data)


def packed(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED, *, streamed: bool, zip64: bool = False) -> bytes:
    """An archive of some files."""
    out: Any = Pipe() if streamed else BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.mkdir("C/Windows")
        for name, content in files.items():
            with archive.open(zipfile.ZipInfo(name) if zip64 and kind == zipfile.ZIP_STORED else name, "w",
                              force_zip64=zip64) as file:  # fmt: skip
                file.write(content)
    return bytes(out.written if streamed else out.getvalue())


def by_zip(files: dict[str, bytes], folder: Path, *options: str) -> bytes:
    """The same by Info-ZIP, written to a pipe."""
    program = shutil.which("zip")
    if not program:
        pytest.skip("needs: apt-get install zip")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    done = subprocess.run([program, "-q", "-r", *options, "-", *files], cwd=folder, capture_output=True, check=True)
    return done.stdout


def opened(data: bytes) -> Archive:
    """An archive of these bytes."""
    return Archive(SegmentFile("x.zip", len(data), lambda offset, length: data[offset : offset + length]))


def read(archive: Archive, number: int) -> tuple[bytes, str]:
    """What is in a member, and what is wrong with it."""
    parts = []
    try:
        parts.extend(archive.unpacked(number))
    except DAMAGED as error:
        return b"".join(parts), str(error)
    return b"".join(parts), ""


def files() -> dict[str, bytes]:
    """A text, an archive within the archive, a file without content, and bytes that cannot be packed."""
    noise = random.Random(1)
    inner = packed({"a.evtx": noise.randbytes(300), "b": b"b"}, streamed=True)
    return {"notes.txt": b"text " * 200, "inner.zip": inner, "empty": b"", "noise": noise.randbytes(700)}


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("zip64", [False, True])
def test_wherever_an_archive_is_cut(kind: int, streamed: bool, zip64: bool) -> None:
    """Files before the cut are whole; of the one that is cut, what is read is its beginning, and that is said."""
    given = files()
    data = packed(given, kind, streamed=streamed, zip64=zip64)
    with zipfile.ZipFile(BytesIO(data)) as whole:
        starts = [one.header_offset for one in whole.infolist()] + [whole.start_dir]
    for stop in [*range(40, len(data), 23), *starts]:
        if stop < starts[1]:
            continue
        archive = opened(data[:stop])
        assert archive.made_up
        names = [name for name in archive.namelist() if name in given]
        assert names == [*given][: len(names)]
        assert len(names) >= sum(start <= stop for start in starts[2:]), stop
        for number, name in enumerate(names, 1):
            content, wrong = read(archive, number)
            if starts[number + 1] <= stop:
                assert (content, wrong) == (given[name], ""), (stop, name)
            else:
                assert given[name].startswith(content[: len(given[name])])  # its checksum may stand behind it
                assert (content == given[name]) or "is cut off" in wrong, (stop, name, wrong)


@pytest.mark.parametrize("options", [[], ["-0"], ["-fz"], ["-0", "-fz"], ["-fz-"]])
def test_archives_of_info_zip(options: list[str], tmp_path: Path) -> None:
    """Those that `zip` has written to a pipe, without their lists."""
    given = files()
    data = by_zip(given, tmp_path, *options)
    archive = opened(data[: data.rindex(b"PK\x01\x02") - 100])
    assert archive.made_up
    content = {name: read(archive, number) for number, name in enumerate(archive.namelist())}
    assert content == {name: (text, "") for name, text in given.items()}


@pytest.fixture
def zips(tmp_path: Path) -> Path:
    """A folder for an archive."""
    (tmp_path / "zips").mkdir()
    return tmp_path / "zips"


def test_a_collection_whose_copy_was_cut_off(zips: Path, database: str) -> None:
    """Each log is a unit of its own, up to where it is cut; what is missing is a problem."""
    logs = {SECURITY: log_bytes(events(900)), SYSTEM: log_bytes(events(900, "System"))}
    data = packed({**logs, "C/late.evtx": log_bytes(events(3))}, streamed=True)
    cut = data.index(SYSTEM.encode()) + 20_000
    (zips / "kape.zip").write_bytes(data[:cut])
    listing, reading = scan(zips, database)
    assert (listing.failed, reading.ok, reading.failed) == (0, 2, 0)
    (container,) = rows(database, "containers")
    begin = data.index(SYSTEM.encode()) + len(SYSTEM)
    assert container["problems"] == [
        f"{NO_LIST} It is cut off within {SYSTEM}: the first {cut - begin:,} bytes of that, as packed, are there. "
        f"Files that came after {SYSTEM} are missing, if there were any."
    ]
    units = {row["path"].rpartition("/")[2]: row for row in rows(database, "evidence")}
    assert (units["Security.evtx"]["records"], units["Security.evtx"]["problem"]) == (900, None)
    assert 100 < units["System.evtx"]["records"] < 900
    assert units["System.evtx"]["problem"] == f"The archive is damaged: '{SYSTEM}' is cut off."
    assert set(records(database).values()) == {1}


def test_how_much_is_missing(zips: Path, database: str) -> None:
    """Where the sizes stand before a file, the problem says how much of it is missing."""
    data = packed({SECURITY: log_bytes(events(900))}, zipfile.ZIP_STORED, streamed=False)
    begin = data.index(b"ElfFile\0")
    (zips / "kape.zip").write_bytes(data[: begin + 100_000])
    scan(zips, database)
    size = len(log_bytes(events(900)))
    (container,) = rows(database, "containers")
    assert f"the first 100,000 bytes of that, as packed, are there, and {size - 100_000:,} are missing." in " ".join(
        container["problems"]
    )
    assert 50 < sum(records(database).values()) < 900


def test_only_the_list_is_damaged(zips: Path, database: str) -> None:
    """All files were before it, so none is said to be missing."""
    data = packed({SECURITY: log_bytes(events(30))}, streamed=True)
    (zips / "kape.zip").write_bytes(data[: data.index(b"PK\x01\x02") + 70])
    scan(zips, database)
    (container,) = rows(database, "containers")
    assert container["problems"] == [NO_LIST]
    assert sum(records(database).values()) == 30


def test_a_list_that_is_of_an_archive_within(zips: Path, database: str) -> None:
    """An archive that was cut off behind another one in it is not taken for that one."""
    inner = packed({"other.evtx": log_bytes(events(5))}, streamed=True)
    data = packed({SECURITY: log_bytes(events(30)), "inner.zip": inner}, zipfile.ZIP_STORED, streamed=False)
    (zips / "kape.zip").write_bytes(data[: data.index(inner) + len(inner)])
    scan(zips, database)
    assert records(database, "path") == {("C:/Windows/System32/winevt/Logs/Security.evtx",): 30}
    (container,) = rows(database, "containers")
    assert container["problems"][0].startswith(NO_LIST)


def test_a_header_that_is_damaged(zips: Path, database: str) -> None:
    """Its file is skipped, and the bytes are counted."""
    data = bytearray(packed({SECURITY: log_bytes(events(30)), SYSTEM: log_bytes(events(20, "System"))}, streamed=False))
    begin, end = data.index(SECURITY.encode()) - 30, data.index(SYSTEM.encode()) - 30
    data[begin : begin + 4] = bytes(4)
    (zips / "kape.zip").write_bytes(data[: data.index(b"PK\x01\x02") + 20])
    scan(zips, database)
    assert records(database, "path") == {("C:/Windows/System32/winevt/Logs/System.evtx",): 20}
    (container,) = rows(database, "containers")
    skipped = f"{end - begin:,} bytes belong to no file that can be recognized, and were not read."
    assert container["problems"][0].startswith(f"{NO_LIST} {skipped}")


@pytest.mark.parametrize("streamed", [False, True])
def test_bombs_and_paths(streamed: bool, zips: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are handled as in whole archives: paths lead nowhere else, and bombs are left."""
    monkeypatch.setattr("fanfold.evidence.kinds._INFLATED", 3 << 20)
    monkeypatch.setattr("fanfold.evidence.local_headers._MOST", 4 << 20)
    given = {"../../etc/x.evtx": log_bytes(events(4)), "bomb.evtx": bytes(6 << 20)}
    data = packed(given, streamed=streamed)
    (zips / "a.zip").write_bytes(data[: data.index(b"PK\x01\x02") - 30])
    scan(zips, database)
    assert [row["key"] for row in rows(database, "evidence")] == ["a.zip/etc/x.evtx#0-1"]
    (container,) = rows(database, "containers")
    assert "bomb.evtx was not read: " in container["problems"][-1]


def test_a_size_that_is_too_small() -> None:
    """No more is unpacked than a header claims."""
    data = bytearray(packed({"x.evtx": bytes(5 << 20)}, streamed=False))
    at = data.index(b"x.evtx") - 30
    data[at + 22 : at + 26] = (1000).to_bytes(4, "little")
    archive = opened(bytes(data[: data.index(b"PK\x01\x02") - 10]))
    content, wrong = read(archive, 1)
    assert (len(content), bool(wrong)) == (1000, True)


def relisted(data: bytes, size: int, more: bytes = b"") -> bytes:
    """An archive of one file whose list says that it has so many bytes; `more` is behind it, as a part of it."""
    at = data.index(b"PK\x01\x02")
    changed = bytearray(data[:at] + more + data[at:])
    struct.pack_into("<L", changed, len(changed) - 6, at + len(more))
    at = changed.rindex(b"PK\x01\x02")  # the first one is a folder
    packed_size = int.from_bytes(changed[at + 20 : at + 24], "little") + len(more)
    struct.pack_into("<LL", changed, at + 20, packed_size, size)
    return bytes(changed)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_sizes_that_are_not_so(kind: int) -> None:
    """A file that has fewer bytes than the list says is told, and what stands behind its end is no part of it."""
    data = packed({"a.evtx": b"text" * 100}, kind, streamed=False)
    assert read(opened(data), 1) == (b"text" * 100, "")
    assert read(opened(relisted(data, 401)), 1) == (b"text" * 100, "'a.evtx' has 400 bytes, and 401 by the list")
    assert read(opened(relisted(data, 3)), 1) == (b"tex", "'a.evtx' is not what its checksum says")
    assert read(opened(relisted(data, 400, bytes(5000))), 1) == (b"text" * 100, "")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_claims_to_be_small(kind: int) -> None:
    """It is given in parts that are not large, and up to the size that it claims."""
    data = packed({"a.evtx": bytes(40 << 20)}, kind, streamed=False)
    parts = []
    with pytest.raises(zipfile.BadZipFile, match="checksum"):
        parts.extend(map(len, opened(relisted(data, 17 << 20)).unpacked(1)))
    assert (sum(parts), max(parts) <= 16 << 20) == (17 << 20, True)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_what_is_packed_otherwise(kind: int, zips: Path, database: str) -> None:
    """It costs the rest of its file, and no other."""
    noise = events(60, "System")
    data = bytearray(packed({SECURITY: log_bytes(events(100)), SYSTEM: log_bytes(noise)}, kind, streamed=False))
    data[900:950] = bytes(range(50))
    (zips / "case.zip").write_bytes(data)
    reports = scan(zips, database)
    assert [report.failed for report in reports] == [0, 0]
    problems = {row["path"].rpartition("/")[2]: row["problem"] for row in rows(database, "evidence")}
    assert str(problems["Security.evtx"]).startswith("The archive is damaged: It cannot be unpacked: ")
    assert problems["System.evtx"] is None
    assert records(database, "path", where="channel = 'System'").total() == 60


def test_a_damaged_size_in_the_list(zips: Path, database: str) -> None:
    """It costs nothing: where a file ends, its content tells; and no other file is taken for a part of a bomb."""
    data = packed({SECURITY: log_bytes(events(100)), SYSTEM: log_bytes(events(60, "System"))}, streamed=False)
    at = data.rindex(b"PK\x01\x02") + 23
    (zips / "case.zip").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    scan(zips, database)
    assert records(database, "path") == {("C:/" + SECURITY[2:],): 100, ("C:/" + SYSTEM[2:],): 60}


def test_a_way_of_packing_that_is_not_known(zips: Path, database: str) -> None:
    """Windows packs files beyond 2 GiB in one (Deflate64). That a log was not read is a problem."""
    data = packed({SECURITY: log_bytes(events(1)), SYSTEM: log_bytes(events(2, "System"))}, streamed=False)
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # behind a folder
    (zips / "case.zip").write_bytes(data[: at + 10] + b"\x09" + data[at + 11 :])
    scan(zips, database)
    (row,) = rows(database, "containers")
    assert row["problems"] == [
        f"{SECURITY} is packed in a way that is not known here. Unpack the archive, and scan the folder."
    ]
    assert [unit["records"] for unit in rows(database, "evidence")] == [2]


def test_very_many_files_whose_sizes_are_not_there() -> None:
    """They take a few reads each: their sizes are not looked for in all of the archive again and again."""
    count, asked = 300, []
    one = packed({"a.evtx": b"text"}, streamed=True)
    one = one[one.index(b"PK\x03\x04", 4) : one.index(b"PK\x07\x08", 40)]  # what is behind the folder
    data = one * count

    def reading(offset: int, length: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + length]

    made = made_up(reading, len(data))
    assert made is not None
    assert made.content.count(b"PK\x01\x02") == count
    assert len(asked) < 50 * count


def test_more_files_than_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of millions of files that has lost its list is refused, with what to do."""
    monkeypatch.setattr(local_headers, "_MOST_FILES", 10)
    data = packed({f"{number}.evtx": b"" for number in range(20)}, streamed=False)
    with pytest.raises(Unreadable, match=r"of which it has more than 10. Unpack it, and scan the folder."):
        opened(data[: data.index(b"PK\x01\x02")])


def test_what_only_begins_like_an_archive(zips: Path, database: str) -> None:
    """A file without any header of a file remains a failure."""
    (zips / "x.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    scan(zips, database)
    assert [row["message"] for row in rows(database, "failures")] == [
        "No file in this zip archive can be recognized (File is not a zip file): it is damaged, or something else. "
        "Copy it again from where it was made."
    ]


def test_a_list_that_claims_to_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read as a whole: the files are found by their headers."""
    monkeypatch.setattr(archive, "_LONGEST_LIST", 4000)
    data = packed({"noise": random.Random(1).randbytes(6000), "a.evtx": b"text"}, streamed=False)
    found = opened(data[:-10] + (5000).to_bytes(4, "little") + data[-6:])
    assert found.made_up is not None
    assert read(found, 2) == (b"text", "")


def test_a_name_that_is_no_text(zips: Path, database: str) -> None:
    """It costs no other file, and not its own content either."""
    data = packed(
        {"C/Syst\u00e9m.evtx": log_bytes(events(20, "System")), SECURITY: log_bytes(events(30))}, streamed=False
    )
    (zips / "kape.zip").write_bytes(data.replace("\u00e9".encode(), b"\xff\xfe"))
    scan(zips, database)
    assert sorted(records(database, "path").values()) == [20, 30]
    assert rows(database, "failures") == []


def test_only_some_files_are_encrypted(zips: Path, database: str) -> None:
    """They are problems; the others are read."""
    locked = (SYSTEM, "Setup.evtx")
    files = {**{name: log_bytes(events(20, "System")) for name in locked}, SECURITY: log_bytes(events(30))}
    data = bytearray(packed(files, streamed=False))
    for name in locked:
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(name.encode(), data.index(signature)) - (30 if at == 6 else 46) + at] |= 1
    (zips / "kape.zip").write_bytes(data)
    scan(zips, database)
    assert list(records(database, "path").values()) == [30]
    (container,) = rows(database, "containers")
    assert container["problems"] == [
        f"{SYSTEM} (and 1 more) is encrypted. Unpack the archive with its password, and scan the folder."
    ]


def test_an_archive_in_several_files(zips: Path, database: str) -> None:
    """Each of them is a failure that says how to join them."""
    program = shutil.which("zip")
    if not program:
        pytest.skip("needs: apt-get install zip")
    (zips.parent / "x.evtx").write_bytes(random.Random(2).randbytes(100_000))
    subprocess.run([program, "-q", "-s", "64k", str(zips / "a.zip"), "x.evtx"], cwd=zips.parent, check=True)
    scan(zips, database)
    assert {row["key"]: row["message"].partition(" Join")[0] for row in rows(database, "failures")} == dict.fromkeys(
        ["a.z01", "a.zip"], "This is a part of a zip archive in several files."
    )
