"""EnCase images whose section that says how the disk is cut into chunks is damaged, or missing."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from commands import fanfold
from disk_images import Segment, ewf, flipped, in_memory, mbr, windows_volume, write_ewf
from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.verify import Verification, verifying

CHUNK = 32768
LOST = "a.E01 does not say how large the disk is: its section 'volume' is damaged, or missing"
PLACES = ["head", "content", "both"]


def content(size: int) -> bytes:
    """Bytes that differ everywhere."""
    return b"".join(number.to_bytes(4, "little") for number in range(-(-size // 4)))[:size]


def damaged(segment: Segment, what: str, name: str = "volume") -> None:
    """Damage a section: its head, its content, or both."""
    start = dict(reversed(segment.sections))[name]
    if what in ("head", "both"):
        flipped(segment, start + 20)
    if what in ("content", "both"):
        flipped(segment, start + 76 + 8)


def opened(segments: Sequence[Segment]) -> Medium:
    """The medium in an image's files."""
    return open_medium([in_memory(f"a.E{segment.number:02}", bytes(segment.data)) for segment in segments])


def is_verified(medium: Medium) -> bool:
    """Whether its digests are those that are stored with it."""
    return any(isinstance(step, Verification) and step.result == "match" for step in verifying(medium, 2))


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("size", [1000 * 512, 40 * CHUNK, 512])
@pytest.mark.parametrize("deflated", [lambda _: True, lambda _: False, lambda number: number % 3 == 0])
def test_chunks_tell(what: str, size: int, deflated: object) -> None:
    """Their number and their sizes are those of the disk, and a problem says that they were counted."""
    data = content(size)
    segments = ewf(data, per_table=16, deflated=deflated)  # type: ignore[arg-type]
    damaged(segments[0], what)
    medium = opened(segments)
    assert (medium.size, medium.read_at(0, size), medium.damage) == (size, data, [])
    assert is_verified(medium)
    if what == "head":  # what it says has a checksum of its own
        assert not any(LOST in problem for problem in medium.problems)
        assert any("where a section begins" in problem for problem in medium.problems)
    else:
        chunks, chunk = -(-size // CHUNK), min(CHUNK, size)
        counted = (
            f"were counted and measured: {chunks} of {chunk:,} bytes, in sectors that are taken to have 512 bytes."
        )
        assert any(problem.startswith(LOST) and problem.endswith(counted) for problem in medium.problems)


def test_another_file_says_it() -> None:
    """The section `data` of another file of the image repeats it."""
    data = content(30 * CHUNK + 512)
    segments = ewf(data, per_segment=10)
    damaged(segments[0], "both")
    medium = opened(segments)
    assert (medium.size, medium.read_at(0, len(data))) == (len(data), data)
    assert f"{LOST}. a.E02 says it." in medium.problems
    assert is_verified(medium)


def test_another_file_is_of_another_image() -> None:
    """It is not asked if its chunks have another size than those of the first file."""
    segments = ewf(content(30 * CHUNK), per_segment=10)
    damaged(segments[0], "both")
    other = ewf(content(30 * CHUNK), chunk=4096, per_segment=80)
    with pytest.raises(Unreadable, match="is of another image: its chunks have another size"):
        opened([segments[0], *other[1:]])


@pytest.mark.parametrize("lost", ["tables", "file", "end"])
def test_no_chunk_is_given_a_wrong_place(lost: str) -> None:
    """Where tables are missing, too, only the chunks before them have a known place."""
    data = content(100 * CHUNK)
    segments = ewf(data, per_table=20, per_segment=60)
    for segment, name in zip(segments, ("volume", "data"), strict=True):
        damaged(segment, "both", name)
    known = 20
    if lost == "tables":
        start = [begin for name, begin in segments[0].sections if name in ("table", "table2")][2]
        segments[0].data[start : start + 300] = bytes(300)
    elif lost == "file":
        segments, known = segments[:1], 60
    else:
        del segments[1].data[-200_000:]
        known = 80
    medium = opened(segments)
    assert medium.read_at(0, len(data)) == data[: known * CHUNK]
    assert any("has no place that is known, and is not read." in problem for problem in medium.problems)


def test_nothing_tells() -> None:
    """The error names what is missing, and says what to do."""
    segments = ewf(content(3 * CHUNK))
    damaged(segments[0], "both")
    for name in ("table", "table2"):
        damaged(segments[0], "content", name)
    with pytest.raises(Unreadable, match=f"^{LOST}. No other file of the image says it, and no chunk") as error:
        opened(segments)
    assert str(error.value).endswith("put them beside this one, and scan again.")


@pytest.mark.skipif(not shutil.which("ewfacquire"), reason="needs ewf-tools")
@pytest.mark.parametrize("variant", ["encase1", "encase6", "ftk", "linen6"])
@pytest.mark.parametrize("is_split", [False, True])
def test_images_of_ewfacquire(variant: str, is_split: bool, tmp_path: Path) -> None:
    """The disk is the same without the section of the first file; of old ones, as another file says it."""
    data = content(1_500_160)
    (tmp_path / "disk").write_bytes(data)
    about = ["-C", "c", "-D", "d", "-e", "e", "-E", "1", "-N", "n", "-m", "fixed", "-c", "none", "-u", "-q"]
    target = ["-S", "1MiB" if is_split else "1GiB", "-f", variant, "-t", str(tmp_path / "a"), str(tmp_path / "disk")]
    subprocess.run(["ewfacquire", *about, *target], check=True, capture_output=True, timeout=60)
    first = tmp_path / "a.E01"
    image = bytearray(first.read_bytes())
    at = image.index(b"volume\0")
    image[at : at + 1128] = bytes(1128)
    files = [bytes(image), *(file.read_bytes() for file in sorted(tmp_path.glob("a.E0[2-9]")))]
    medium = open_medium([in_memory(f"a.E{number:02}", some) for number, some in enumerate(files, 1)])
    assert (medium.size, medium.read_at(0, len(data))) == (len(data), data)
    assert is_verified(medium)


def test_a_scan_says_that_the_size_was_measured(tmp_path: Path, database: str) -> None:
    """Logs are found, the problem is printed, and the exit code is 3."""
    segments = ewf(mbr(windows_volume()))
    damaged(segments[0], "both")
    write_ewf(tmp_path / "given" / "a.E01", segments)
    done = fanfold("evidence", "scan", str(tmp_path / "given"), database)
    assert done.returncode == 3
    assert "were counted and measured: " in " ".join(done.stderr.split())
