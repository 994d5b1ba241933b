"""Scans of disk images: every record once, from logs that are there, that were deleted, or that are in free space."""

import json
import random
import re
import subprocess
from collections import Counter
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from evtx import PyEvtxParser
from scans import STAGES, killed, records, rows, scan

import nursery
from commands import FANFOLD
from commands import fanfold as command
from disk_images import chunk_at, ewf, flipped, in_memory, mbr, windows_volume, write_ewf
from event_logs import COUNTS, events, log_bytes, total, whole_chunks
from fanfold.evidence.disk.mft import without_fixups
from fanfold.evidence.disk.ntfs import _LOG, FileSystem
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.disk.volumes import volumes
from fanfold.evidence.report.report import made
from fanfold.evidence.scan import units_of_a_task
from fanfold.evidence.work import Parts

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

DELETED = {"Setup": 40, "Old": 250}
OTHERS = {"Packed": 80, "Pieces": 120}
LOGS = "Windows/System32/winevt/Logs"
ALL = total() + sum(OTHERS.values()) + sum(DELETED.values())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An EnCase image of a disk with a Windows volume, in four files."""
    return write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(windows_volume()), per_segment=40))[0]


def without_records(volume: bytes, *names: str) -> bytes:
    """A volume whose file table has no records of files of these names."""
    found = bytearray(volume)
    for name in names:
        for place in re.finditer(re.escape(name.encode("utf-16-le")), volume):
            start = place.start() // 1024 * 1024
            if found[start : start + 4] == b"FILE":
                found[start : start + 1024] = bytes(1024)
    return bytes(found)


def by_origin(database: str, image: str = "") -> dict[tuple[str, str | None], int]:
    """The number of records of each log and origin, of one image or of all."""
    found: Counter[tuple[str, str | None]] = Counter()
    where = f"image = '{image}'" if image else None
    for (origin, path), count in records(database, "origin", "path", where=where).items():
        found[origin, path and path.rpartition("/")[2].removesuffix(".evtx")] += count
    return dict(found)


LIVE = {("live", name): count for name, count in {**COUNTS, **OTHERS}.items()}
GONE = {("deleted", name): count for name, count in DELETED.items()}


@pytest.mark.parametrize("given", ["mesa.E01", ""])
def test_a_disk_has_every_record_once(given: str, disk: Path, database: str) -> None:
    """Logs that are there and logs that were deleted are read, and carving adds nothing that is known."""
    listing, live, deleted, rest = scan(disk.parent / given, database, *STAGES)
    assert (listing.ok, live.ok, deleted.ok, rest.ok) == (1, 5, 2, 2)
    assert (listing.failed, live.failed, deleted.failed, rest.failed) == (0, 0, 0, 0)
    assert dict(listing.left_out) == {"part of another file": 3}
    assert by_origin(database) == LIVE | GONE
    assert set(records(database, "digest").values()) == {1}
    paths = {path for (path,) in records(database, "path")}
    assert {f"{LOGS}/Security.evtx", f"{LOGS}/Setup.evtx", "gone/archive/Old.evtx", "packed/Packed.evtx"} < paths
    (carved,) = [unit for unit in rows(database, "evidence") if unit["kind"] == "carve"]
    assert (carved["records"], carved["known"]) == (0, 0)  # nothing that is in a log, also not the pieces of one
    (container,) = rows(database, "containers")
    assert (container["kind"], container["problems"], container["tool"]) == ("E01", [], "ADI4.2.0.13")
    assert [one["system"] for one in container["volumes"]] == ["NTFS"]
    assert len(container["segments"]) == 4


def test_a_raw_image(tmp_path: Path, database: str) -> None:
    """A raw image in several files has the same records, and units that tell where they lie."""
    data = mbr(windows_volume())
    (tmp_path / "given").mkdir()
    for number, at in enumerate(range(0, len(data), 3_000_000), 1):
        (tmp_path / "given" / f"mesa.{number:03}").write_bytes(data[at : at + 3_000_000])
    scan(tmp_path / "given" / "mesa.001", database, *STAGES)
    assert by_origin(database) == LIVE | GONE
    units = {unit["key"] for unit in rows(database, "evidence")}
    assert f"mesa.001/p1/{LOGS}/Security.evtx#0-7" in units
    assert {"mesa.001/carve/00000-00005MiB", "mesa.001/verify"} < units
    assert any(re.fullmatch(r"mesa\.001/p1!deleted/mft-\d+/Old\.evtx#0-6", unit) for unit in units)


def test_a_log_without_a_name_is_carved(tmp_path: Path, database: str) -> None:
    """What no file has any more is found by its chunks, and has the place on the disk."""
    data = mbr(without_records(windows_volume(), "Setup.evtx", "Old.evtx"))
    (file,) = write_ewf(tmp_path / "given" / "mesa.E01", ewf(data))
    scan(file, database, *STAGES)
    assert by_origin(database) == LIVE | {("carved", None): sum(DELETED.values())}
    assert {channel for channel, origin in records(database, "channel", "origin") if origin == "carved"} == {*DELETED}
    for row in rows(database, "evidence_events"):
        if row["origin"] == "carved":
            assert data[row["offset"] :].startswith(b"**\0\0")
            assert (row["volume"], row["chunk"]) == (None, None)


@cache
def log_of(count: int, first: int) -> bytes:
    """A log Setup of so many records."""
    return log_bytes(events(count, "Setup", first))


@pytest.mark.seeds
@pytest.mark.parametrize("seed", range(12))
def test_after_overwriting_every_chunk_that_stands(seed: int, tmp_path: Path, database: str) -> None:
    """After clusters were overwritten, also by other logs, every chunk that is whole on the disk gives its records."""
    some = random.Random(seed)
    disk = bytearray(some.randbytes(6 << 20))
    for number in range(12):
        log = log_of(some.choice([60, 200, 500]), 10_000 * number)
        start = some.choice([0, 4096])  # with its header, or from a chunk on
        at = some.randrange((len(disk) - len(log)) // 4096) * 4096
        disk[at : at + len(log) - start] = log[start:]
    for _ in range(20):
        at = some.randrange(len(disk) // 4096) * 4096
        disk[at : at + 4096] = some.choice([some.randbytes(4096), disk[:4096], log[4096:8192]])
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "stick.dd").write_bytes(disk)
    scan(tmp_path / "given", database, *STAGES)
    whole = {record for chunk in whole_chunks(bytes(disk)) for record in ids_of(log_bytes([]) + chunk)}
    assert len(whole) > 500
    assert {record for record, ok in records(database, "record_id", "chunk_ok") if ok} == whole
    assert set(records(database, "digest").values()) == {1}


def ids_of(log: bytes) -> list[int]:
    """The ids of a log's records, as the library gives them."""
    return [record["event_record_id"] for record in PyEvtxParser(BytesIO(log)).records_json()]


