"""PNGs: what is not pixels is taken away before they are decoded, and large ones are decoded some rows at a time.

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
_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # how chunks begin that may hold it
_ROWS = 1 << 22  # bytes of rows decoded together


class Chunk(NamedTuple):
    """A part of a PNG."""

    name: bytes
    start: int
    """Of its content."""
    end: int
    """Of its content; less than it claims where the file broke off."""


class Header(NamedTuple):
    """IHDR."""

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
        """Bytes of a row, without the byte that names its filter."""
        return (self.width * self.channels * self.bits + 7) // 8

    @property
    def unit(self) -> int:
        """Bytes from a pixel to the next, as filters see it."""
        return max(1, self.channels * self.bits // 8)

    @property
    def held(self) -> int:
        """Bytes a pixel that Pillow takes."""
        return 4 if self.channels > 1 else 2 if self.bits == 16 else 1


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND, or to where they break off."""
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
    """A PNG's chunks. Raises DecodeError for one without header or pixels.

    Text, profiles and all else there may be can be damaged, short, or as large as it likes: nobody looks at it.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.chunks = list(chunks_of(data))
        self.header = _header(data, self.chunks)
        self.colours = {chunk.name: self._colours(chunk) for chunk in self.chunks if chunk.name in (b"PLTE", b"tRNS")}
        """Content of palette and transparency as Pillow takes them right; empty where it is not allowed."""
        self.damaged = any(chunk.name in self.colours and not intact(data, chunk) for chunk in self.chunks)
        """A chunk that changes pixels was damaged, and is left away."""
        if not any(chunk.name == b"IDAT" for chunk in self.chunks):
            raise DecodeError(f"a PNG without pixels: {self._end()}")

    def bare(self) -> bytes:
        """What decoders need: header, palette, transparency, pixels."""
        if {chunk.name for chunk in self.chunks} <= {b"IHDR", b"IDAT", b"IEND"}:
            return self.data
        pixels = [self.data[chunk.start - 8 : chunk.end + 4] for chunk in self.chunks if chunk.name == b"IDAT"]
        last = self.chunks[-1]
        broken = last.name == b"IDAT" and last.end + 4 > len(self.data)  # an end would be taken for pixels
        end = [] if broken else [made(b"IEND", b"")]
        return b"".join([*self.start(self.header), *pixels, *end])

    def start(self, header: "Header") -> list[bytes]:
        """All that comes before the pixels, for a picture of another size as well."""
        ihdr = made(b"IHDR", struct.pack(">IIBBBBB", *header[:4], 0, 0, header.interlaced))
        colours = (self.colours.get(name) for name in (b"PLTE", b"tRNS"))
        names = (b"PLTE", b"tRNS")
        return [SIGNATURE, ihdr, *(made(name, held) for name, held in zip(names, colours, strict=True) if held)]

    def orientation(self) -> int:
        """1-8. Pillow reads it, from a PNG of one pixel with the chunks that hold it, wherever they stood."""
        found = [self.data[chunk.start - 4 : chunk.end] for chunk in self.chunks if self._may_turn(chunk)]
        if not found:
            return 1
        start = [SIGNATURE, made(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
        texts = [made(chunk[:4], chunk[4:]) for chunk in found]
        small = [*start, *texts, made(b"IDAT", zlib.compress(b"\0\0")), made(b"IEND", b"")]
        try:
            return orientation_of(opened(b"".join(small)))
        except Exception:  # EXIF is never worth losing a picture for
            return 1

    def _may_turn(self, chunk: Chunk) -> bool:
        if chunk.name == b"eXIf":
            return True
        start = self.data[chunk.start : chunk.start + 32]
        return chunk.name in (b"tEXt", b"zTXt", b"iTXt") and start.startswith(_ORIENTATION)

    def _colours(self, chunk: Chunk) -> bytes:
        content = self.data[chunk.start : chunk.end]
        if not intact(self.data, chunk):
            return b""
        return (
            content if chunk.name == b"PLTE" or self.header.colour == _PALETTE else _transparent(content, self.header)
        )

    def _end(self) -> str:
        last = self.chunks[-1]
        if last.end + 4 > len(self.data):
            return f"the file broke off in its chunk {last.name.decode()}"
        return "it ended" if last.name == b"IEND" else f"what follows at byte {last.end + 4} is no chunk"


def _header(data: bytes, chunks: list[Chunk]) -> Header:
    if chunks and chunks[0].name == b"CgBI":
        raise DecodeError("a PNG in the form that only Apple's programs read (it starts with the chunk CgBI)")
    if not chunks or chunks[0].name != b"IHDR" or chunks[0].end - chunks[0].start < 13:
        raise DecodeError("a PNG whose header (IHDR) is damaged or missing")
    if not intact(data, chunks[0]):
        raise DecodeError("a PNG with a bad checksum in its header (IHDR)")
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, chunks[0].start)
    return Header(width, height, bits, colour, bool(interlaced))


def intact(data: bytes, chunk: Chunk) -> bool:
    """Whether the checksum is right."""
    return data[chunk.end : chunk.end + 4] == zlib.crc32(data[chunk.start - 4 : chunk.end]).to_bytes(4)


def _transparent(content: bytes, header: Header) -> bytes:
    """The transparent value as Pillow takes it right; empty for one that is not allowed."""
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


# -- some rows at a time --------------------------------------------------------------------------------------------


class Strips:
    """The rows of a PNG, decoded some at a time. After each pass `damaged` says whether some could not be.

    Filters reach one row up and one pixel to the left, byte by byte, so some rows make a PNG of their own: with the
    row before them, unfiltered, on top. Pillow decodes it.
    """

    def __init__(self, png: Png, window: Window) -> None:
        self.damaged = png.damaged
        self.most = 16 * max(_ROWS, png.header.row)
        """Bytes that are held of the pixels at a time."""
        self._png = png
        self._window = window
        deep = png.header.bits == 16 and png.header.channels > 1
        self._header = png.header._replace(bits=8) if deep else png.header

    @property
    def levels(self) -> Callable[[Pieces], levels.Levels] | None:
        """What finds the levels of its values (see `pillow.by_pieces`)."""
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
        """Yield the number of the first row and rows, uint8[rows, 1 + bytes], up to the last that is looked at."""
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
        """Of 16 bits a colour the high eight, as Pillow has it: no filter mixes the two."""
        if self._header == self._png.header:
            return filtered
        return np.concatenate([filtered[:, :1], filtered[:, 1::2]], axis=1)

    def _values(self, rows: Pixels) -> Values:
        """Pixels of unfiltered rows: grey or RGB of eight bits, or grey of 16."""
        header = self._header._replace(height=len(rows))
        if header.bits == 8 and header.colour != _PALETTE and b"tRNS" not in self._png.colours:
            return values_of(_image(rows, header.channels))
        pixels = np.pad(rows, ((0, 0), (1, 0))).tobytes()
        return values_of(_loaded([*self._png.start(header), made(b"IDAT", zlib.compress(pixels, 0))]))


def _image(rows: Pixels, channels: int) -> Image.Image:
    return Image.fromarray(rows.reshape(len(rows), -1, channels) if channels > 1 else rows)


def _unfiltered(before: Pixels, filtered: Pixels, unit: int) -> Pixels:
    """Rows, uint8[rows, bytes], from filtered ones and the row before. `unit`: bytes from a pixel to the next."""
    top = np.pad(before, ((0, 0), (1, 0)))  # filter 0: as it is
    return _pillow_rows(np.concatenate([top, filtered]), before.shape[1] // unit, unit)[1:].reshape(len(filtered), -1)


def _pillow_rows(rows: Pixels, width: int, channels: int) -> Pixels:
    """uint8[rows, width, channels] of the filtered rows of a picture with eight bits a channel."""
    ihdr = made(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, _COLOUR_OF[channels], 0, 0, 0))
    image = _loaded([SIGNATURE, ihdr, made(b"IDAT", zlib.compress(rows.tobytes(), 0))])
    return np.asarray(image).reshape(len(rows), width, channels)


def _loaded(parts: list[bytes]) -> Image.Image:
    image = opened(b"".join([*parts, made(b"IEND", b"")]))
    image.load()
    return image


class _Inflater:
    """The unpacked content of the IDATs, as it is asked for."""

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
