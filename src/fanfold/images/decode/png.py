"""PNGs: metadata is removed before they are decoded, and large ones are decoded some rows at a time.

Chunks and filters: https://www.w3.org/TR/png-3/, 5 and 9.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from fanfold.images.decode import levels
from fanfold.images.decode.pillow import Piece, Pieces, opened, orientation_of, values_of
from fanfold.images.decode.square import Window
from fanfold.images.decode.view import DecodeError, Pixels, Values

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NAME = re.compile(rb"[A-Za-z]{4}")
_PALETTE = 3
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_COLOUR_OF = {channels: colour for colour, channels in _CHANNELS.items() if colour != _PALETTE}
_ORIENTATION = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # starts of text chunks that may hold it
_COLOURS = (b"PLTE", b"tRNS")
_ROWS = 1 << 22  # bytes of rows decoded together


class Chunk(NamedTuple):
    """A part of a PNG."""

    name: bytes
    start: int
    """First byte of the content."""
    end: int
    """End of the content; earlier than its length says if the file is cut off."""


class Header(NamedTuple):
    """The content of IHDR."""

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool

    @property
    def channels(self) -> int:
        return _CHANNELS.get(self.colour, 4)

    @property
    def row(self) -> int:
        """Bytes of a row, without its filter byte."""
        return (self.width * self.channels * self.bits + 7) // 8

    @property
    def unit(self) -> int:
        """Bytes from a pixel to the next, for filters."""
        return max(1, self.channels * self.bits // 8)

    @property
    def held(self) -> int:
        """Bytes a pixel that Pillow takes."""
        return 4 if self.channels > 1 else 2 if self.bits == 16 else 1


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND, or to where the file breaks."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        name = data[at + 4 : at + 8]
        if not _NAME.fullmatch(name):
            return
        yield Chunk(name, at + 8, min(at + 8 + length, len(data)))
        if name == b"IEND":
            return
        at += 12 + length


class Png:
    """A PNG's chunks. Raises DecodeError for a file without header or pixels.

    Text, profiles and other metadata may be damaged, short, or of any size: they are never read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.chunks = list(chunks_of(data))
        self.header = _header(data, self.chunks)
        self.colours = {chunk.name: self._colours(chunk) for chunk in self.chunks if chunk.name in _COLOURS}
        """Content of palette and transparency, in the form that Pillow reads right; empty if it is not valid."""
        self.damaged = any(chunk.name in _COLOURS and not intact(data, chunk) for chunk in self.chunks)
        """Whether a chunk that changes pixels is damaged, hence ignored."""
        if not any(chunk.name == b"IDAT" for chunk in self.chunks):
            raise DecodeError(f"a PNG without pixels: {self._end()}")

    def bare(self) -> bytes:
        """The parts that decoders need: header, palette, transparency, pixels."""
        if {chunk.name for chunk in self.chunks} <= {b"IHDR", b"IDAT", b"IEND"}:
            return self.data
        pixels = [self.data[chunk.start - 8 : chunk.end + 4] for chunk in self.chunks if chunk.name == b"IDAT"]
        last = self.chunks[-1]
        cut_off = last.name == b"IDAT" and last.end + 4 > len(self.data)  # an end would be read as pixels
        return b"".join([*self.start(self.header), *pixels, b"" if cut_off else made(b"IEND", b"")])

    def start(self, header: Header) -> list[bytes]:
        """Everything before the pixels, for this header."""
        content = ((name, self.colours.get(name)) for name in _COLOURS)
        return [SIGNATURE, _ihdr(*header), *(made(name, held) for name, held in content if held)]

    def orientation(self) -> int:
        """1-8, read by Pillow from a PNG of one pixel and of all chunks that may hold it, wherever they are."""
        found = [self.data[chunk.start - 4 : chunk.end] for chunk in self.chunks if self._may_turn(chunk)]
        if not found:
            return 1
        chunks = [made(chunk[:4], chunk[4:]) for chunk in found]
        pixel = made(b"IDAT", zlib.compress(b"\0\0"))
        try:
            return orientation_of(opened(b"".join([SIGNATURE, _ihdr(1, 1, 8, 0), *chunks, pixel, made(b"IEND", b"")])))
        except Exception:  # damaged EXIF must not cost a picture
            return 1

    def _may_turn(self, chunk: Chunk) -> bool:
        text = chunk.name in (b"tEXt", b"zTXt", b"iTXt") and self.data.startswith(_ORIENTATION, chunk.start)
        return text or chunk.name == b"eXIf"

    def _colours(self, chunk: Chunk) -> bytes:
        content = self.data[chunk.start : chunk.end] if intact(self.data, chunk) else b""
        as_is = chunk.name == b"PLTE" or self.header.colour == _PALETTE
        return content if as_is else _transparent(content, self.header)

    def _end(self) -> str:
        last = self.chunks[-1]
        if last.end + 4 > len(self.data):
            return f"the file is cut off in its chunk {last.name.decode()}"
        return "it has no IDAT" if last.name == b"IEND" else f"there is no valid chunk at byte {last.end + 4}"


def _header(data: bytes, chunks: list[Chunk]) -> Header:
    if chunks and chunks[0].name == b"CgBI":
        raise DecodeError("a PNG in Apple's own form, which only Apple's programs read (its first chunk is CgBI)")
    if not chunks or chunks[0].name != b"IHDR" or chunks[0].end - chunks[0].start < 13:
        raise DecodeError("a PNG with a damaged or missing header (IHDR)")
    if not intact(data, chunks[0]):
        raise DecodeError("a PNG with a bad checksum in its header (IHDR)")
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, chunks[0].start)
    return Header(width, height, bits, colour, bool(interlaced))


