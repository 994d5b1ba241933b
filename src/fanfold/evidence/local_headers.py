"""The list of files of a zip archive that has lost its own: made up from the headers that stand before each file.

Source: PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.12 to 4.3.16 (the list),
4.5.3 (zip64).
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED

from fanfold.evidence.disk.medium import Unreadable

_LOCAL = struct.Struct("<4s5HL2L2H")
_LISTED = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_PLACE64 = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_FILE, _LIST, _SIZES = b"PK\x03\x04", (b"PK\x01\x02", b"PK\x06\x06", b"PK\x05\x06"), b"PK\x07\x08"
_SIGNATURE = re.compile(b"PK(?:\x03\x04|\x01\x02|\x07\x08)")
_METHODS = frozenset({0, 8, 9, 12, 14, 20, 93, 95, 96, 97, 98, 99})
"""Ways of packing that are known: what begins like a header, and has another, is none."""
_BEHIND, _UTF8 = 0x08, 0x800  # flags: the file's sizes stand behind it; its name is in UTF-8
_WIDE = 0xFFFFFFFF  # a size that stands in the field of zip64
_SHORTEST, _STRIDE = 1 << 14, 8 << 20  # bytes that are searched at once: at first, and at most
_BLOCK = 1 << 16  # bytes that are unpacked at once, to count
_MOST = 4 << 30  # bytes that are counted, unless so many are usual
_MOST_FILES = 2 << 20  # each takes some hundred bytes of memory
_USUAL, _DENSEST = 200, 1032  # bytes that one byte unpacks to: seldom more, and never more

Read = Callable[[int, int], bytes]
"""`read(offset, length)`: fewer bytes at the end only."""


class Found(NamedTuple):
    """A file in the archive."""

    at: int
    """Where its header begins."""
    version: int
    flags: int
    method: int
    time: int
    date: int
    checksum: int
    packed: int
    """Bytes of its content as it stands in the archive."""
    size: int
    name: bytes
    begin: int
    """Where its content begins."""
    missing: int | None = 0
    """Bytes of its content, packed, that are cut off; None if it is cut off, and its size is not known."""
    is_sized: bool = True
    """Whether its sizes stand before it, or behind it."""

    @property
    def stop(self) -> int:
        """Where its content ends."""
        return self.begin + self.packed


class MadeUp(NamedTuple):
    """A list that was made up."""

    content: bytes
    """To be read behind the archive's bytes."""
    is_cut: bool
    """Whether the last file is cut off."""
    problem: str
    """What is wrong with the archive, in sentences."""


def made_up(read: Read, size: int) -> MadeUp | None:
    """The list of an archive of `size` bytes; None if no file in it has a header. Raises Unreadable for too many."""
    found, skipped, at, behind, has_list, are_sized = list[Found](), 0, 0, -1, False, True
    while at < size and not has_list:
        if one := _header(read, at, size, are_sized):
            found.append(one)
            are_sized &= one.is_sized
            if len(found) > _MOST_FILES:
                raise Unreadable(
                    f"This archive has lost the list of its files, of which it has more than {_MOST_FILES:,}. "
                    "Unpack it, and scan the folder."
                )
            at = behind = _next(read, one)
        elif at == behind and read(at, 4) in _LIST:
            has_list = True  # all files came before it
        else:
            begin, at = at, _searched(read, at + 1, size)
            skipped += at - begin
    if not found:
        return None
    return MadeUp(_list_of(found, size), found[-1].missing != 0, " ".join(_sentences(found[-1], skipped, has_list)))


def _sentences(last: Found, skipped: int, has_list: bool) -> Iterator[str]:
    """What is wrong with an archive whose list was made up."""
    yield "The list of files in this archive is missing or damaged, so each file was found by the header before it."
    name = last.name.decode("utf-8" if last.flags & _UTF8 else "cp437", "replace")
    if skipped:
        yield f"{skipped:,} bytes belong to no file that can be recognized, and were not read."
    if last.missing != 0:
        known = "" if last.missing is None else f", and {last.missing:,} are missing"
        yield f"It is cut off within {name}: the first {last.packed:,} bytes of that, as packed, are there{known}."
    if not has_list:
        yield f"Files that came after {name} are missing, if there were any."


def _header(read: Read, at: int, size: int, are_sized: bool) -> Found | None:
    """The file whose header begins here, if one does, and its name is there.

    `are_sized`: whether all files before it are.
    """
    if not _is_header(read, at, size):
        return None
    raw = read(at, _LOCAL.size)
    _, version, flags, method, time, date, checksum, packed, full, length, more = _LOCAL.unpack(raw)
    begin = at + _LOCAL.size + length + more
    name, extra = read(at + _LOCAL.size, length), read(at + _LOCAL.size + length, more)
    full, packed = _wide(extra, full, packed)
    flags &= ~0 if _is_utf8(name) else ~_UTF8
    found = Found(at, version, flags, method, time, date, checksum, packed, full, name, begin)
    if flags & _BEHIND and not packed and not name.endswith(b"/"):
        return _measured(read, found, size, are_sized)
    if found.stop <= size:
        behind = _sizes(read, found.stop, packed) if flags & _BEHIND else None
        return found._replace(checksum=behind[0] if behind else checksum)
    there = size - begin
    return found._replace(packed=there, size=there if method == ZIP_STORED else full, missing=found.stop - size)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wide(extra: bytes, full: int, packed: int) -> tuple[int, int]:
    """The sizes of a file, which may stand in the field of zip64."""
    at = 0
    while at + 4 <= len(extra) and _WIDE in (full, packed):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = [number for (number,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])]
            full, packed = (numbers.pop(0) if number == _WIDE and numbers else number for number in (full, packed))
            break
        at += 4 + length
    return full, packed