def test_a_record_that_was_copied_is_there_once(tmp_path: Path, database: str) -> None:
    """A chunk that lies on the disk twice gives its records once, though two units carve it."""
    log = log_bytes(events(700, "Setup"))
    (tmp_path / "given").mkdir()
    with (tmp_path / "given" / "stick.dd").open("wb") as file:
        for mebibyte in (1, 260):
            file.seek(mebibyte << 20)
            file.write(log)
    scan(tmp_path / "given", database, *STAGES)
    assert len([unit for unit in rows(database, "evidence") if unit["kind"] == "carve"]) == 2
    assert records(database, "record_id") == Counter({(number,): 1 for number in range(1, 701)})


def test_two_machines_with_the_same_records(disk: Path, database: str) -> None:
    """Each image has its own records, also if another image has equal ones."""
    (disk.parent / "copy.E01").write_bytes(ewf(mbr(windows_volume()))[0].data)
    scan(disk.parent, database, *STAGES)
    found = records(database, "image")
    assert dict(found) == {("mesa.E01",): ALL, ("copy.E01",): ALL}


def place_in_log(data: bytes, number: int) -> int:
    """Where a chunk of the log Security lies on a disk."""
    system = FileSystem(Raw([in_memory("disk", data)]), volumes(Raw([in_memory("disk", data)]))[0].start)
    (inode,) = [log.inode for log in system.logs() if log.path == f"{LOGS}/Security.evtx"]
    (extent,) = system.extents(inode)
    return extent.at + 4096 + number * 65536


