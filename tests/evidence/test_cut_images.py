"""EnCase images that were cut off before the table of their last chunks."""

import random

import pytest

from disk_images import Segment, ewf, flipped, in_memory
from fanfold.evidence.disk import open_medium

CHUNK = 32768


def ends(segment: Segment, sectors: int) -> list[int]:
    """Where the chunks of one of the sections `sectors` end."""
    begin = [start for name, start in segment.sections if name == "sectors"][sectors]
    table = [start for name, start in segment.sections if name == "table"][sectors]
    raw = segment.data[table + 76 + 24 : -4]
    count = int.from_bytes(segment.data[table + 76 : table + 80], "little")
    starts = [begin + (int.from_bytes(raw[4 * n : 4 * n + 4], "little") & 0x7FFFFFFF) for n in range(count)]
    return [*starts[1:], table]


@pytest.mark.parametrize("deflated", [lambda _: True, lambda _: False, lambda number: number % 3 == 0])
@pytest.mark.parametrize("whole", [0, 7, 40])
def test_chunks_without_their_table(deflated: object, whole: int) -> None:
    """Those that are whole are found one by one, behind those of the tables; the rest is known to be missing."""
    data = random.Random(3).randbytes(60 * CHUNK) + bytes(60 * CHUNK) + random.Random(4).randbytes(30 * CHUNK + 512)
    (segment,) = ewf(data, per_table=64, deflated=deflated)  # type: ignore[arg-type]
    del segment.data[ends(segment, 1)[whole] - 10 :]
    medium = open_medium([in_memory("a.E01", bytes(segment.data))])
    known = (64 + whole) * CHUNK
    assert medium.read_at(0, len(data)) == data[:known] + bytes(len(data) - known)
    assert medium.end == known
    found = f"a.E01 has no table of its last {whole:,} chunks. They were found one by one."
    assert (found in medium.problems) == (whole > 0)
    assert f"The files hold {64 + whole:,} of 151 chunks." in medium.problems


def test_a_chunk_without_a_table_is_damaged() -> None:
    """Where the next one begins is then not known, so what stands before it is all."""
    data = random.Random(3).randbytes(64 * CHUNK)
    (segment,) = ewf(data, per_table=64)
    places = ends(segment, 0)
    flipped(segment, places[9] - 20)
    del segment.data[places[30] :]
    medium = open_medium([in_memory("a.E01", bytes(segment.data))])
    assert medium.read_at(0, len(data)) == data[: 9 * CHUNK] + bytes(55 * CHUNK)
