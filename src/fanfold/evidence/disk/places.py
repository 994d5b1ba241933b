"""Where the chunks of an EnCase image lie in a file of it, and what is in one."""

from io import BufferedReader
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from fanfold.evidence.disk.library import Reader
from fanfold.evidence.disk.sections import Section, Segment, Table, entries_of

_BROKEN: type[Exception] = isal_zlib.error  # type: ignore[assignment] # its stubs take the class for an instance
_BUFFER = 4 << 20  # bytes that are read at once
_SPARE = 1 << 10  # bytes that a deflated chunk may take more than twice its content
_FLAG = np.uint32(1 << 31)  # of an entry whose chunk is deflated


class Places(NamedTuple):
    """Where chunks lie in their file, a value for each."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    deflated: npt.NDArray[np.bool_]


def places_of(segment: Segment, table: Table, chunk: int, is_smart: bool) -> Places | None:
    """Where the chunks of a table lie in its file, and which are deflated; None if both copies of it are damaged.

    `chunk`: bytes of a chunk.
    """
    raw = entries_of(segment, table, is_smart)
    if not raw and table.chunks:
        return None
    entries = np.frombuffer(raw, "<u4")
    starts = (entries & ~_FLAG).astype(np.int64)
    deflated = (entries & _FLAG) != 0
    if (beyond := overflow(starts)) is not None:
        starts[beyond:], deflated[beyond:] = entries[beyond:], False
    starts += table.base
    # The last one ends where the next section begins: `table`, or in SMART's files what follows it.
    last = segment.end_after(int(starts[-1])) if len(starts) else 0
    ends = np.append(starts[1:], last)
    is_backwards = ends < starts
    ends[is_backwards] = starts[is_backwards] + chunk + 4
    return Places(starts, ends, deflated)


def walked(segment: Segment, section: Section, chunk: int) -> Places:
    """Where chunks lie that no table names: one behind the other, each confirmed by its own checksum.

    They end at the first one that is damaged, or is shorter than `chunk` bytes.
    """
    found: list[tuple[int, int, bool]] = []
    file, at, stop = BufferedReader(Reader(segment.file), _BUFFER), section.start, section.start + section.size
    while at < stop:
        file.seek(at)
        raw = file.read(min(stop - at, 2 * chunk + _SPARE))
        is_stored = is_sound(raw, chunk)
        length = chunk + 4 if is_stored else _deflated_length(raw, chunk)
        if not length:
            break
        found.append((at, at + length, not is_stored))
        at += length
    starts, ends, deflated = zip(*found, strict=True) if found else ((), (), ())
    return Places(np.array(starts, np.int64), np.array(ends, np.int64), np.array(deflated, np.bool_))


def _deflated_length(raw: bytes, chunk: int) -> int:
    """Bytes of the deflated chunk that is here; 0 if none is."""
    inflater = isal_zlib.decompressobj()
    try:
        data = inflater.decompress(raw, chunk + 1)
    except _BROKEN:
        return 0
    return len(raw) - len(inflater.unused_data) if inflater.eof and len(data) == chunk else 0


def overflow(starts: npt.NDArray[np.int64]) -> int | None:
    """The first entry beyond 2 GiB of a file of EnCase 6.7, which has no flag: its offset takes all 32 bits."""
    falls = np.flatnonzero(np.diff(starts) < 0)
    return int(falls[0]) + 1 if len(falls) else None


def is_sound(raw: bytes, length: int) -> bool:
    """Whether the checksum behind a stored chunk of this length is right."""
    checksum = raw[length : length + 4]
    return len(checksum) == 4 and isal_zlib.adler32(raw[:length]) == int.from_bytes(checksum, "little")


def inflated(raw: bytes, most: int) -> bytes:
    """What a deflated chunk holds, of at most so many bytes; empty if it is damaged: its end has a checksum, too."""
    inflater = isal_zlib.decompressobj()
    try:
        data = inflater.decompress(raw, most + 1)
    except _BROKEN:
        return b""
    return data if inflater.eof else b""
