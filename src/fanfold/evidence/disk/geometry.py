"""How the disk in an EnCase image is cut into chunks: as its files say, or as the chunks themselves tell.

Format: libyal's "Expert Witness Compression Format (EWF)", sections 3.4 (volume), 3.5 (disk) and 3.6 (data).
"""

import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from zlib import adler32

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.disk.places import Places, inflated, is_sound, places_of
from fanfold.evidence.disk.sections import Segment, Table, tables_of

_VOLUME = struct.Struct("<4xLLLQ40x16s968xL")  # 1,052 bytes
_SMART = struct.Struct("<4xLLLL0s70xL")  # 94 bytes; it has no set id
_LARGEST = 16 << 20  # bytes of a chunk: more is nonsense
_SECTOR = 512  # bytes, where nothing tells
_LOOKED_AT = 16  # chunks that tell how long they are


class Geometry(NamedTuple):
    """How a disk is cut into chunks."""

    chunks: int
    chunk_sectors: int
    sector: int
    """Bytes."""
    sectors: int
    set_id: bytes
    """The same in all files of an image; empty in some old ones."""
    is_smart: bool


def geometry_of(segment: Segment) -> Geometry | None:
    """What a file says of the disk, if it does."""
    for section in segment.named("volume", "disk", "data"):
        raw = segment.content(section)
        is_smart = len(raw) < _VOLUME.size
        layout = _SMART if is_smart else _VOLUME
        if len(raw) < layout.size:
            continue
        chunks, chunk_sectors, sector, sectors, set_id, checksum = layout.unpack_from(raw)
        if adler32(raw[: layout.size - 4]) == checksum and 0 < chunk_sectors * sector <= _LARGEST:
            return Geometry(chunks, chunk_sectors, sector, sectors, set_id.strip(b"\0"), is_smart)
        segment.problems.append(f"{segment.file.name}: the section '{section.name}' has a wrong checksum.")
    return None


def geometry_of_all(segments: Sequence[Segment]) -> Geometry:
    """How the disk is cut. If its first file does not say so, another one may; else it is measured.

    Raises Unreadable if nothing tells.
    """
    first = segments[0]
    if found := geometry_of(first):
        return found
    lost = f"{first.file.name} does not say how large the disk is: its section 'volume' is damaged, or missing"
    measured, is_all = _measured(segments)
    for segment in segments[1:]:
        if found := geometry_of(segment):
            if measured and measured.chunk_sectors * _SECTOR != found.chunk_sectors * found.sector:
                raise Unreadable(f"{lost}, and {segment.file.name} is of another image: its chunks have another size.")
            first.problems.append(f"{lost}. {segment.file.name} says it.")
            return found
    if not measured:
        raise Unreadable(
            f"{lost}. No other file of the image says it, and no chunk with its place is whole, to tell it by. "
            "If the image has more files, put them beside this one, and scan again."
        )
    size = measured.chunk_sectors * _SECTOR
    rest = "" if is_all else " What comes behind a gap in them has no place that is known, and is not read."
    first.problems.append(
        f"{lost}. So the chunks that its tables name were counted and measured: {measured.chunks:,} of {size:,} bytes, "
        f"in sectors that are taken to have {_SECTOR} bytes.{rest}"
    )
    return measured


def _measured(segments: Sequence[Segment]) -> tuple[Geometry | None, bool]:
    """What the chunks tell, up to the first gap in their tables, if they do; and whether these are all chunks.

    Not those of SMART's files, whose tables have no checksums.
    """
    tables, is_all = _unbroken(segments)
    total = sum(table.chunks for table in tables)
    lengths = Counter[int]()
    for table in tables:
        segment = segments[table.segment]
        if places := places_of(segment, table, 0, is_smart=False):
            some = range(min(_LOOKED_AT, table.chunks if table is not tables[-1] else max(1, table.chunks - 1)))
            lengths.update(filter(None, (_length(segment, places, number) for number in some)))
        if lengths:
            break
    if not lengths:
        return None, is_all
    chunk = -(-lengths.most_common(1)[0][0] // _SECTOR)
    last = _last_length(segments[tables[-1].segment], tables[-1])
    sectors = (total - 1) * chunk + min(chunk, -(-last // _SECTOR) or chunk)
    return Geometry(total, chunk, _SECTOR, sectors, b"", is_smart=False), is_all


def _unbroken(segments: Sequence[Segment]) -> tuple[list[Table], bool]:
    """The tables up to the first gap, and whether there is none."""
    found: list[Table] = []
    for index, segment in enumerate(segments):
        for table in tables_of(segment, index):
            if table is None or segment.number != index + 1:
                return found, False
            found.append(table)
    return found, segments[-1].ended_by == "done"


def _last_length(segment: Segment, table: Table) -> int:
    """Bytes of the last chunk of a table; 0 if it is damaged."""
    places = places_of(segment, table, 0, is_smart=False)
    return _length(segment, places, table.chunks - 1) if places and table.chunks else 0


def _length(segment: Segment, places: Places, number: int) -> int:
    """Bytes of a chunk's content; 0 if it is damaged."""
    start, end = int(places.starts[number]), int(places.ends[number])
    raw = segment.file.read(start, min(end - start, _LARGEST + 4))
    if places.deflated[number]:
        return len(inflated(raw, _LARGEST))
    return len(raw) - 4 if is_sound(raw, len(raw) - 4) else 0