@pytest.mark.parametrize("packed", [True, False])
def test_damage_is_told_with_the_records(packed: bool, tmp_path: Path, database: str) -> None:
    """Records of a chunk that touches damaged sectors are marked; the damage is a fact; verification fails."""
    data = mbr(windows_volume())
    segments = ewf(data, deflated=lambda _: packed, per_table=1 << 12)
    place = place_in_log(data, 2) + 40_000
    flipped(segments[0], chunk_at(segments[0], place // 32768))
    write_ewf(tmp_path / "given" / "mesa.E01", segments)
    scan(tmp_path / "given", database, *STAGES)
    marked = records(database, "path", "damaged")
    assert 0 < marked[f"{LOGS}/Security.evtx", True] < COUNTS["Security"]
    assert not any(damaged for path, damaged in marked if path != f"{LOGS}/Security.evtx")
    (damage,) = [json.loads(fact["value"]) for fact in rows(database, "evidence_facts") if fact["kind"] == "damage"]
    assert damage["first_sector"] * 512 <= place < (damage["first_sector"] + damage["sectors"]) * 512
    problems = [unit["problem"] for unit in rows(database, "evidence") if unit["kind"] == "verify"]
    assert problems == ["the digests of its content differ from those that are stored with it"]


def test_volumes_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """An encrypted volume and one of another system are problems; the rest is done, and the exit code is 3."""
    locked = b"\xeb\x58\x90-FVE-FS-" + bytes((1 << 20) - 11)
    ext = bytes(0x438) + b"\x53\xef" + bytes((1 << 20) - 0x43A)
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(locked, windows_volume(), ext)))
    done = command("evidence", "scan", tmp_path / "given", tmp_path / "db")
    assert done.returncode == 3
    assert "mesa.E01: p1 (0.0 GB) is encrypted by BitLocker. Unlock it with its key" in done.stderr
    assert "mesa.E01: p3 (0.0 GB) has the file system ext, where Windows keeps no logs." in done.stderr
    assert by_origin(str(tmp_path / "db")) == LIVE | GONE