def intact(data: bytes, chunk: Chunk) -> bool:
    """Whether the chunk's checksum is right."""
    return data[chunk.end : chunk.end + 4] == zlib.crc32(data[chunk.start - 4 : chunk.end]).to_bytes(4)


def _transparent(content: bytes, header: Header) -> bytes:
    """The transparent value in the form that Pillow reads right; empty if it is not valid."""
    if len(content) != {0: 2, 2: 6}.get(header.colour):
        return b""
    values = struct.unpack(f">{len(content) // 2}H", content)
    if header.colour == 0 and header.bits in (2, 4):  # Pillow scales these pixels, but not the value to look for
        most = (1 << header.bits) - 1
        values = tuple((value & most) * 255 // most for value in values)
    if header.colour == 2 and header.bits == 16:  # of these pixels it keeps the high bytes
        values = tuple(value >> 8 for value in values)
    return struct.pack(f">{len(values)}H", *values)


def made(name: bytes, content: bytes) -> bytes:
    """A chunk."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _ihdr(width: int, height: int, bits: int, colour: int, interlaced: bool = False) -> bytes:
    return made(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


# -- some rows at a time --------------------------------------------------------------------------------------------


class Strips:
    """The rows of a PNG, decoded some at a time. After each pass `damaged` says whether some could not be decoded.

    Filters reach one row up and one pixel to the left. So some rows make a PNG by themselves, with the unfiltered row
    before them on top. Pillow decodes it.
    """

    def __init__(self, png: Png, window: Window) -> None:
        self.damaged = png.damaged
        self.most = 16 * max(_ROWS, png.header.row)
        """Most bytes of pixels in memory at a time."""
        self._png = png
        self._window = window
        deep = png.header.bits == 16 and png.header.channels > 1
        self._header = png.header._replace(bits=8) if deep else png.header

    @property
    def levels(self) -> Callable[[Pieces], levels.Levels] | None:
        """A way to find the levels of the values (see `pillow.by_pieces`)."""
        return (lambda _: levels.full(16)) if self._png.header.held == 2 else None

    def __call__(self) -> Iterator[Piece]:
        _, top, _, bottom = self._window
        before = np.zeros((1, self._header.row), np.uint8)
        for row, filtered in self._filtered():
            rows = _unfiltered(before, filtered, self._header.unit)
            before = rows[-1:]
            if row < bottom and row + len(rows) > top:
                yield Piece(self._values(rows), 0, row)

    def _filtered(self) -> Iterator[tuple[int, Pixels]]:
        """Yield the number of the first row, and rows, uint8[rows, 1 + bytes], down to the end of the window."""
        length = 1 + self._png.header.row
        count = max(1, _ROWS // length)
        packed = _Inflater(self._png)
        for row in range(0, self._window[3], count):
            wanted = min(count, self._window[3] - row)
            block = packed.read(wanted * length)
            whole = len(block) // length
            if whole:
                yield row, self._high(np.frombuffer(block, np.uint8, whole * length).reshape(whole, length))
            if whole < wanted:
                self.damaged = True
                return

    def _high(self, filtered: Pixels) -> Pixels:
        """The high eight of 16 bits a colour, as Pillow keeps them: filters do not mix the two bytes."""
        if self._header == self._png.header:
            return filtered
        return np.concatenate([filtered[:, :1], filtered[:, 1::2]], axis=1)

    def _values(self, rows: Pixels) -> Values:
        """Pixels of unfiltered rows: grey or RGB of eight bits, or grey of 16."""
        header = self._header._replace(height=len(rows))
        if header.bits == 8 and header.colour != _PALETTE and b"tRNS" not in self._png.colours:
            channels = header.channels
            return values_of(Image.fromarray(rows.reshape(len(rows), -1, channels) if channels > 1 else rows))
        return values_of(_loaded(self._png.start(header), _with_filter_0(rows)))


def _unfiltered(before: Pixels, filtered: Pixels, unit: int) -> Pixels:
    """Rows, uint8[rows, bytes], from filtered ones and the row before. `unit`: bytes from a pixel to the next."""
    rows = np.concatenate([_with_filter_0(before), filtered])
    ihdr = _ihdr(before.shape[1] // unit, len(rows), 8, _COLOUR_OF[unit])
    return np.asarray(_loaded([SIGNATURE, ihdr], rows)).reshape(len(rows), -1)[1:]


def _with_filter_0(rows: Pixels) -> Pixels:
    """The rows with the filter byte for no filter in front."""
    return np.pad(rows, ((0, 0), (1, 0)))


def _loaded(start: list[bytes], rows: Pixels) -> Image.Image:
    """The picture of rows, uint8[rows, 1 + bytes], behind these first chunks."""
    image = opened(b"".join([*start, made(b"IDAT", zlib.compress(rows.tobytes(), 0)), made(b"IEND", b"")]))
    image.load()
    return image


class _Inflater:
    """The unpacked content of the IDATs, on demand."""

    def __init__(self, png: Png) -> None:
        self._inputs = (png.data[c.start : c.end] for c in png.chunks if c.name == b"IDAT" and c.end > c.start)
        self._inflate = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """The next bytes; fewer than `count` at the end, or where they are damaged."""
        parts, held = [], 0
        while held < count:
            packed = self._inflate.unconsumed_tail or next(self._inputs, b"")
            try:
                part = self._inflate.decompress(packed, count - held)
            except zlib.error:
                break
            if not packed and not part:
                break
            parts.append(part)
            held += len(part)
        return b"".join(parts)
