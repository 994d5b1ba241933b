"""Evidence that was changed at random: no crash, no hang, and no word about a checksum that is not true.

What is right is counted here by other means: a chunk is whole if its two checksums are, wherever it is in the bytes.
"""

import faulthandler
import hashlib
import json
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from scans import STAGES, rows, scan

from disk_images import ewf, mbr, windows_volume
from event_logs import CHUNK, Event, digests_in, events, log_bytes, whole_chunks
from fanfold.evidence import tables

FILES = 10  # that a seed changes
HANGS = 10 * FILES  # seconds: 10 for each


@cache
def originals() -> dict[str, bytes]:
    """Six logs, an archive, and two disk images."""
    odd = [Event(number, 4688, START_OF_ODD, data={"a" * 200: "\u4e2d" * number}) for number in range(1, 200)]
    some = {
        "plain.evtx": log_bytes(events(300)),
        "used.evtx": log_bytes(events(900, "System"), dirty=True) + bytes(3 * CHUNK),
        "small.evtx": log_bytes(events(3)),
        "odd.evtx": log_bytes(odd),
        "wrapped.evtx": log_bytes([*events(120, first=500), *events(300)]),
        "shifted.evtx": log_bytes([]) + bytes(512) + log_bytes(events(200, "Setup"))[4096:],
    }
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("plain.evtx", "odd.evtx", "small.evtx"):
            archive.writestr(f"C/Windows/System32/winevt/Logs/{name}", some[name])
    disk = mbr(windows_volume())
    (image,) = ewf(disk)
    return some | {"kape.zip": packed.getvalue(), "mesa.E01": bytes(image.data), "mesa.dd": disk}


START_OF_ODD = events(1)[0].time


