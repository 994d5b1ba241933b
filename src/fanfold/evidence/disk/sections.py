r"""The files of an EnCase image (EWF: .E01, .E02, ... and SMART's .s01): what their sections say.

    ┌ E01 ─────────────────────────────────────────────────────┐ ┌ E02 ─────────────────────────────┐
    │ head │ header2 │ header │ volume │ sectors │ table │ next │ │ head │ data │ sectors │ ... │ done │
    └──────────────────────────────────────────────────────────┘ └──────────────────────────────────┘

A disk is cut into chunks, 32 KiB as a rule, each deflated or stored with a checksum. `sectors` holds them, and `table`
says where each begins; `table2` is a copy of it. Every section begins with its name, and says where the next begins.

Format: libyal's "Expert Witness Compression Format (EWF)", sections 2 to 4.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from zlib import adler32, decompressobj
from zlib import error as ZlibError

from fanfold.evidence.disk.medium import SegmentFile, Unreadable
from fanfold.evidence.disk.raw import Raw

SIGNATURE = b"EVF\x09\x0d\x0a\xff\x00"
"""The first bytes of every file of an image."""

_HEAD = struct.Struct("<8sBHH")
_SECTION = struct.Struct("<16sQQ40xL")
_VOLUME = 1052  # bytes of a section `volume`
_TABLE = struct.Struct("<L4xQ4xL")
_TEXT = 1 << 20  # bytes of an unpacked header at most
_MOST_RANGES = 1 << 16  # ranges of unread sectors that are kept
_STRIDE = 1 << 20  # bytes of a read while looking for a section
_NAMES = rb"header2?|volume|disk|data|sectors|table2?|next|done|hash|digest|error2|session|xheader|xhash"
_NAMED = re.compile(rb"(?:" + _NAMES + rb")\0[\0]{4}")

GAP = "gap"
"""Stands for sections that were not found, since the head of one is damaged."""


class Section(NamedTuple):
    """A section of a file."""

    name: str
    start: int
    """Bytes from the start of the file to its content."""
    size: int
    """Bytes of its content."""


@dataclass
class Segment:
    """One file of an image."""

    file: SegmentFile
    """What of it cannot be read is zeros: what is not a chunk has a checksum, and much of it a copy."""
    number: int
    """1 for the first."""
    given: SegmentFile
    """The same file, as it was given."""
    sections: list[Section] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ended_by(self) -> str:
        """`next` if another file follows, `done` if none does; empty if the end of this one is missing."""
        last = self.sections[-1].name if self.sections else ""
        return last if last in ("next", "done") else ""

    def named(self, *names: str) -> Iterator[Section]:
        """The sections of these names, in order."""
        return (section for section in self.sections if section.name in names)

    def content(self, section: Section, most: int = _TEXT) -> bytes:
        """The bytes of a section, or the first of them."""
        return self.file.read(section.start, min(section.size, most))

    def end_after(self, offset: int) -> int:
        """Where the next section, or the file, ends what begins at `offset`."""
        at = bisect_right(self.sections, offset, key=lambda section: section.start - _SECTION.size)
        return self.sections[at].start - _SECTION.size if at < len(self.sections) else self.file.size


def segment_of(file: SegmentFile) -> Segment:
    """A file of an image, with its sections. Raises Unreadable for any other file."""
    head = file.read(0, _HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(SIGNATURE):
        raise Unreadable(f"{file.name} is not a part of an EnCase image: it begins with {head[:8].hex(' ')}.")
    segment = Segment(replace(file, read=Raw([file]).read_at), _HEAD.unpack(head)[2], file)
    at: int | None = _HEAD.size
    while at is not None:
        at = _add_section(segment, at)
    if not segment.ended_by:
        segment.problems.append(f"{file.name} is cut off: its end is missing.")
    _name_volume(segment)
    return segment


def _name_volume(segment: Segment) -> None:
    """Name the section `volume`, or `data`, whose head is damaged: it comes before all chunks, and has a known size."""
    for gap, following in pairwise(segment.sections):
        if gap.name in ("volume", "disk", "data", "sectors", "table"):
            return
        if gap.name == GAP and following.start - gap.start == _VOLUME + _SECTION.size:
            segment.sections[segment.sections.index(gap)] = Section("volume", gap.start, _VOLUME)
            return


def _add_section(segment: Segment, at: int) -> int | None:
    """Read the section at `at`; returns where the next one begins, or None after the last."""
    raw = segment.file.read(at, _SECTION.size) if at < segment.file.size else b""
    if len(raw) < _SECTION.size:
        return None
    name, following, size, checksum = _SECTION.unpack(raw)
    if adler32(raw[:-4]) != checksum:
        found = _searched(segment.file, at + 1)
        where = f"goes on at byte {found:,}" if found is not None else "does not go on"
        segment.problems.append(f"{segment.file.name} is damaged at byte {at:,}, where a section begins; it {where}.")
        segment.sections.append(Section(GAP, at + _SECTION.size, 0))
        return found
    start, title = at + _SECTION.size, name.rstrip(b"\0").decode("ascii", "replace")
    stop = min(following if following > at else start, segment.file.size)
    segment.sections.append(Section(title, start, max(0, max(stop, min(at + size, segment.file.size)) - start)))
    return None if title in ("next", "done") or following <= at else following


def _searched(file: SegmentFile, at: int) -> int | None:
    """Where the next section with a right checksum begins, from `at` on."""
    for begin in range(at, file.size, _STRIDE):
        data = file.read(begin, _STRIDE + _SECTION.size)
        for found in _NAMED.finditer(data):
            raw = data[found.start() : found.start() + _SECTION.size]
            if len(raw) == _SECTION.size and adler32(raw[:-4]) == _SECTION.unpack(raw)[3]:
                return begin + found.start()
    return None


class Table(NamedTuple):
    """Where some chunks lie: what one pair of sections `table` and `table2` says."""

    segment: int
    """The index of its file."""
    first: int
    """The number of its first chunk."""
    chunks: int
    copies: tuple[Section, ...]
    """The sections, each of which has the entries."""
    base: int
    """What the entries are relative to: bytes from the start of the file."""


def tables_of(segment: Segment, index: int) -> Iterator[Table | None]:
    """The tables of a file in order, not yet numbered; None where one may be missing.

    Args:
        segment: The file.
        index: Its index among the files of the image.
    """
    for pair in _pairs(segment):
        heads = [head for section in pair if (head := _table_head(segment, section))]
        if heads:
            chunks, base = heads[0]
            yield Table(index, 0, chunks, tuple(pair), base)
        else:
            yield None
    if not segment.ended_by:
        yield None


def _pairs(segment: Segment) -> list[list[Section]]:
    """Each table with its copy, and gaps: also where the table of some sectors is missing."""
    pairs: list[list[Section]] = []
    table: list[Section] = []  # the last one
    before = ""
    for section in segment.sections:
        if before == "sectors" and section.name not in ("table", "table2", GAP):
            pairs.append([section._replace(name=GAP, size=0)])
        before = section.name
        if section.name == "table2" and table and (pairs[-1] is table or _is_copy(segment, section, table[0])):
            table.append(section)
        elif section.name in ("table", "table2", GAP):
            pairs.append([section])
            table = pairs[-1] if section.name == "table" else table
    return pairs


def _is_copy(segment: Segment, section: Section, table: Section) -> bool:
    """Whether a copy behind a gap is that of this table, and not of one in the gap."""
    return section.size == table.size and segment.content(section, 1 << 20) == segment.content(table, 1 << 20)


def _table_head(segment: Segment, section: Section) -> tuple[int, int] | None:
    """The number of entries and their base, if the checksum is right."""
    raw = segment.content(section, _TABLE.size)
    if len(raw) < _TABLE.size:
        return None
    count, base, checksum = _TABLE.unpack(raw)
    is_right = adler32(raw[:-4]) == checksum and count <= section.size // 4 and base <= segment.file.size
    return (count, base) if is_right else None


def entries_of(segment: Segment, table: Table, is_smart: bool) -> bytes:
    """The entries of a table, 4 bytes for each chunk. Those of the copy, if their checksum is wrong; empty if both are.

    SMART's have no checksum: the chunks follow.
    """
    length = 4 * table.chunks
    for section in table.copies:
        raw = segment.file.read(section.start + _TABLE.size, length + 4)
        entries, checksum = raw[:length], raw[length:]
        if len(entries) == length and (is_smart or adler32(entries) == int.from_bytes(checksum, "little")):
            return entries
    return b""


FIELDS = {
    "a": "description",
    "c": "case",
    "n": "evidence",
    "e": "examiner",
    "t": "notes",
    "av": "tool",
    "ov": "os",
    "m": "acquired",
    "u": "system_date",
    "md": "model",
    "sn": "serial",
    "l": "label",
}
"""The fields of the sections `header` and `header2`, as fanfold calls them."""


def about(segment: Segment) -> Mapping[str, str]:
    """What the acquirer wrote down: case, examiner, tool, dates and so on, as it is stored."""
    found: dict[str, str] = {}
    for section in segment.named("header2", "header"):
        try:
            found = _fields(decompressobj().decompress(segment.content(section), _TEXT)) | found
        except ZlibError:
            segment.problems.append(f"{segment.file.name}: the section '{section.name}' cannot be unpacked.")
    return found


def _fields(raw: bytes) -> dict[str, str]:
    """The fields of a header: a line of letters, and below it a line of values, between tabs."""
    text = raw.decode("utf-16", "replace") if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else raw.decode("cp1252", "replace")
    lines = text.replace("\r", "").split("\n")
    named = zip(lines[2].split("\t"), lines[3].split("\t"), strict=False) if len(lines) > 3 else ()
    return {FIELDS[letter]: value for letter, value in named if letter in FIELDS and value.strip()}


def acquired_at(stored: str) -> tuple[datetime | None, bool]:
    """The time that a field `acquired` stands for, and whether its zone is known.

    Newer tools write seconds since 1970; older ones write the date of their machine, in no zone: 2021 5 23 16 29 49.
    """
    try:
        numbers = [int(part) for part in stored.split()]
        if len(numbers) == 1:
            return datetime.fromtimestamp(numbers[0], UTC), True
        return datetime(*numbers[:6]), False  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError, OSError):
        return None, False


def stored_digests(segment: Segment) -> dict[str, str]:
    """The MD5 and the SHA-1 of the whole disk that the acquirer stored, each if its checksum is right."""
    found: dict[str, str] = {}
    for section in segment.named("digest", "hash"):
        raw = segment.content(section)
        length = 80 if section.name == "digest" else 36
        if len(raw) < length or adler32(raw[: length - 4]) != int.from_bytes(raw[length - 4 : length], "little"):
            segment.problems.append(f"{segment.file.name}: the section '{section.name}' has a wrong checksum.")
            continue
        if any(raw[:16]):
            found.setdefault("md5", raw[:16].hex())
        if section.name == "digest" and any(raw[16:36]):
            found["sha1"] = raw[16:36].hex()
    return found


def unread_sectors(segment: Segment) -> Iterator[tuple[int, int]]:
    """The sectors that the acquirer could not read from the disk: the first and the number, for each range."""
    for section in segment.named("error2"):
        raw = segment.content(section, 520 + 8 * _MOST_RANGES)
        count = min(int.from_bytes(raw[:4], "little"), max(0, len(raw) - 520) // 8)
        yield from struct.iter_unpack("<LL", raw[520 : 520 + 8 * count])
