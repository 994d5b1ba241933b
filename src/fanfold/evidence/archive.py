"""Zip archives, and what is in them, as far as it stands."""

import bz2
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BufferedReader
from itertools import chain
from typing import Any

from fanfold.evidence.disk.library import Reader
from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.files import DAMAGED, segment_file
from fanfold.evidence.local_headers import MadeUp, Read, made_up
from fanfold.job import Item, Opener

_BUFFER = 1 << 20  # bytes of an archive that are read at once, at least
_PART = 8 << 20  # bytes of a member that are unpacked at once
_BLOCK = 1 << 10  # bytes of a deflated one that are: what its last block has is lost if it is damaged
_MEMORY = 256 << 20  # bytes that LZMA may take: as a rule, 16 MiB
_LONGEST_LIST = 256 << 20  # bytes of the list of files: those of two million files
_END = 22 + 0xFFFF  # bytes in which the end of the list is, with its comment
_HEADER = b"PK\x03\x04"


class _File(BufferedReader):
    """The file of an archive, whose list may claim any size: it is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises BadZipFile for more than a list has."""
        if size and size > _LONGEST_LIST:
            raise zipfile.BadZipFile(f"its list of files claims {size:,} bytes, more than is read")
        return super().read(size)


class Archive(zipfile.ZipFile):
    """A zip archive. Sectors of it that cannot be read are zeros.

    Its list of files stands at its end. If that is missing, or is that of another archive within it, one is made up.
    """

    def __init__(self, file: SegmentFile) -> None:
        """Raises one of `DAMAGED`, and OSError."""
        self.bytes = Raw([file])
        self.made_up: MadeUp | None = None
        """Its list, if that was made up."""
        whole = replace(file, read=self.bytes.read_at)
        try:
            super().__init__(_File(Reader(whole), _BUFFER))
            if self.bytes.read_at(0, len(_HEADER)) == _HEADER and all(one.header_offset for one in self.infolist()):
                raise zipfile.BadZipFile("its list does not have its first file")
        except DAMAGED as error:
            self.made_up = made_up(_buffered(whole), file.size)
            if not self.made_up:
                raise zipfile.BadZipFile(
                    f"No file in this zip archive can be recognized ({str(error).rstrip('.')}): it is damaged, or "
                    "something else. Copy it again from where it was made."
                ) from error
            super().__init__(_File(Reader(_with(whole, self.made_up.content)), _BUFFER))

    @property
    def is_split(self) -> bool:
        """Whether it is the last one of several files."""
        end = self.bytes.read_at(max(0, self.bytes.size - _END), _END)
        at = end.rfind(b"PK\x05\x06")
        return not self.made_up and at >= 0 and 0 < int.from_bytes(end[at + 4 : at + 6], "little") < 0xFFFF

    def unpacked(self, number: int) -> Iterator[bytes]:
        """What is in the member of a number, part by part. Raises one of `DAMAGED` once all that stands was given."""
        member, found, size = self.infolist()[number], 0, 0
        for part in self._parts(member):
            found, size = zlib.crc32(part, found), size + len(part)
            yield part
        if self.made_up and self.made_up.is_cut and member is self.infolist()[-1]:
            raise zipfile.BadZipFile(f"{member.filename!r} is cut off")
        if self._lost_in(member) or found != member.CRC:
            raise zipfile.BadZipFile(f"{member.filename!r} is not what its checksum says")
        if size != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename!r} has {size:,} bytes, and {member.file_size:,} by the list")

    def _parts(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        if member.compress_type == zipfile.ZIP_STORED:
            begin = self._begin(member)
            stop = begin + min(member.compress_size, member.file_size)
            yield from (self.bytes.read_at(at, min(_PART, stop - at)) for at in range(begin, stop, _PART))
        else:
            yield from _gathered(_UNPACK[member.compress_type](self._packed(member)), member.file_size)

    def _packed(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """A member as it is packed, in blocks, up to its first sector that cannot be read."""
        begin = self._begin(member)
        stop = begin + member.compress_size
        for at in range(begin, stop, _BUFFER):
            data = self.bytes.read_at(at, min(_BUFFER, stop - at))
            lost = self._lost_in(member)
            if lost:
                data = data[: max(0, begin + lost[0][0] - at)]
            yield from (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
            if lost:
                return

    def _begin(self, member: zipfile.ZipInfo) -> int:
        """Where the content of a member begins. Raises BadZipFile if no header is before it."""
        header = self.bytes.read_at(member.header_offset, 30)
        if not header.startswith(_HEADER) or len(header) < 30:
            raise zipfile.BadZipFile(f"{member.filename!r} does not begin where the list says")
        name, extra = struct.unpack_from("<HH", header, 26)
        return int(member.header_offset + 30 + name + extra)

    def _lost_in(self, member: zipfile.ZipInfo) -> list[tuple[int, int]]:
        """The parts of a member, as it is packed, that could not be read: where each begins, and ends."""
        if not self.bytes.has_damage:
            return []
        begin = self._begin(member)
        ranges = [(max(0, start - begin), min(member.compress_size, stop - begin)) for start, stop in self.bytes.lost]
        return [(start, stop) for start, stop in ranges if start < stop]

    def lost_of(self, number: int) -> list[tuple[int, int]]:
        """The parts of a member, which was unpacked, that are zeros, as they could not be read."""
        member = self.infolist()[number]
        return self._lost_in(member) if member.compress_type == zipfile.ZIP_STORED else []


def _inflated(packed: Iterator[bytes]) -> Iterator[bytes]:
    """What is in blocks that are deflated. Raises zlib.error."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for block in packed:
        yield inflater.decompress(block)
        if inflater.eof:  # it would copy what stands behind again and again
            return


def _of_bzip2(packed: Iterator[bytes]) -> Iterator[bytes]:
    """What is in blocks that bzip2 has packed. Raises BadZipFile."""
    return _unpacked(bz2.BZ2Decompressor(), packed)


def _of_lzma(packed: Iterator[bytes]) -> Iterator[bytes]:
    """What is in blocks that LZMA has packed. Raises BadZipFile.

    In an archive, a version and the length of the settings (5 bytes) stand before these; in a file of its own, the size
    behind them.
    """
    head = next(packed, b"")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MEMORY)
    return _unpacked(unpacker, chain([head[4:9] + b"\xff" * 8 + head[9:]], packed))


def _unpacked(unpacker: Any, packed: Iterable[bytes]) -> Iterator[bytes]:
    """What an object of the standard library unpacks: a few bytes may be gigabytes. Raises BadZipFile."""
    for block in packed:
        left = block
        while not unpacker.eof and (left or not unpacker.needs_input):
            try:
                part, left = unpacker.decompress(left, _PART), b""
            except (OSError, lzma.LZMAError) as error:
                raise zipfile.BadZipFile(f"It cannot be unpacked: {error}") from error
            yield part


_UNPACK = {zipfile.ZIP_DEFLATED: _inflated, zipfile.ZIP_BZIP2: _of_bzip2, zipfile.ZIP_LZMA: _of_lzma}
READABLE = frozenset({zipfile.ZIP_STORED, *_UNPACK})
"""The ways of packing that can be read."""


def _gathered(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Pieces, in parts that are not small, at most so many bytes. Before an error, what stands is given."""
    held = bytearray()
    try:
        for piece in pieces:
            held += piece
            if len(held) >= min(_PART, most):
                yield bytes(held[:most])
                most = max(0, most - len(held))
                held.clear()
            if not most:
                return
    except DAMAGED:
        yield bytes(held[:most])
        raise
    yield bytes(held[:most])


def open_archive(file: Item, source: Opener) -> Archive:
    """A zip archive. Raises one of `DAMAGED`, and OSError."""
    return Archive(segment_file(file, source))


def _with(file: SegmentFile, content: bytes) -> SegmentFile:
    """A file with some more bytes behind its own."""

    def read(offset: int, length: int) -> bytes:
        data = file.read(offset, min(length, max(0, file.size - offset)))
        start = max(0, offset - file.size)
        return data + content[start : start + length - len(data)]

    return replace(file, size=file.size + len(content), read=read)


def _buffered(file: SegmentFile) -> Read:
    """What reads a file; of small parts that are near each other, it reads many at once."""
    reader = BufferedReader(Reader(file), _BUFFER)

    def read(offset: int, length: int) -> bytes:
        reader.seek(offset)
        return reader.read(length)

    return read