def _measured(read: Read, found: Found, size: int, are_sized: bool) -> Found:
    """A file whose sizes stand behind it.

    They are looked for up to the archive's end. If those of a file before it were not there, this is done only if its
    content does not tell where it ends: in an archive of very many such files, it would take hours.
    """
    is_deflated = found.method == ZIP_DEFLATED
    if (are_sized or not is_deflated) and (sized := _sized(read, found, size)):
        return sized
    full, used = _unpacked(read, found.begin, size) if is_deflated else (size - found.begin, 0)
    if used:
        behind = _sizes(read, found.begin + used, used)
        checksum = behind[0] if behind else found.checksum
        return found._replace(packed=used, size=full, checksum=checksum, is_sized=bool(behind))
    if not are_sized and is_deflated and (sized := _sized(read, found, size)):
        return sized
    return found._replace(packed=size - found.begin, size=full, missing=None, is_sized=False)


def _sized(read: Read, found: Found, size: int) -> Found | None:
    """The file, if its sizes are behind it: they are known by what they say, which is how far away it begins."""
    for at in _signatures(read, found.begin, size):
        for start in (at, at - 16, at - 24, at - 12, at - 20):
            if start >= found.begin and (sizes := _sizes(read, start, start - found.begin)):
                return found._replace(checksum=sizes[0], packed=start - found.begin, size=sizes[1])
    return None


def _signatures(read: Read, begin: int, size: int) -> Iterator[int]:
    """Where something may begin that stands between files."""
    start, length = begin, _SHORTEST
    while start < size:
        yield from (start + match.start() for match in _SIGNATURE.finditer(read(start, length + 3)))
        start, length = start + length, min(2 * length, _STRIDE)


def _sizes(read: Read, at: int, packed: int) -> tuple[int, int] | None:
    """The checksum and the size of a file of `packed` bytes, if they stand here; their signature may be left out."""
    raw = read(at, 24)
    numbers = raw[4:] if raw.startswith(_SIZES) else raw[:20]
    for layout in ("<LQQ", "<LLL"):  # zip64, and others; in small files, the shorter one could be taken for the longer
        if len(numbers) >= struct.calcsize(layout):
            checksum, found, full = struct.unpack_from(layout, numbers)
            if found == packed and (full == packed or (full > 0) == (packed > 2)):  # nothing is deflated to two bytes
                return checksum, full
    return None


def _unpacked(read: Read, begin: int, stop: int) -> tuple[int, int]:
    """Bytes that a deflated file unpacks to, as far as it stands, and bytes up to its end; 0 if that is not there.

    Of bombs, it does not count all.
    """
    inflater, count, most = zlib.decompressobj(-zlib.MAX_WBITS), 0, max(_MOST, _USUAL * (stop - begin))
    for at in range(begin, stop, _BLOCK):
        packed = read(at, min(_BLOCK, stop - at))
        try:
            count += len(inflater.decompress(packed))
        except zlib.error:
            return count + _BLOCK * _DENSEST, 0  # what stands of this block is not counted, but is read
        if inflater.eof:
            return count, at + len(packed) - len(inflater.unused_data) - begin
        if count > most:
            break
    return count, 0


def _next(read: Read, found: Found) -> int:
    """Where the next thing begins: behind a file, and behind its sizes, if they stand there."""
    if not found.flags & _BEHIND:
        return found.stop
    for length in (0, 16, 24, 12, 20):
        if read(found.stop + length, 4) in (_FILE, *_LIST):
            return found.stop + length
    return found.stop


def _searched(read: Read, at: int, size: int) -> int:
    """Where the next file's header begins; `size` if none does."""
    return next((found for found in _signatures(read, at, size) if _is_header(read, found, size)), size)


def _is_header(read: Read, at: int, size: int) -> bool:
    raw = read(at, _LOCAL.size)
    if not raw.startswith(_FILE) or len(raw) < _LOCAL.size:
        return False
    _, version, _, method, *_, length, more = _LOCAL.unpack(raw)
    return method in _METHODS and version < 100 and length > 0 and at + _LOCAL.size + length + more <= size


def _list_of(found: list[Found], at: int) -> bytes:
    """The list of some files, to stand at `at`. All numbers are in zip64's fields, which hold any."""
    listed = bytearray()
    for one in found:
        extra = struct.pack("<HHQQQ", 1, 24, one.size, one.packed, one.at)
        listed += _LISTED.pack(
            _LIST[0], 45, one.version, one.flags, one.method, one.time, one.date, one.checksum, _WIDE, _WIDE,
            len(one.name), len(extra), 0, 0, 0, 0, _WIDE,
        ) + one.name + extra  # fmt: skip
    end = _END64.pack(_LIST[1], 44, 45, 45, 0, 0, len(found), len(found), len(listed), at)
    place = _PLACE64.pack(b"PK\x06\x07", 0, at + len(listed), 1)
    return bytes(listed) + end + place + _END.pack(_LIST[2], 0, 0, 0xFFFF, 0xFFFF, _WIDE, _WIDE, 0)
