"""Disk images: EnCase's and raw ones, what is damaged of them, and the volumes on them."""

import errno
import hashlib
import random
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zlib import adler32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_images import (
    SECTOR,
    Segment,
    chunk_at,
    ewf,
    extended,
    flipped,
    gpt,
    in_memory,
    mbr,
    windows_volume,
    write_ewf,
)
from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.medium import Medium, SegmentFile, Unreadable
from fanfold.evidence.disk.places import overflow
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.disk.sections import acquired_at
from fanfold.evidence.disk.segments import segment_name
from fanfold.evidence.disk.verify import Verification, verifying
from fanfold.evidence.disk.volumes import volumes
from fanfold.evidence.given import grouped, with_siblings
from fanfold.job import Item

CHUNK = 32768


def on_disk(*files: Path) -> list[SegmentFile]:
    """Files that are there."""

    def read(file: Path, offset: int, length: int) -> bytes:
        with file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(length)

    return [
        SegmentFile(file.name, file.stat().st_size, lambda offset, length, file=file: read(file, offset, length))
        for file in files
    ]


def opened(segments: Sequence[Segment]) -> Medium:
    """The medium in an image's files."""
    return open_medium([in_memory(f"a.E{segment.number:02}", bytes(segment.data)) for segment in segments])


def content(size: int) -> bytes:
    """Bytes of which some deflate well and some do not."""
    some = random.Random(size)
    parts = (some.randbytes(4096) if some.random() < 0.5 else bytes(4096) for _ in range(-(-size // 4096)))
    return b"".join(parts)[:size]


def verified(medium: Medium) -> Verification:
    """What is known after a verification."""
    return next(step for step in verifying(medium, 2) if isinstance(step, Verification))


@pytest.mark.parametrize("deflated", [lambda _: True, lambda _: False, lambda number: number % 3 == 0])
@pytest.mark.parametrize("per_segment", [1 << 30, 40, 1])
@pytest.mark.parametrize(("size", "chunk"), [(4_200_448, CHUNK), (130 * 4096 + 512, 4096), (3 << 20, 1 << 20)])
def test_an_image_gives_the_disk_back(size: int, chunk: int, per_segment: int, deflated: object) -> None:
    """Every byte comes back, whatever the sizes, from one file or from more than 99."""
    data = content(size)
    medium = opened(ewf(data, chunk=chunk, per_segment=per_segment, deflated=deflated))  # type: ignore[arg-type]
    assert (medium.size, medium.problems, medium.damage) == (size, [], [])
    assert medium.read_at(0, size + 100) == data
    assert verified(medium).result == "match"


def test_reads_in_any_order_agree() -> None:
    """Random reads give the same bytes as one read from start to end."""
    data = content(4_200_448)
    medium = opened(ewf(data, per_segment=30))
    some = random.Random(1)
    for _ in range(400):
        at, length = some.randrange(len(data)), some.choice([1, 512, 5000, 70_000, 3_000_000])
        assert medium.read_at(at, length) == data[at : at + length]
    assert medium.read_at(len(data), 10) == b""


@pytest.mark.skipif(not shutil.which("ewfacquire"), reason="needs ewf-tools")
@pytest.mark.parametrize(
    "variant",
    ["encase1", "encase2", "encase3", "encase4", "encase5", "encase6", "encase7", "ftk", "linen5", "linen6", "linen7",
     "smart", "ewfx"],
)  # fmt: skip
def test_images_of_other_tools(variant: str, tmp_path: Path) -> None:
    """Images in all variants that ewfacquire writes, in several files, have the disk's bytes and its digest."""
    data = content(3_100_160)
    (tmp_path / "disk").write_bytes(data)
    about = [
        "-C",
        "case1",
        "-D",
        "disk",
        "-e",
        "nobody",
        "-E",
        "ev1",
        "-N",
        "notes",
        "-m",
        "fixed",
        "-c",
        "deflate:fast",
        "-S",
        "1MiB",
        "-u",
        "-q",
    ]
    target = ["-f", variant, "-t", str(tmp_path / "image"), str(tmp_path / "disk")]
    subprocess.run(["ewfacquire", *about, *target], check=True, capture_output=True, timeout=60)
    files = sorted(tmp_path.glob("image.*"), key=lambda file: file.name)
    assert len(files) > 1
    medium = open_medium(on_disk(*files))
    assert (medium.read_at(0, medium.size), medium.problems) == (data, [])
    assert medium.stored["md5"] == hashlib.md5(data).hexdigest()
    assert (medium.about["case"], medium.about["examiner"]) == ("case1", "nobody")
    assert [Path(name) for name in with_siblings(str(files[0]))] == files


def test_what_the_acquirer_wrote_down() -> None:
    """The header's fields, both digests and the sectors that could not be read."""
    data = content(100_352)
    medium = opened(ewf(data, unread=[(10, 2), (100, 1)]))
    assert (medium.about["tool"], medium.about["case"]) == ("ADI4.2.0.13", "case 7")
    assert medium.stored == {"md5": hashlib.md5(data).hexdigest(), "sha1": hashlib.sha1(data).hexdigest()}
    assert medium.unread == [(10, 2), (100, 1)]


@pytest.mark.parametrize(
    ("stored", "time", "is_known"),
    [
        ("1621808991", datetime(2021, 5, 23, 22, 29, 51, tzinfo=UTC), True),
        ("2021 5 23 16 29 49", datetime(2021, 5, 23, 16, 29, 49), False),
        ("", None, False),
        ("yesterday", None, False),
        ("2021 15 23 16 29 49", None, False),
        ("99999999999999999999", None, False),
    ],
)
def test_when_an_image_was_taken(stored: str, time: datetime | None, is_known: bool) -> None:
    """A date is in UTC, or in no zone, as the tool has stored it."""
    assert acquired_at(stored) == (time, is_known)


@pytest.mark.parametrize("number", [6, 7])
def test_a_damaged_chunk_is_zeros_and_is_known(number: int, tmp_path: Path) -> None:
    """A flipped byte, in a deflated chunk or in a stored one, is found to the chunk; all others are read."""
    data = random.Random(5).randbytes(64 * CHUNK)
    segments = ewf(data)
    flipped(segments[0], chunk_at(segments[0], number))
    medium = opened(segments)
    expected = data[: number * CHUNK] + bytes(CHUNK) + data[(number + 1) * CHUNK :]
    assert medium.read_at(0, len(data)) == expected
    (damage,) = medium.damage
    assert (damage.first_sector, damage.sectors, damage.segment) == (number * 64, 64, "a.E01")
    assert medium.is_damaged(number * CHUNK + 5, 1)
    assert not medium.is_damaged((number + 1) * CHUNK, CHUNK)
    assert verified(medium).result == "mismatch"
    if shutil.which("ewfverify"):
        (file,) = write_ewf(tmp_path / "a.E01", segments)
        told = subprocess.run(["ewfverify", "-q", str(file)], check=False, capture_output=True, text=True, timeout=60)
        assert f"{number * 64} - {number * 64 + 63} (number: 64)" in told.stdout.replace("at sector(s): ", "")


def test_neighbours_are_one_range_of_damage() -> None:
    """Damaged chunks side by side are named once."""
    data = random.Random(5).randbytes(64 * CHUNK)
    segments = ewf(data, deflated=lambda _: False)
    for number in (3, 4, 5, 9):
        flipped(segments[0], chunk_at(segments[0], number))
    found = verified(opened(segments)).damage
    assert [(one.first_sector, one.sectors) for one in found] == [(192, 192), (576, 64)]


def section(segment: Segment, name: str) -> int:
    """Where the content of the first section of this name begins."""
    return next(start for title, start in segment.sections if title == name) + 76


def test_a_damaged_table_has_a_copy() -> None:
    """If the checksum of a table is wrong, its copy is used; if both are, its chunks are damaged."""
    data = content(100 * CHUNK)
    segments = ewf(data)
    flipped(segments[0], section(segments[0], "table") + 24 + 8)
    medium = opened(segments)
    assert (medium.read_at(0, len(data)), medium.damage) == (data, [])
    flipped(segments[0], section(segments[0], "table2") + 24 + 8)
    medium = opened(segments)
    assert medium.read_at(0, len(data)) == bytes(64 * CHUNK) + data[64 * CHUNK :]
    (damage,) = medium.damage
    assert (damage.first_sector, damage.sectors, damage.why) == (0, 64 * 64, "both tables of its place are damaged")


@pytest.mark.parametrize("name", ["sectors", "table", "table2", "header2"])
def test_a_damaged_section_head_costs_no_chunk(name: str) -> None:
    """The next section is searched for, if the head of one is damaged."""
    data = content(100 * CHUNK)
    segments = ewf(data)
    flipped(segments[0], section(segments[0], name) - 76 + 20)
    medium = opened(segments)
    assert medium.read_at(0, len(data)) == data
    assert any("is damaged at byte" in problem for problem in medium.problems)


@pytest.mark.parametrize(
    ("missing", "lost", "says"),
    [
        ([1], range(30, 60), "Number 2 of the image's files is missing."),
        ([1, 2], range(30, 90), "Number 2 of the image's files is missing."),
        ([4], range(120, 150), "The image's last file is missing"),
        ([1, 3], range(30, 120), "Number 4 of the image's files is missing."),
        ([1, 4], range(30, 150), "Number 2 of the image's files is missing."),
    ],
)
def test_a_file_of_an_image_is_missing(missing: list[int], lost: range, says: str) -> None:
    """What has a known place is read: before the first missing file, and after the last one, counted from the end.

    The rest is zeros, and known to be missing.
    """
    data = content(150 * CHUNK)
    segments = ewf(data, per_segment=30)
    medium = opened([segment for number, segment in enumerate(segments) if number not in missing])
    begin, end = lost.start * CHUNK, lost.stop * CHUNK
    assert medium.read_at(0, len(data)) == data[:begin] + bytes(end - begin) + data[end:]
    (damage,) = medium.damage
    assert (damage.first_sector, damage.sectors) == (lost.start * 64, len(lost) * 64)
    assert medium.is_damaged(end - 1, 1)
    assert not medium.is_damaged(0, begin)
    assert any(says in problem for problem in medium.problems)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda segments: segments[1:], "The first file of this image is missing"),
        (lambda segments: [*segments, segments[2]], "are both number 3"),
        (lambda segments: [segments[0], ewf(content(9 * CHUNK), per_segment=3, set_id=bytes([9] * 16))[1]],
         "is of another image"),
    ],
)  # fmt: skip
def test_files_that_are_not_one_image(change: object, says: str) -> None:
    """An image is refused if its files do not belong together."""
    with pytest.raises(Unreadable, match=says):
        opened(change(ewf(content(9 * CHUNK), per_segment=3)))  # type: ignore[operator]


