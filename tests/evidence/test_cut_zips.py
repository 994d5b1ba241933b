"""Zip archives without the list of their files, which stands at the end: copies that were cut off."""

import random
import shutil
import subprocess
import zipfile
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

import pytest
from scans import records, rows, scan

from event_logs import events, log_bytes
from fanfold.evidence.archive import Archive
from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.files import DAMAGED

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


def test_what_only_begins_like_an_archive(zips: Path, database: str) -> None:
    """A file without any header of a file remains a failure."""
    (zips / "x.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    scan(zips, database)
    assert [row["message"] for row in rows(database, "failures")] == ["File is not a zip file"]


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
    files = {SYSTEM: log_bytes(events(20, "System")), SECURITY: log_bytes(events(30))}
    data = bytearray(packed(files, streamed=False))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(SYSTEM.encode(), data.index(signature)) - (30 if at == 6 else 46) + at] |= 1
    (zips / "kape.zip").write_bytes(data)
    scan(zips, database)
    assert list(records(database, "path").values()) == [30]
    (container,) = rows(database, "containers")
    assert container["problems"] == [
        f"{SYSTEM} is encrypted. Unpack the archive with its password, and scan the folder."
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