def test_a_disk_without_any_table_is_carved(tmp_path: Path, database: str) -> None:
    """Something that is called a disk image and is none that is known is carved all the same."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "memory.raw").write_bytes(bytes(1 << 20) + log_bytes(events(50)) + bytes(1 << 20))
    scan(tmp_path / "given", database, *STAGES)
    assert by_origin(database) == {("carved", None): 50}
    (container,) = rows(database, "containers")
    assert container["problems"] == [
        "It has no partition table that can be read, and no file system that is known. "
        "Logs in it are found by carving only."
    ]


def test_the_holes_of_a_sparse_disk_cost_nothing(tmp_path: Path, database: str) -> None:
    """Only the parts of a sparse disk that have data are read, whatever its size; a log in the middle is found."""
    (tmp_path / "given").mkdir()
    with (tmp_path / "given" / "large.raw").open("wb") as file:
        for gibibyte in (700, 1500):
            file.seek(gibibyte << 30)
            file.write(log_bytes(events(50, first=gibibyte)))
        file.truncate(2000 << 30)
    scan(tmp_path / "given", database, *STAGES)
    assert by_origin(database) == {("carved", None): 100}
    kinds = Counter(unit["kind"] for unit in rows(database, "evidence"))
    assert kinds == {"carve": 2, "verify": 1}
    (result,) = [json.loads(fact["value"]) for fact in rows(database, "evidence_facts")]
    assert result == {"result": "no stored digest"}


@pytest.mark.parametrize("missing", [1, 3])
def test_a_disk_whose_file_is_missing(missing: int, disk: Path, database: str) -> None:
    """What a missing file does not hold is read, and what it held is told."""
    disk.with_suffix(f".E0{missing + 1}").unlink()
    scan(disk.parent, database, *STAGES)
    (container,) = rows(database, "containers")
    assert any("missing" in problem for problem in container["problems"])
    found = records(database, "path", "damaged")
    assert 0 < sum(count for (_, damaged), count in found.items() if not damaged) <= ALL


def test_a_changed_file_of_an_image_is_read_anew(disk: Path, database: str) -> None:
    """An image is done again if one of its files has changed, and only then."""
    scan(disk.parent, database, *STAGES)
    again = scan(disk.parent, database, *STAGES)
    assert [(report.ok, report.unchanged) for report in again] == [(0, 1), (0, 5), (0, 2), (0, 2)]
    data = mbr(without_records(windows_volume(), "Old.evtx"))
    write_ewf(disk, ewf(data, per_segment=40))
    scan(disk.parent, database, *STAGES)
    assert by_origin(database) == LIVE | {("deleted", "Setup"): 40, ("carved", None): 250}


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_of_disks_that_is_killed_goes_on(seed: int, tmp_path: Path, database: str) -> None:
    """Whenever a scan is killed, the next one leaves each record of each disk once."""
    for number in range(3):
        write_ewf(tmp_path / "shelf" / f"host{number}.E01", ewf(mbr(windows_volume()), per_segment=50))
    asked = [*FANFOLD, "evidence", "scan", str(tmp_path / "shelf"), database, "--task-size", "3"]
    killed(asked, database, ["containers.lance", "evidence.lance", "_runs/*/receipts/*"][seed])
    done = nursery.run([*asked, "--json"])
    assert done.returncode == 0, done.stderr
    found = records(database, "image", "digest")
    assert (found.total(), set(found.values())) == (3 * ALL, {1})


def test_a_shelf_of_disks_on_a_cluster(three: "Cluster", tmp_path: Path, database: str) -> None:
    """The workers of a Ray cluster read the same from several images, and a second scan has nothing to do."""
    for number in range(2):
        write_ewf(tmp_path / "shelf" / f"host{number}.E01", ewf(mbr(windows_volume()), per_segment=50))
    where = ("--on", f"ray:{three.address}", "--workers", "2")
    asked = [*FANFOLD, "evidence", "scan", str(tmp_path / "shelf"), database, *where, "--json"]
    done = nursery.run(asked)
    assert done.returncode == 0, done.stderr
    found = records(database, "image", "digest")
    assert (found.total(), set(found.values())) == (2 * ALL, {1})


def test_an_image_in_a_bucket_is_read_in_ranges(disk: Path, bucket: str, database: str) -> None:
    """The files of an image in an object store are found and read, whichever of them is named."""
    from obstore.store import from_url

    store = from_url(bucket.rpartition("/")[0], client_options={"allow_http": True})
    for file in disk.parent.iterdir():
        store.put(f"{bucket.rpartition('/')[2]}/{file.name}", file.read_bytes())
    scan(f"{bucket}/mesa.E01", database, *STAGES)
    assert by_origin(database) == LIVE | GONE
    assert len(rows(database, "containers")[0]["segments"]) == 4


# What has gone wrong before


def record_of_file(volume: bytes, name: str) -> int:
    """Where the record of a file begins in a volume's file table; those of its folders come before it."""
    places = [found.start() // 1024 * 1024 for found in re.finditer(re.escape(name.encode("utf-16-le")), volume)]
    return [place for place in places if volume[place : place + 4] == b"FILE"][-1]


def test_a_folder_of_logs_that_is_compressed(tmp_path: Path, database: str) -> None:
    """Logs that were deleted from it cannot be carved, and that is told."""
    volume = bytearray(windows_volume())
    volume[record_of_file(volume, "Logs") + 56 + 24 + 33] |= 8  # the first attribute: its standard information
    (file,) = write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(bytes(volume))))
    scan(file, database, ["live"])
    assert rows(database, "containers")[0]["problems"] == [
        "p1/Windows/System32/winevt/Logs is compressed by NTFS: logs that were deleted from it, and of which the file "
        "table has no record, cannot be carved."
    ]


def test_a_torn_record_of_the_file_table_costs_one_log(tmp_path: Path, database: str) -> None:
    """A record whose sectors do not belong together is told; all other logs are read, and this one is carved."""
    volume = bytearray(windows_volume())
    volume[record_of_file(volume, "Security.evtx") + 1022] ^= 0x55
    (file,) = write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(bytes(volume))))
    scan(file, database, *STAGES)
    found = by_origin(database)
    assert found.pop(("carved", None)) == COUNTS["Security"]
    assert found == {key: count for key, count in (LIVE | GONE).items() if key[1] != "Security"}
    (container,) = rows(database, "containers")
    assert any("Security.evtx" in problem and "cannot be read" in problem for problem in container["problems"])