def test_an_image_that_is_cut_off() -> None:
    """What the last whole table names is read, and the whole chunks behind it."""
    data = random.Random(5).randbytes(150 * CHUNK)
    segments = ewf(data, per_table=32)
    del segments[0].data[-1_000_000:]
    medium = opened(segments)
    found = medium.read_at(0, len(data))
    assert 96 * CHUNK < medium.end < 128 * CHUNK
    assert found == data[: medium.end] + bytes(len(data) - medium.end)
    assert "a.E01 is cut off: its end is missing." in medium.problems
    assert verified(medium).result == "no stored digest"


@pytest.mark.parametrize("base", [3 << 30, 5 << 30])
def test_chunks_beyond_2_gib_of_a_file(base: int) -> None:
    """A table has a base, so that its entries reach any place of a large file."""
    data = content(20 * CHUNK)
    (segment,) = ewf(data)
    at = section(segment, "sectors") - 76

    def read(offset: int, length: int) -> bytes:
        """The file with a hole before its sectors."""
        if offset < at:
            return moved[offset : min(at, offset + length)]
        return moved[at + offset - base : at + offset - base + length] if offset >= base else bytes(length)

    moved = bytearray(segment.data)
    _shift(moved, segment, at, base - at)
    medium = open_medium([SegmentFile("a.E01", len(moved) + base - at, lambda offset, n: bytes(read(offset, n)))])
    assert (medium.read_at(0, len(data)), medium.problems) == (data, [])


