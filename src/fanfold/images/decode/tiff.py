"""TIFFs: by Pillow where it shows them right, by tifffile where it does not; large ones some rows at a time.

Pillow (with libtiff) shows pictures of up to eight bits a sample, and the simplest of 16 and 32. It refuses others
(big-endian floats, several deep samples, planes, ...) or shows them wrong. The tags show which is which:
https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 8 and part 2.
"""

import io
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from fanfold.images.decode import levels, pillow
from fanfold.images.decode.pillow import Find, Piece, Pieces
from fanfold.images.decode.square import Window, box_of, window_of
from fanfold.images.decode.tags import made
from fanfold.images.decode.view import DecodeError, Found, Values, View, check_memory, check_pixels

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_GREY = (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
_NONE, _DEFLATE = 1, (8, 32946)
_UNSIGNED, _SIGNED, _FLOAT, _COMPLEX = 1, 2, 3, (5, 6)
_PREMULTIPLIED, _STRAIGHT = 1, 2
_GROUP = 4 << 20  # bytes of rows decoded together
_COPIED = (258, 259, 262, 266, 277, 284, 317, 320, 322, 323, 338, 339, 347, 530)  # how pixels are stored

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its warnings are of no use to users


def decoded(data: bytes, view: View) -> Found:
    """The square of a TIFF. Raises DecodeError, or any error of the libraries', if neither can decode it."""
    page = _page_of(data)
    if page is None:
        return _by_pillow(data, None, view)
    check_pixels(_size(page), view)
    if not _suits_pillow(page):
        return _by_tifffile(data, page, view)
    try:
        return _by_pillow(data, page, view)
    except DecodeError:
        raise
    except Exception as error:
        try:
            return _by_tifffile(data, page, view)
        except Exception:
            if isinstance(error, UnidentifiedImageError):  # tifffile's error tells more
                raise
            raise error from None


def _page_of(data: bytes) -> tifffile.TiffPage | None:
    try:
        page = tifffile.TiffFile(io.BytesIO(data)).pages.first
        return page if isinstance(page, tifffile.TiffPage) and page.imagewidth and page.imagelength else None
    except Exception:  # Pillow may still read it
        return None


def _suits_pillow(page: tifffile.TiffPage) -> bool:
    bits, kind = page.bitspersample, page.sampleformat
    little = page.parent.byteorder == "<"
    if page.parent.is_bigtiff and not little:
        return False
    if kind == _UNSIGNED and bits <= 8:
        return True
    if kind == _UNSIGNED and bits == 16:  # grey alone, and colours with at most one more sample
        if page.photometric in _GREY:
            return page.samplesperpixel == 1 and (page.photometric == _BLACK_IS_ZERO or little)
        return page.photometric in (_RGB, _CMYK) and page.samplesperpixel <= 4
    if page.samplesperpixel != 1 or not little:
        return False
    if kind == _FLOAT:
        return bits == 32 and page.photometric in _GREY
    return kind == _SIGNED and bits in (16, 32) and page.photometric == _BLACK_IS_ZERO


def _tag(page: tifffile.TiffPage, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _orientation(page: tifffile.TiffPage) -> int:
    value = _tag(page, 274)
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _nodata(page: tifffile.TiffPage) -> float | None:
    """The value by which GDAL's tag marks no data."""
    try:
        return float(str(_tag(page, 42113)).strip("\0 "))
    except ValueError:
        return None


def _size(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _planes(page: tifffile.TiffPage) -> int:
    """Planes that hold a sample each; 1 if the samples of a pixel stand together."""
    return page.samplesperpixel if page.planarconfig == 2 else 1


def _segment_height(page: tifffile.TiffPage) -> int:
    """Rows of a strip or tile."""
    return page.tilelength if page.is_tiled else min(page.rowsperstrip or page.imagelength, page.imagelength)


def _levels_of(page: tifffile.TiffPage) -> Find | None:
    """A way to find the levels of the pixels; None for pixels of 0..255."""
    inverted = page.photometric == _WHITE_IS_ZERO
    bits = page.bitspersample
    if page.sampleformat == _UNSIGNED and bits <= 16:
        return None if bits == 8 and not inverted else lambda _: levels.full(bits, inverted)
    nodata = _nodata(page)
    return lambda pieces: levels.measured(lambda: (piece.values for piece in pieces()), nodata, inverted)


def _window(page: tifffile.TiffPage, view: View) -> Window:
    return window_of(_size(page), box_of(_size(page), view, 1), view)


# -- by Pillow ------------------------------------------------------------------------------------------------------


def _by_pillow(data: bytes, page: tifffile.TiffPage | None, view: View) -> Found:
    # Pillow's own reader of uncompressed pixels gets planes of 16 bits and subsampled colours wrong.
    libtiff = page is not None and (page.planarconfig == 2 or page.photometric == _YCBCR)
    if page and page.imagewidth * page.imagelength > pillow.LARGE and (rows := _Rows(data, page, view)).pays:
        check_memory(_named(page), len(data) + rows.most, view)
        with pillow.settings(libtiff=libtiff):
            square = pillow.by_pieces(_size(page), rows, view, _deep(page))
        return Found(square, _size(page), "TIFF", _orientation(page), rows.damaged)
    found, damaged = pillow.leniently(lambda: _whole(data, page, view), libtiff)
    return found._replace(damaged=damaged)


def _whole(data: bytes, page: tifffile.TiffPage | None, view: View) -> Found:
    """The square of a TIFF that Pillow decodes at once; Pillow also turns it upright."""
    image = pillow.opened(data)
    check_pixels(image.size, view)
    strip = 1 if page and page.rowsperstrip >= page.imagelength and page.compression != _NONE else 0
    held = pillow.held(image) * (1 + strip)  # libtiff unpacks a whole strip at a time
    check_memory(_named(page) if page else "a TIFF", len(data) + held, view)
    image.load()
    return Found(pillow.square_of(image, view, _deep(page)), image.size, "TIFF", orientation=1, damaged=False)


def _deep(page: tifffile.TiffPage | None) -> Find | None:
    """As `_levels_of`, for Pillow's pixels: it inverts and scales those of eight bits or fewer itself."""
    if page is None or (page.sampleformat == _UNSIGNED and (page.bitspersample <= 8 or page.samplesperpixel > 1)):
        return None
    return _levels_of(page)


class _Rows:
    """A TIFF cut into TIFFs of some of its rows, for Pillow: the same tags, and some strips or rows of tiles."""

    def __init__(self, data: bytes, page: tifffile.TiffPage, view: View) -> None:
        self.damaged = False
        self._window = _window(page, view)
        self._data = data
        self._page = page
        self._planes = _planes(page)
        self._across = math.ceil(page.imagewidth / page.tilewidth) if page.is_tiled else 1
        samples = 1 if self._planes > 1 else page.samplesperpixel
        self._row = math.ceil(page.imagewidth * samples * page.bitspersample / 8)  # bytes, of one plane
        self._offsets, self._counts, self._height = self._segments()
        self._down = math.ceil(page.imagelength / self._height)
        row = self._row * self._planes
        self._group = max(1, _GROUP // (row * self._height))
        self.most = 4 * min(self._height * self._group, page.imagelength) * row
        """Most bytes in memory at a time, of pixels and of values made from them."""
        self.pays = self._group * self._height * 2 < page.imagelength

    def _segments(self) -> tuple[list[int], list[int], int]:
        """Offsets, lengths and height of strips or tiles; a single unpacked strip is cut into several."""
        page = self._page
        offsets, counts = list(page.dataoffsets), list(page.databytecounts)
        height = _segment_height(page)
        if page.is_tiled or page.compression != _NONE or height < page.imagelength or len(offsets) != self._planes:
            return offsets, counts, height
        height = max(1, _GROUP // self._row)
        tops = range(0, page.imagelength, height)
        lengths = [self._row * min(height, page.imagelength - top) for top in tops]
        return [offset + self._row * top for offset in offsets for top in tops], lengths * self._planes, height

    def __call__(self) -> Iterator[Piece]:
        first, last = self._window[1] // self._height, min(self._down, math.ceil(self._window[3] / self._height))
        for start in range(first, last, self._group):
            try:
                image = pillow.opened(self._cut(start, min(last, start + self._group)))
                image.load()
            except Exception:  # the next rows may be whole
                self.damaged = True
                continue
            yield Piece(pillow.values_of(image), 0, start * self._height)

    def _cut(self, start: int, stop: int) -> bytes:
        """The TIFF of some rows of strips or tiles."""
        page, a_plane = self._page, self._across * self._down
        some = range(start * self._across, stop * self._across)
        indices = [plane * a_plane + index for plane in range(self._planes) for index in some]
        parts = [self._data[self._offsets[at] : self._offsets[at] + self._counts[at]] for at in indices]
        tags = {code: _tag(page, code) for code in _COPIED}
        tags[256], tags[257] = page.imagewidth, min(stop * self._height, page.imagelength) - start * self._height
        lengths = [len(part) for part in parts]
        offsets = list(accumulate(lengths[:-1], initial=8))
        if page.is_tiled:
            tags[324], tags[325] = offsets, lengths
        else:
            tags[278], tags[273], tags[279] = self._height, offsets, lengths
        return made(page.parent.byteorder, b"".join(parts), tags)


# -- by tifffile ----------------------------------------------------------------------------------------------------


def _by_tifffile(data: bytes, page: tifffile.TiffPage, view: View) -> Found:
    colours, alpha = _samples(page)
    segments = _Segments(data, page, _window(page, view), colours + bool(alpha))
    check_memory(_named(page), len(data) + segments.most, view)
    try:
        square = pillow.by_pieces(_size(page), segments, view, _over_white(page, alpha))
    except Exception as error:
        _check_extra(error, page)
        raise
    if segments.decoded == 0:
        raise DecodeError(f"{_named(page)}: none of its pixels could be decoded")
    return Found(square, _size(page), "TIFF", _orientation(page), segments.damaged)


def _samples(page: tifffile.TiffPage) -> tuple[int, int]:
    """The samples of a pixel that are shown: the number of colours (1 for grey, 3 for red, green and blue), and the
    kind of the transparency behind them, as in the tag ExtraSamples; 0 for none.

    Raises DecodeError for colours that cannot be shown.
    """
    if page.sampleformat in _COMPLEX:
        raise DecodeError(f"{_named(page)}, which are complex numbers and cannot be shown")
    if page.photometric == _PALETTE:
        return 1, 0
    if page.photometric not in (*_GREY, _RGB):
        name = getattr(page.photometric, "name", page.photometric)
        raise DecodeError(f"{_named(page)}, whose colours ({name}) cannot be decoded")
    extra = [int(sample) for sample in page.extrasamples]
    own = 3 if page.photometric == _RGB else 1
    if own == 1 and page.samplesperpixel >= 3 and not any(extra):
        own = 3  # of measurements in several bands, the first three
    alpha = extra[0] if page.samplesperpixel - len(extra) == own and extra else 0
    return own, alpha if alpha in (_PREMULTIPLIED, _STRAIGHT) else 0


@dataclass(frozen=True, slots=True)
class _OverWhite:
    """Levels of pixels whose last sample is their transparency."""

    levels: Callable[[Values], Values]
    opaque: float
    premultiplied: bool

    def __call__(self, values: Values) -> Values:
        """float32, 0..255, without the last sample."""
        colours = self.levels(values[..., :-1])
        alpha = np.clip(values[..., -1:].astype(np.float32) / self.opaque, 0, 1)
        shown = (colours if self.premultiplied else colours * alpha) + 255 * (1 - alpha)
        white: Values = np.minimum(shown, 255)
        return white if white.shape[-1] > 1 else white[..., 0]


def _over_white(page: tifffile.TiffPage, alpha: int) -> Find | None:
    find = _levels_of(page)
    if page.photometric == _PALETTE:
        return None
    if not alpha:
        return find
    opaque = 1.0 if page.sampleformat == _FLOAT else float(np.iinfo(page.dtype).max)

    def shown(pieces: Pieces) -> _OverWhite:
        colours = lambda: (piece._replace(values=piece.values[..., :-1]) for piece in pieces())  # noqa: E731
        return _OverWhite(find(colours) if find else levels.full(8), opaque, alpha == _PREMULTIPLIED)

    return shown


class _Segments:
    """The strips or tiles of a TIFF, the planes of each together."""

    def __init__(self, data: bytes, page: tifffile.TiffPage, window: Window, kept: int) -> None:
        self.damaged = False
        self.decoded = 0
        self._data = data
        self._page = page
        self._window = window
        self._kept = kept  # samples of a pixel
        self._planes = _planes(page)
        pixels = _segment_height(page) * (page.tilewidth if page.is_tiled else page.imagewidth)
        size = pixels * page.samplesperpixel * (page.dtype.itemsize if page.dtype else 8)
        self._expected = size // self._planes
        self.most = 2 * size + pixels * self._kept * 12
        """Most bytes in memory at a time, of pixels and of values made from them."""

    def __call__(self) -> Iterator[Piece]:
        count = len(self._page.dataoffsets) // self._planes
        for index in range(count):
            planes = [self._segment(index + plane * count) for plane in range(min(self._planes, self._kept))]
            found = [plane for plane in planes if plane is not None]
            if found and len(found) == len(planes):
                values = np.concatenate([piece.values for piece in found], axis=-1) if found[1:] else found[0].values
                yield found[0]._replace(values=self._chosen(values))

    def _segment(self, index: int) -> Piece | None:
        """A segment with all its samples; None if it is outside of the window, or damaged."""
        page = self._page
        _, (_, _, top, left, _), shape = page.decode(None, index)
        if top >= self._window[3] or top + shape[1] <= self._window[1]:
            return None
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        packed = self._data[offset : offset + length]
        try:
            if len(packed) < length or not packed or self._is_bomb(packed):
                raise ValueError("the segment is missing")
            values, _, _ = page.decode(packed, index, jpegtables=page.jpegtables)
        except Exception as error:
            _check_extra(error, page)
            self.damaged = True
            return None
        self.decoded += 1
        return None if values is None else Piece(values[0], left, top)

    def _is_bomb(self, packed: bytes) -> bool:
        """Whether it unpacks to more than a segment holds; tifffile would unpack all of it."""
        if self._page.compression not in _DEFLATE:
            return False
        inflate = zlib.decompressobj()
        inflate.decompress(packed, self._expected + 1)
        return not inflate.eof and len(inflate.unconsumed_tail) > 64

    def _chosen(self, values: Values) -> Values:
        """The samples to show."""
        if self._page.photometric == _PALETTE and self._page.colormap is not None:
            return (self._page.colormap.T[values[..., 0]] >> 8).astype(np.uint8)
        return values[..., 0] if self._kept == 1 else values[..., : self._kept]


def _check_extra(error: Exception, page: tifffile.TiffPage) -> None:
    """Raises DecodeError if the extra `tiff` is missing."""
    if "imagecodecs" in str(error):
        hint = "needs the extra 'tiff'. Install it with: pip install 'fanfold[tiff]'"
        raise DecodeError(f"{_named(page)} {hint}") from error


def _named(page: tifffile.TiffPage) -> str:
    kind = {_UNSIGNED: "", _SIGNED: "signed ", _FLOAT: "float "}.get(int(page.sampleformat or 0), "")
    packed = "" if page.compression == _NONE else f", {getattr(page.compression, 'name', page.compression)}"
    size = f"{page.imagewidth} x {page.imagelength} x {page.samplesperpixel}"
    return f"a TIFF of {size} {kind}{page.bitspersample}-bit samples{packed}"