def changed(data: bytes, some: random.Random) -> bytes:
    """Bytes flipped, cut off, zeroed or moved."""
    found = bytearray(data)
    for _ in range(some.choice([1, 1, 3])):
        unit = some.choice([1, 16, 512, 4096, 65536])
        at, other = (some.randrange(max(1, len(found))) // unit * unit for _ in range(2))
        match some.choice(["flips", "flips", "cut", "zeros", "swap", "noise"]):
            case "flips":
                for _ in range(some.choice([1, 20, 400])):
                    found[some.randrange(len(found))] ^= 1 << some.randrange(8)
            case "cut":
                del found[max(100, at) :]
            case "zeros":
                found[at : at + unit] = bytes(len(found[at : at + unit]))
            case "swap":
                first, second = bytes(found[at : at + unit]), bytes(found[other : other + unit])
                if len(first) == len(second) and abs(at - other) >= unit:
                    found[at : at + unit], found[other : other + unit] = second, first
            case "noise":
                found[at : at + unit] = some.randbytes(len(found[at : at + unit]))
    return bytes(found)


@pytest.mark.seeds
@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_changed(seed: int, tmp_path: Path, database: str) -> None:
    """A scan of files that were changed ends; every record that stands is there, and every checksum is as it says."""
    some = random.Random(seed)
    files = {}
    for number in range(FILES):
        name = some.choice([*originals()])
        files[f"{number}-{name}"] = changed(originals()[name], some)
    (tmp_path / "given").mkdir()
    for name, data in files.items():
        (tmp_path / "given" / name).write_bytes(data)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        reports = scan(tmp_path / "given", database, *STAGES)
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert all(report.lost == 0 and report.listed == report.ok + report.failed for report in reports)
    every_event = list(all_events(database))
    found = {name: [row for row in every_event if row["key"].startswith(name)] for name in files}
    verified = {row["key"]: json.loads(row["value"])["result"] for row in facts(database) if row["name"] == "result"}
    for name, data in files.items():
        sound = {row["digest"] for row in found[name] if row["chunk_ok"] and not row["damaged"]}
        every = {row["digest"] for row in found[name]}
        if name.endswith(".evtx"):
            whole = {digest for chunk in whole_chunks(data) for digest in digests_in(chunk)}
            assert sound == whole, name
        elif name.endswith(".zip"):
            assert sound <= of_originals(), name
            assert in_archive(data) <= every, name
        else:
            assert sound <= of_originals(), name
        if name.endswith(".dd"):
            whole = {digest for chunk in whole_chunks(data) for digest in digests_in(chunk)}
            assert whole <= every, name
        if verified.get(f"{name}/verify") == "match":
            assert stored_in(data) == hashlib.md5(originals()["mesa.dd"]).digest(), name


def all_events(database: str) -> Iterator[dict[str, object]]:
    """All records, or none if there is no table of them."""
    if Path(database, "evidence_events.lance").exists():
        for batch in tables.events(database, columns=["key", "digest", "chunk_ok", "damaged"]):
            yield from batch.to_pylist()


def facts(database: str) -> list[dict[str, object]]:
    """All facts, or none."""
    return rows(database, "evidence_facts") if Path(database, "evidence_facts.lance").exists() else []


@cache
def of_originals() -> set[int]:
    """The digests of all records of all logs before they were changed."""
    from event_logs import COUNTS

    others = {**COUNTS, "Setup": 40, "Old": 250, "Packed": 80, "Pieces": 120}  # those of volumes/make.sh
    logs = [data for name, data in originals().items() if name.endswith(".evtx")]
    logs += [log_bytes(events(count, name)) for name, count in others.items()]
    return {digest for log in logs for chunk in whole_chunks(log) for digest in digests_in(chunk)}


def stored_in(image: bytes) -> bytes:
    """The MD5 that is stored in an EnCase image, in its section `hash` or `digest`."""
    at = image.rfind(b"digest" + bytes(10))
    return image[at + 76 : at + 92]


def in_archive(data: bytes) -> set[int]:
    """The digests of the records of whole chunks in the members that can be unpacked."""
    found: set[int] = set()
    try:
        archive = zipfile.ZipFile(BytesIO(data))
        members = [one for one in archive.infolist() if one.filename.lower().endswith(".evtx")]
        if any(one.flag_bits & 1 for one in members):
            return found
    except Exception:
        return found
    for member in members:
        try:
            log = archive.read(member)
        except Exception:
            continue
        found |= {digest for chunk in whole_chunks(log) for digest in digests_in(chunk)}
    return found


# Archives


def test_names_that_lead_out_of_an_archive(tmp_path: Path, database: str) -> None:
    """Names with .. and names from the root are read as if they were inside."""
    (tmp_path / "given").mkdir()
    with zipfile.ZipFile(tmp_path / "given" / "a.zip", "w") as archive:
        for number, name in enumerate(("../../etc/x.evtx", "/etc/x.evtx", "..\\..\\y.evtx", "./C/Windows/z.evtx"), 1):
            archive.writestr(name, log_bytes(events(number)))
    scan(tmp_path / "given", database)
    found = {(unit["key"], unit["image"], unit["path"]): unit["records"] for unit in rows(database, "evidence")}
    assert found == {
        ("a.zip/etc/x.evtx#0-1", "a.zip/etc", "x.evtx"): 1,
        ("a.zip/etc/x.evtx (1)#0-1", "a.zip/etc", "x.evtx"): 2,
        ("a.zip/y.evtx#0-1", "a.zip", "y.evtx"): 3,
        ("a.zip/C/Windows/z.evtx#0-1", "a.zip", "C:/Windows/z.evtx"): 4,
    }


def test_an_archive_bomb(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that unpack to far more than logs do are told and left; logs beside them, also empty ones, are read."""
    monkeypatch.setattr("fanfold.evidence.kinds._INFLATED", 8 << 20)
    (tmp_path / "given").mkdir()
    with zipfile.ZipFile(tmp_path / "given" / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("C/Windows/Security.evtx", log_bytes(events(30)))
        archive.writestr("C/Windows/Empty.evtx", log_bytes([]) + bytes(1 << 20))
        archive.writestr("C/Windows/bomb.evtx", bytes(64 << 20))
    scan(tmp_path / "given", database)
    units = {unit["path"].rpartition("/")[2]: unit["records"] for unit in rows(database, "evidence")}
    assert units == {"Security.evtx": 30, "Empty.evtx": 0}
    (problem,) = rows(database, "containers")[0]["problems"]
    assert problem.startswith("C/Windows/bomb.evtx was not read: ")


def test_an_archive_whose_files_share_their_bytes(tmp_path: Path, database: str) -> None:
    """An archive of many names for the same bytes is a failure."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.evtx", log_bytes(events(30)))
    data = packed.getvalue()
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[at:end]
    tail = bytearray(data[end:])
    tail[8:10] = tail[10:12] = (40).to_bytes(2, "little")
    tail[12:16] = (40 * len(entry)).to_bytes(4, "little")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.zip").write_bytes(data[:at] + entry * 40 + tail)
    listing, _ = scan(tmp_path / "given", database)
    assert listing.failed == 1
    assert "share their bytes" in rows(database, "failures")[0]["message"]


def test_an_archive_of_70_000_files(tmp_path: Path, database: str) -> None:
    """The logs among very many other files are read, also where their number has more than 16 bits."""
    (tmp_path / "given").mkdir()
    with zipfile.ZipFile(tmp_path / "given" / "a.zip", "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"C/Users/{number}"), b"")
        archive.writestr("C/Windows/Security.evtx", log_bytes(events(30)))
    scan(tmp_path / "given", database)
    assert [unit["records"] for unit in rows(database, "evidence")] == [30]