@pytest.mark.parametrize("base", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_table_whose_base_is_nonsense(base: int) -> None:
    """Its copy is used; if that is the same, its chunks are damaged."""
    data = content(20 * CHUNK)
    (segment,) = ewf(data)
    for name, damage in (("table", 0), ("table2", 20 * CHUNK // SECTOR)):
        at = section(segment, name)
        struct.pack_into("<Q", segment.data, at + 8, base)
        struct.pack_into("<L", segment.data, at + 20, adler32(segment.data[at : at + 20]))
        medium = open_medium([in_memory("a.E01", bytes(segment.data))])
        assert medium.read_at(0, 9) == (bytes(9) if damage else data[:9])
        assert sum(one.sectors for one in medium.damage) == damage


def _shift(data: bytearray, segment: Segment, at: int, by: int) -> None:
    """Rewrite what names a place behind `at`, as if `by` bytes were before it."""
    for name, start in segment.sections:
        following = int.from_bytes(data[start + 16 : start + 24], "little")
        if following >= at:
            struct.pack_into("<Q", data, start + 16, following + by)
        struct.pack_into("<L", data, start + 72, adler32(data[start : start + 72]))
        if name in ("table", "table2"):
            struct.pack_into("<Q", data, start + 76 + 8, int.from_bytes(data[start + 84 : start + 92], "little") + by)
            struct.pack_into("<L", data, start + 76 + 20, adler32(data[start + 76 : start + 96]))


def test_offsets_that_take_all_32_bits() -> None:
    """EnCase 6.7 writes offsets over 2 GiB into 32 bits; those fall below the ones before if the flag is taken off."""
    import numpy as np

    assert overflow(np.array([10, 20, 30])) is None
    assert overflow(np.array([(1 << 31) - 10, 5, 100])) == 1


@pytest.mark.parametrize("seed", range(300))
def test_no_damage_is_taken_for_the_disk(seed: int) -> None:
    """Whatever is done to the files: every byte that is not the disk's is known to be damaged, or the image is
    refused."""
    some = random.Random(seed)
    data = content(20 * CHUNK)
    segments = ewf(data, per_segment=some.choice([7, 100]), per_table=some.choice([3, 64]))
    for _ in range(some.choice([1, 1, 5, 40])):
        segment = some.choice(segments)
        at = some.randrange(13, len(segment.data))
        match some.randrange(4):
            case 0:
                segment.data[at] = some.randrange(256)
            case 1:
                segment.data[at : at + 200] = bytes(len(segment.data[at : at + 200]))
            case 2:
                del segment.data[at : at + some.randrange(1, 2000)]
            case 3:
                segment.data[at:at] = some.randbytes(some.randrange(1, 600))
    try:
        medium = opened(segments)
    except Unreadable:
        return
    found = medium.read_at(0, medium.size)
    for at in range(0, len(data), SECTOR):
        if found[at : at + SECTOR] != data[at : at + SECTOR]:
            assert medium.is_damaged(at, SECTOR), at
    if not medium.damage and not medium.problems:
        assert found == data


def test_a_raw_image_in_several_files() -> None:
    """The files follow each other."""
    data = content(100_000)
    parts = [in_memory(f"a.{n:03}", data[at : at + 33_000]) for n, at in enumerate(range(0, len(data), 33_000), 1)]
    medium = open_medium(parts)
    assert isinstance(medium, Raw)
    assert medium.read_at(0, 1 << 20) == data
    assert medium.read_at(32_990, 33_030) == data[32_990:66_020]


def test_a_raw_image_on_a_failing_disk() -> None:
    """What cannot be read is zeros, and known to 4 KiB; an image that has changed is an error."""
    data = content(200_000)

    def read(offset: int, length: int) -> bytes:
        if offset <= 70_000 < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return data[offset : offset + length]

    medium = Raw([SegmentFile("a.raw", len(data), read)])
    found = medium.read_at(0, len(data))
    (damage,) = medium.damage
    start, stop = damage.first_sector * 512, (damage.first_sector + damage.sectors) * 512
    assert start <= 70_000 < stop
    assert stop - start <= 4096
    assert found == data[:start] + bytes(stop - start) + data[stop:]
    assert medium.is_damaged(70_000, 1)
    assert not medium.is_damaged(stop + 4096, 10)

    def changed(*_: int) -> bytes:
        raise OSError("changed since it was listed")

    with pytest.raises(OSError, match="changed"):
        Raw([SegmentFile("a.raw", 100, changed)]).read_at(0, 10)


def items(*names: str) -> list[Item]:
    """Files of these names."""
    return [Item(name, 1, "1", name) for name in names]


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["m.E01", "m.E02", "m.E03"], ["m.E01 m.E02 m.E03"]),
        (["m.E03", "m.E01", "m.txt", "m.E02", "m.E01.txt"], ["m.txt", "m.E01 m.E02 m.E03 m.E01.txt"]),
        (["m.E02", "m.E01.txt", "m.E02.txt"], ["m.E02", "m.E01.txt", "m.E02.txt"]),
        (["NTUSER.DAT", "ntuser.dat.LOG1", "ntuser.dat.LOG2"], ["NTUSER.DAT ntuser.dat.LOG1 ntuser.dat.LOG2"]),
        (
            ["a/SYSTEM", "a/system", "a/SYSTEM.LOG1", "b/SAM.LOG"],
            ["a/SYSTEM", "a/system", "a/SYSTEM.LOG1", "b/SAM.LOG"],
        ),
        (["m.E01", "m.E03"], ["m.E01 m.E03"]),
        (["m.E02"], ["m.E02"]),
        (["a/m.E01", "b/m.E02"], ["a/m.E01", "b/m.E02"]),
        (["m.e01", "m.e02", "n.s01", "n.s02"], ["m.e01 m.e02", "n.s01 n.s02"]),
        (["m.001", "m.002", "m.004"], ["m.001 m.002", "m.004"]),
        (["m.000", "m.001"], ["m.000 m.001"]),
        (["m.E01", "m.exe", "m.log"], ["m.E01", "m.exe", "m.log"]),
        (["notes.txt", "m.raw", "photo.100"], ["notes.txt", "m.raw", "photo.100"]),
    ],
)
def test_files_that_are_one_image_by_their_names(names: list[str], images: list[str]) -> None:
    """Segments are one item, and no other file is taken for one."""
    found = [" ".join(item.path for item in group) for group in grouped(items(*names))]
    assert sorted(found) == sorted(images)