def test_a_name_over_the_end_of_a_sector() -> None:
    """The last two bytes of each sector of a record are kept elsewhere, and may be a part of a name."""
    raw = bytearray(1024)
    raw[:6] = b"FILE\x30\0"
    raw[6:8], raw[48:50], raw[50:52], raw[52:54] = b"\x03\0", b"\x07\0", b"v\0", b"\0\0"
    name = "Assistant.evtx".encode("utf-16-le")
    raw[510 - name.index(b"v\0") : 510 - name.index(b"v\0") + len(name)] = name
    raw[510:512] = b"\x07\0"
    assert not _LOG.search(raw)
    assert _LOG.search(without_fixups(bytes(raw), 1024))


def test_a_log_that_failed_is_carved(disk: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that could not be read from the file system is looked for in the bytes of the disk."""
    read_at = Parts._read_at

    def failing(self: Parts, offset: int, length: int) -> bytes:
        if self.place.path == f"{LOGS}/Security.evtx":
            raise OSError("Input/output error")
        return read_at(self, offset, length)

    monkeypatch.setattr(Parts, "_read_at", failing)
    scan(disk, database, *STAGES)
    assert by_origin(database)["carved", None] == COUNTS["Security"]
    (failure,) = rows(database, "failures")
    assert failure["message"] == "Input/output error"


def test_two_logs_that_have_lost_their_folders(tmp_path: Path, database: str) -> None:
    """Logs of the same name, whose folders are lost, are two."""
    volume = bytearray(windows_volume())
    for folder in ("packed", "pieces"):
        place = record_of_file(volume, folder)
        volume[place : place + 1024] = bytes(1024)
    for before, after in (("Packed.evtx", "Samelo.evtx"), ("Pieces.evtx", "Samelo.evtx")):
        place = record_of_file(volume, before)
        at = volume.index(before.encode("utf-16-le"), place)
        volume[at : at + 2 * len(after)] = after.encode("utf-16-le")
    (file,) = write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(bytes(volume))))
    scan(file, database, *STAGES)
    assert records(database, "path")["?/Samelo.evtx",] == sum(OTHERS.values())


# The verbs


def test_nobody_reads_what_a_scan_prints(disk: Path, database: str) -> None:
    """It goes on to its end, and its exit code is the same."""
    disk.write_bytes(disk.read_bytes()[:-1])  # the image is cut off
    asked = f"{FANFOLD[0]} evidence scan {disk} {database} --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", asked], stdout=subprocess.DEVNULL).returncode == 3
    assert "mesa.E01/verify" in {unit["key"] for unit in rows(database, "evidence")}


def test_verify(disk: Path) -> None:
    """An image that is whole ends with 0, one that is not with 3, and something else with an error."""
    done = command("evidence", "verify", disk)
    assert done.returncode == 0
    assert done.stdout.startswith(
        "mesa.E01: E01 image of 4,227,072 bytes in 4 files; made by ADI4.2.0.13; the digests match\n"
    )
    assert done.stdout.count("as stored") == 2
    segments = ewf(mbr(windows_volume()), per_table=1 << 12, header={"av": "\x1b[2J"})
    flipped(segments[0], chunk_at(segments[0], place_in_log(mbr(windows_volume()), 1) // 32768))
    (disk,) = write_ewf(disk.parent / "other" / "mesa.E01", segments)
    done = command("evidence", "verify", disk)
    assert (done.returncode, "\x1b" in done.stdout) == (3, False)
    assert "THE DIGESTS DIFFER" in done.stdout
    assert re.search(r"damaged: sectors [\d,]+ to [\d,]+ \(mesa\.E01 at byte [\d,]+\): ", done.stdout)
    done = command("evidence", "verify", disk, "--json")
    assert json.loads(done.stdout)["result"] == "mismatch"
    disk.write_bytes(b"EVF\x09\x0d\x0a\xff\x00")
    assert command("evidence", "verify", disk).returncode == 1
    (disk.parent / "notes.doc").write_text("no image")
    done = command("evidence", "verify", disk.parent / "notes.doc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no disk image in" in done.stderr


def test_verify_without_digests(disk: Path) -> None:
    """The chunks are checked, and it says that the digests were not computed."""
    done = command("evidence", "verify", disk, "--no-digests", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["result"], told["computed"], told["damage"]) == (0, "not computed", {}, [])


@pytest.mark.parametrize(
    ("how", "units", "says"),
    [
        ("none", set(), "Its content was not verified."),
        ("chunks", {"chunks"}, "Each of its chunks was checked; the MD5 and SHA1 that are stored with it were not "
                               "computed."),
        ("full", {"verify"}, "ITS CONTENT DIFFERS from the MD5 and SHA1 that are stored with it."),
    ],
)  # fmt: skip
def test_how_much_is_verified(how: str, units: set[str], says: str, tmp_path: Path) -> None:
    """A scan says what was verified; damage is found in both ways, and a later scan can do what was left out."""
    data = mbr(windows_volume())
    (segment,) = ewf(data, per_table=1 << 12)
    place = place_in_log(data, 1) // 32768
    flipped(segment, chunk_at(segment, place))
    write_ewf(tmp_path / "given" / "mesa.E01", [segment])
    database = str(tmp_path / "db")
    assert command("evidence", "scan", tmp_path / "given", database, "--no-carve", "--verify", how).returncode in (0, 3)
    done = {row["kind"] for row in rows(database, "evidence")} & {"verify", "chunks"}
    damage = f"64 of its sectors are damaged: {64 * place:,} to {64 * place + 63:,}."
    told = made(database, "mesa.E01").container
    assert (done, says in told, damage in told) == (units, True, how != "none")
    assert command("evidence", "scan", tmp_path / "given", database, "--no-carve").returncode == 3
    told = made(database, "mesa.E01").container
    assert "ITS CONTENT DIFFERS from the MD5 and SHA1 that are stored with it." in told
    assert damage in told


def test_what_was_recovered_is_told_and_written(tmp_path: Path, database: str) -> None:
    """Logs that were there, deleted or carved become files with the same records, and have lines of their own."""
    data = mbr(without_records(windows_volume(), "Old.evtx"))
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(data))
    scan(tmp_path / "given", database, *STAGES)
    done = command("evidence", "coverage", database)
    assert re.search(r"mesa\.E01/p1/Setup +40 .*deleted", done.stdout)
    assert re.search(r"mesa\.E01 +250 .*carved", done.stdout)
    done = command("evidence", "extract", database, "--to", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    counts = {}
    for file in (tmp_path / "out").rglob("*.evtx"):
        name = re.sub(r"mft-\d+", "mft-N", str(file.relative_to(tmp_path / "out" / "mesa.E01")))
        counts[name] = sum(1 for _ in PyEvtxParser(str(file)).records_json())
    assert counts == {
        **{f"p1/{LOGS}/{name}.evtx": count for name, count in COUNTS.items()},
        "p1/packed/Packed.evtx": OTHERS["Packed"],
        "p1/pieces/Pieces.evtx": OTHERS["Pieces"],
        "p1!deleted/mft-N/Setup.evtx": 40,
        "carved/Old.evtx": 250,
    }
    again = command("evidence", "extract", database, "--to", tmp_path / "out")
    assert (again.returncode, "There is something in" in again.stderr) == (2, True)
    only = command("evidence", "extract", database, "--to", tmp_path / "carved", "--origin", "carved")
    assert only.returncode == 0
    assert [file.name for file in (tmp_path / "carved").rglob("*.evtx")] == ["Old.evtx"]


@pytest.mark.parametrize(("size", "expected"), [(600 << 20, 1), (20 << 20, 12), (1000, 100)])
def test_tasks_have_a_limit_in_bytes(size: int, expected: int) -> None:
    """Two workers share four parts of a large disk, and hundreds of small disks are not a task each."""
    assert units_of_a_task({"carved": (3, 2 * size), "verify": (1, 2 * size)}, ["carved", "verify"], 100) == expected