@given(st.sampled_from(["m.E01", "m.e01", "m.s01", "m.001"]), st.integers(2, 300))
@settings(max_examples=60, deadline=None)
def test_any_number_of_files(first: str, count: int) -> None:
    """An image of many files is one item in the order of its segments, however the listing is ordered."""
    names = [segment_name(first, number) for number in range(1, count + 1)]
    mixed = random.Random(count).sample(names, count)
    assert [[item.path for item in group] for group in grouped(items(*mixed))] == [names]


@pytest.mark.parametrize("build", [mbr, extended, gpt])
def test_partitions(build: object) -> None:
    """Volumes are found by MBR, by extended boot records and by GPT."""
    volume = windows_volume()
    disk = build(volume, volume, volume)  # type: ignore[operator]
    found = volumes(Raw([in_memory("a.raw", disk)]))
    assert [(one.name, one.size, one.system) for one in found] == [(f"p{n}", len(volume), "NTFS") for n in (1, 2, 3)]
    assert all(disk[one.start : one.start + 512] == volume[:512] for one in found)


def test_a_volume_without_a_partition_table() -> None:
    """A volume by itself is p1."""
    (found,) = volumes(Raw([in_memory("a.raw", windows_volume())]))
    assert (found.name, found.start, found.system) == ("p1", 0, "NTFS")


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("at", ["first", "entries"])
def test_a_damaged_gpt_has_a_copy(sector: int, at: str) -> None:
    """The copy at the disk's end is used if the first table or its entries are damaged, with sectors of any size."""
    disk = bytearray(gpt(windows_volume(), sector=sector))
    where = sector + 30 if at == "first" else 2 * sector + 40
    disk[where] ^= 1
    problems: list[str] = []
    (found,) = volumes(Raw([in_memory("a.raw", bytes(disk))]), problems)
    assert (found.name, found.system, found.label) == ("p1", "NTFS", "volume 0")
    assert problems == [
        "Its partition table (GPT) is damaged, or was wiped; the copy of it at the disk's end was used."
    ]
    disk[len(disk) - sector] ^= 1
    assert volumes(Raw([in_memory("a.raw", bytes(disk))]), problems) == []
    assert problems[1:] == ["Its partition table (GPT) is damaged, and so is the copy of it."]


def test_a_table_that_was_left_at_the_end_of_a_disk() -> None:
    """The copy of a GPT that a disk had before does not hide the partitions that it has."""
    before, disk = gpt(windows_volume("mesa")), mbr(windows_volume(), gap=256)
    disk = disk.ljust(len(before) - 40 * SECTOR, b"\0")[: len(before) - 40 * SECTOR] + before[-40 * SECTOR :]
    problems: list[str] = []
    assert [one.start for one in volumes(Raw([in_memory("a.raw", disk)]), problems)] == [256 * SECTOR]
    assert problems == []


def test_a_chain_of_boot_records_that_is_a_circle() -> None:
    """A circle of extended boot records ends."""
    disk = bytearray(extended(windows_volume()[: 1 << 20], gap=64))
    at = 64 * SECTOR
    disk[at + 462 : at + 478] = bytes([0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
    assert len(volumes(Raw([in_memory("a.raw", bytes(disk))]))) == 1


@pytest.mark.parametrize("seed", range(60))
def test_partition_tables_of_noise(seed: int) -> None:
    """Volumes never reach beyond the disk, whatever the table says."""
    some = random.Random(seed)
    disk = bytearray(some.choice([mbr, extended, gpt])(bytes(1 << 16), bytes(1 << 16)))
    for _ in range(20):
        disk[some.randrange(440, 1200)] = some.randrange(256)
    disk[510:512] = b"\x55\xaa"
    try:
        found = volumes(Raw([in_memory("a.raw", bytes(disk))]))
    except Unreadable as error:
        assert "dynamic disk" in str(error)  # noqa: PT017
        return
    assert all(0 <= one.start < len(disk) and one.start + one.size <= len(disk) for one in found)


def test_an_image_of_an_image_is_read_by_its_kind() -> None:
    """An EnCase image that is called .raw is one all the same."""
    assert isinstance(open_medium([in_memory("a.raw", bytes(ewf(content(CHUNK))[0].data))]), Ewf)


def test_the_table_of_partitions_comes_before_what_was_left_behind() -> None:
    """What another file system has left behind the first sector does not hide the partitions."""
    disk = bytearray(mbr(windows_volume()))
    disk[0x438:0x43A] = b"\x53\xef"
    (found,) = volumes(Raw([in_memory("a.raw", bytes(disk))]))
    assert found.system == "NTFS"


def test_names_of_either_case_are_of_two_images(tmp_path: Path) -> None:
    """An image is the file that was named, though one of the other case is beside it."""
    upper = write_ewf(tmp_path / "disk.E01", ewf(content(9 * CHUNK), per_segment=3))
    lower = write_ewf(tmp_path / "disk.e01", ewf(content(6 * CHUNK), per_segment=3))
    assert [Path(name) for name in with_siblings(str(upper[0]))] == upper
    assert [Path(name) for name in with_siblings(str(lower[0]))] == lower


def test_digests_that_cannot_be_read_are_a_problem() -> None:
    """Stored digests whose checksum is wrong are told, and do not pass for none."""
    segments = ewf(content(9 * CHUNK))
    for name in ("hash", "digest"):
        flipped(segments[0], section(segments[0], name) + 3)
    medium = opened(segments)
    assert medium.stored == {}
    assert sum("has a wrong checksum" in problem for problem in medium.problems) == 2


def test_an_image_that_claims_too_much() -> None:
    """A disk is not larger than its chunks, whatever its header says."""
    (segment,) = ewf(content(9 * CHUNK))
    at = section(segment, "volume")
    segment.data[at + 16 : at + 24] = (1 << 62).to_bytes(8, "little")
    segment.data[at + 1048 : at + 1052] = adler32(segment.data[at : at + 1048]).to_bytes(4, "little")
    medium = opened([segment])
    assert medium.size == 9 * CHUNK
    assert any("It claims" in problem for problem in medium.problems)


def test_a_disk_whose_chunks_are_all_damaged() -> None:
    """Damage takes a byte for each chunk, and what touches is one range, whatever the order of reading."""
    data = bytes(range(256)) * 2 * 40_000
    (segment,) = ewf(data, chunk=512, per_table=1 << 16, deflated=lambda _: False)
    begin = section(segment, "sectors")
    for number in range(40_000):
        segment.data[begin + 516 * number] ^= 1
    medium = opened([segment])
    tracemalloc.start()
    for at in (len(data) // 2, 0):
        assert not any(medium.read_at(at, len(data) // 2))
    assert tracemalloc.get_traced_memory()[0] < 2_000_000
    tracemalloc.stop()
    (damage,) = medium.damage
    assert damage == (0, 40_000, "a.E01", begin, "its checksum is wrong")


def test_very_many_ranges_of_damage() -> None:
    """The first ranges are told one by one; how many more there are, and where, is told for the rest."""
    data = bytes(range(256)) * 2 * 24_000
    (segment,) = ewf(data, chunk=512, per_table=1 << 16, deflated=lambda _: False)
    begin = section(segment, "sectors")
    for number in range(0, 24_000, 2):
        segment.data[begin + 516 * number] ^= 1
    medium = opened([segment])
    found = medium.read_at(0, len(data))
    damage = medium.damage
    assert len(damage) == 10_000
    assert damage[9_998] == (19_996, 1, "a.E01", begin + 516 * 19_996, "its checksum is wrong")
    assert damage[9_999][:2] == (19_998, 4_001)
    assert damage[9_999].why == "2,001 more ranges in these sectors are damaged"
    assert all(medium.is_damaged(512 * number, 512) == (number % 2 == 0) for number in range(24_000))
    assert found[512:1024] == data[512:1024]


def test_damage_of_a_failing_disk_that_is_read_again() -> None:
    """Ranges that overlap or touch are one, in whatever order they are found; those of two files are two."""
    some = random.Random(1)
    medium = Raw([])
    for number in some.sample(range(200), 200):
        medium.note(4096 * number, 4096 + some.choice([0, 512]), "a", 4096 * number, "it cannot be read")
        assert medium.is_damaged(4096 * number + 10, 1)
    medium.note(4096 * 199 + 4608, 4096, "b", 0, "it cannot be read")
    first, *rest = medium.damage
    assert first[:4] == (0, 200 * 8 + rest[0].first_sector - 1600, "a", 0)
    assert [damage.segment for damage in rest] == ["b"]


def test_a_constant_chunk_that_was_changed_is_damaged() -> None:
    """What is kept of a short chunk is its content for these very bytes; one that differs in a bit is damaged."""
    data = bytes(20 * CHUNK)
    segments = ewf(data, deflated=lambda _: True)
    flipped(segments[0], chunk_at(segments[0], 7))
    medium = opened(segments)
    assert medium.read_at(0, len(data)) == data
    assert [(one.first_sector, one.sectors) for one in medium.damage] == [(7 * 64, 64)]
