"""TIFFs: by Pillow where it shows them right, by tifffile where it does not; large ones some rows at a time.

Pillow (with libtiff) knows pictures of up to eight bits a sample, and the plainest of 16 and 32. What else there is
(big-endian floats, several deep samples, planes, ...) it refuses, or shows wrong. The tags say which it is:
https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 8 and part 2.
"""

import io
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from fanfold.images.decode import levels, pillow
from fanfold.images.decode.pillow import Piece, Pieces
from fanfold.images.decode.square import Window, box_of, window_of
from fanfold.images.decode.tags import made
from fanfold.images.decode.view import DecodeError, Values, View, check_memory, check_pixels

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NONE, _DEFLATE = 1, (8, 32946)
_UNSIGNED, _SIGNED, _FLOAT, _COMPLEX = 1, 2, 3, (5, 6)
_PREMULTIPLIED, _STRAIGHT = 1, 2
_GROUP = 4 << 20  # bytes of rows decoded together
_COPIED = (258, 259, 262, 266, 277, 284, 317, 320, 322, 323, 338, 339, 347, 530)  # what says how pixels are stored

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # nobody who runs a job can use its warnings


class Seen(NamedTuple):
    """What was found."""

    square: Image.Image
    damaged: bool
    size: tuple[int, int]
    """Pixels, before turning."""
    orientation: int
    """1-8, what turns the square upright."""


def seen(data: bytes, view: View) -> Seen:
    """The square of a TIFF. Raises DecodeError, and whatever the libraries do, if neither can decode it."""
    page = _page_of(data)
    if page is None:
        return _by_pillow(data, None, view)
    check_pixels((page.imagewidth, page.imagelength), view)
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
            if isinstance(error, UnidentifiedImageError):  # it knows no more than that, and tifffile does
                raise
            raise error from None


def _page_of(data: bytes) -> tifffile.TiffPage | None:
    try:
        page = tifffile.TiffFile(io.BytesIO(data)).pages.first
        return page if isinstance(page, tifffile.TiffPage) and page.imagewidth and page.imagelength else None
    except Exception:  # it stumbles on other things than Pillow does
        return None


def _suits_pillow(page: tifffile.TiffPage) -> bool:
    bits, kind = page.bitspersample, page.sampleformat
    little = page.parent.byteorder == "<"
    if page.parent.is_bigtiff and not little:
        return False
    if kind == _UNSIGNED and bits <= 8:
        return True
    if kind == _UNSIGNED and bits == 16:
        return page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK) and _depths_known(page)
    if page.samplesperpixel != 1 or not little:
        return False
    if kind == _FLOAT:
        return bits == 32 and page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return kind == _SIGNED and bits in (16, 32) and page.photometric == _BLACK_IS_ZERO


def _depths_known(page: tifffile.TiffPage) -> bool:
    """Of 16 bits a sample Pillow knows grey alone, and colours with at most one sample more."""
    if page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        return page.samplesperpixel == 1 and (page.photometric == _BLACK_IS_ZERO or page.parent.byteorder == "<")
    return page.samplesperpixel <= 4


def _tag(page: tifffile.TiffPage, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _orientation(page: tifffile.TiffPage) -> int:
    value = _tag(page, 274)
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _nodata(page: tifffile.TiffPage) -> float | None:
    """What GDAL says that it marks no data with."""
    try:
        return float(str(_tag(page, 42113)).strip("\0 "))
    except ValueError:
        return None


def _found(page: tifffile.TiffPage) -> Callable[[Pieces], levels.Levels] | None:
    """What finds the levels of its pixels; None for those that are of 0..255."""
    inverted = page.photometric == _WHITE_IS_ZERO
    bits = page.bitspersample
    if page.sampleformat == _UNSIGNED and bits <= 16:
        return None if bits == 8 and not inverted else lambda _: levels.full(bits, inverted)
    nodata = _nodata(page)
    return lambda pieces: levels.measured(lambda: (piece.values for piece in pieces()), nodata, inverted)


def _window(page: tifffile.TiffPage, view: View) -> Window:
    size = page.imagewidth, page.imagelength
    return window_of(size, box_of(size, view, 1), view)


# -- by Pillow ------------------------------------------------------------------------------------------------------


def _by_pillow(data: bytes, page: tifffile.TiffPage | None, view: View) -> Seen:
    if page and page.imagewidth * page.imagelength > pillow.LARGE and (rows := _Rows(data, page, view)).pays:
        check_memory(_named(page), len(data) + rows.most, view)
        size = page.imagewidth, page.imagelength
        with pillow.settings(libtiff=_needs_libtiff(page)):
            square = pillow.by_pieces(size, rows, view, _deep(page))
        return Seen(square, rows.damaged, size, _orientation(page))
    try:
        with pillow.settings(libtiff=_needs_libtiff(page)):
            return _whole(data, page, view, damaged=False)
    except (DecodeError, UnidentifiedImageError):
        raise
    except Exception:
        with pillow.settings(lenient=True, libtiff=_needs_libtiff(page)):
            return _whole(data, page, view, damaged=True)


def _needs_libtiff(page: tifffile.TiffPage | None) -> bool:
    """Whether Pillow's own way to uncompressed pixels goes wrong: planes of 16 bits, colours that pixels share."""
    return page is not None and (page.planarconfig == 2 or page.photometric == _YCBCR)


def _whole(data: bytes, page: tifffile.TiffPage | None, view: View, damaged: bool) -> Seen:
    """Pillow turns TIFFs upright by itself."""
    image = pillow.opened(data)
    check_pixels(image.size, view)
    strip = 1 if page and page.rowsperstrip >= page.imagelength and page.compression != _NONE else 0
    held = pillow.held(image) * (1 + strip)  # libtiff unpacks a strip at a time, which may be all there is
    check_memory(_named(page) if page else "a TIFF", len(data) + held, view)
    image.load()
    return Seen(pillow.square_of(image, view, _deep(page)), damaged, image.size, 1)


def _deep(page: tifffile.TiffPage | None) -> Callable[[Pieces], levels.Levels] | None:
    """As `_found`, for what Pillow gives: it has inverted what is of eight bits or fewer, and scaled it."""
    if page is None or (page.sampleformat == _UNSIGNED and (page.bitspersample <= 8 or page.samplesperpixel > 1)):
        return None
    return _found(page)


class _Rows:
    """A TIFF as TIFFs of some of its rows, for Pillow: the same tags, and as many strips, or rows of tiles, as fit."""

    def __init__(self, data: bytes, page: tifffile.TiffPage, view: View) -> None:
        self.damaged = False
        self._window = _window(page, view)
        self._data = data
        self._page = page
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        self._across = math.ceil(page.imagewidth / page.tilewidth) if page.is_tiled else 1
        self._offsets, self._counts, self._height = self._segments()
        self._down = math.ceil(page.imagelength / self._height)
        row = self._row_bytes() * self._planes
        self._group = max(1, _GROUP // (row * self._height))
        self.most = 4 * min(self._height * self._group, page.imagelength) * row
        """Bytes that are held of the pixels at a time, and of what is made of them."""
        self.pays = self._group * self._height * 2 < page.imagelength

    def _row_bytes(self) -> int:
        samples = 1 if self._planes > 1 else self._page.samplesperpixel
        return math.ceil(self._page.imagewidth * samples * self._page.bitspersample / 8)

    def _segments(self) -> tuple[list[int], list[int], int]:
        """Offsets, lengths, and rows of strips or tiles; one strip of all that is not packed is cut into several."""
        page = self._page
        offsets, counts = list(page.dataoffsets), list(page.databytecounts)
        height = page.tilelength if page.is_tiled else min(page.rowsperstrip or page.imagelength, page.imagelength)
        if page.is_tiled or page.compression != _NONE or height < page.imagelength or len(offsets) != self._planes:
            return offsets, counts, height
        row = self._row_bytes()
        height = max(1, _GROUP // row)
        tops = range(0, page.imagelength, height)
        lengths = [row * min(height, page.imagelength - top) for top in tops]
        return [offset + row * top for offset in offsets for top in tops], lengths * self._planes, height

    def __call__(self) -> Iterator[Piece]:
        first, last = self._window[1] // self._height, min(self._down, math.ceil(self._window[3] / self._height))
        for start in range(first, last, self._group):
            try:
                image = pillow.opened(self._cut(start, min(last, start + self._group)))
                image.load()
            except Exception:  # the next rows may be there
                self.damaged = True
                continue
            yield Piece(pillow.values_of(image), 0, start * self._height)

    def _cut(self, start: int, stop: int) -> bytes:
        """The TIFF of some rows of strips or tiles."""
        page = self._page
        all_ = self._across * self._down
        indices = [
            plane * all_ + index
            for plane in range(self._planes)
            for index in range(start * self._across, stop * self._across)
        ]
        parts = [self._data[self._offsets[at] : self._offsets[at] + self._counts[at]] for at in indices]
        tags = {code: _tag(page, code) for code in _COPIED}
        tags[256], tags[257] = page.imagewidth, min(stop * self._height, page.imagelength) - start * self._height
        offsets = [8 + sum(map(len, parts[:at])) for at in range(len(parts))]
        if page.is_tiled:
            tags[324], tags[325] = offsets, [len(part) for part in parts]
        else:
            tags[278], tags[273], tags[279] = self._height, offsets, [len(part) for part in parts]
        return made(page.parent.byteorder, b"".join(parts), tags)


# -- by tifffile ----------------------------------------------------------------------------------------------------


def _by_tifffile(data: bytes, page: tifffile.TiffPage, view: View) -> Seen:
    size = page.imagewidth, page.imagelength
    samples = _samples(page)
    segments = _Segments(data, page, _window(page, view), samples)
    check_memory(_named(page), len(data) + segments.most, view)
    try:
        square = pillow.by_pieces(size, segments, view, _over_white(page, samples))
    except Exception as error:
        _check_extra(error, page)
        raise
    if segments.decoded == 0:
        raise DecodeError(f"{_named(page)}: none of its pixels are there")
    return Seen(square, segments.damaged, size, _orientation(page))


class _Samples(NamedTuple):
    """Which of a pixel's samples are seen."""

    colours: int
    """The first ones: grey, or red, green and blue."""
    alpha: int
    """How the one behind them says what is transparent (ExtraSamples); 0 if it does not."""


def _samples(page: tifffile.TiffPage) -> _Samples:
    """Raises DecodeError for colours that nobody knows."""
    if page.sampleformat in _COMPLEX:
        raise DecodeError(f"{_named(page)}, which are complex numbers: what of them is to be seen is not known")
    if page.photometric == _PALETTE:
        return _Samples(1, 0)
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        name = getattr(page.photometric, "name", page.photometric)
        raise DecodeError(f"{_named(page)}, whose colours ({name}) cannot be decoded")
    extra = [int(sample) for sample in page.extrasamples]
    own = 3 if page.photometric == _RGB else 1
    if own == 1 and page.samplesperpixel >= 3 and not any(extra):
        own = 3  # of measurements in several bands, the first three
    alpha = extra[0] if page.samplesperpixel - len(extra) == own and extra else 0
    return _Samples(own, alpha if alpha in (_PREMULTIPLIED, _STRAIGHT) else 0)


class _OverWhite(NamedTuple):
    """Levels of pixels with a sample that says how transparent they are."""

    levels: levels.Levels
    opaque: float
    premultiplied: bool

    def apply(self, values: Values) -> Values:
        """float32, 0..255, without that sample."""
        colours = self.levels.apply(values[..., :-1])
        alpha = np.clip(values[..., -1:].astype(np.float32) / self.opaque, 0, 1)
        shown = (colours if self.premultiplied else colours * alpha) + 255 * (1 - alpha)
        white: Values = np.minimum(shown, 255)
        return white if white.shape[-1] > 1 else white[..., 0]


def _over_white(page: tifffile.TiffPage, samples: _Samples) -> Callable[[Pieces], pillow.Shown] | None:
    find = _found(page)
    if page.photometric == _PALETTE or not samples.alpha:
        return None if page.photometric == _PALETTE else find
    opaque = 1.0 if page.sampleformat == _FLOAT else float(np.iinfo(page.dtype).max)

    def colours(pieces: Pieces) -> Iterator[Piece]:
        return (piece._replace(values=piece.values[..., :-1]) for piece in pieces())

    return lambda pieces: _OverWhite(
        find(lambda: colours(pieces)) if find else levels.full(8), opaque, samples.alpha == _PREMULTIPLIED
    )


class _Segments:
    """The strips or tiles of a TIFF, the planes of each together."""

    def __init__(self, data: bytes, page: tifffile.TiffPage, window: Window, samples: _Samples) -> None:
        self.damaged = False
        self.decoded = 0
        self._data = data
        self._page = page
        self._window = window
        self._kept = samples.colours + bool(samples.alpha)
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        height = page.tilelength if page.is_tiled else min(page.rowsperstrip or page.imagelength, page.imagelength)
        pixels = height * (page.tilewidth if page.is_tiled else page.imagewidth)
        size = pixels * page.samplesperpixel * (page.dtype.itemsize if page.dtype else 8)
        self._expected = size // self._planes
        self.most = 2 * size + pixels * self._kept * 12
        """Bytes that are held of the pixels at a time, and of what is made of them."""

    def __call__(self) -> Iterator[Piece]:
        count = len(self._page.dataoffsets) // self._planes
        for index in range(count):
            planes = [self._segment(index + plane * count) for plane in range(min(self._planes, self._kept))]
            found = [plane for plane in planes if plane is not None]
            if found and len(found) == len(planes):
                values = np.concatenate([piece.values for piece in found], axis=-1) if found[1:] else found[0].values
                yield found[0]._replace(values=self._chosen(values))

    def _segment(self, index: int) -> Piece | None:
        """A segment of all its samples; None if it is not looked at, or damaged."""
        page = self._page
        _, (_, _, top, left, _), shape = page.decode(None, index)
        if top >= self._window[3] or top + shape[1] <= self._window[1]:
            return None
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        packed = self._data[offset : offset + length]
        try:
            if len(packed) < length or not packed or self._is_bomb(packed):
                raise ValueError("the segment is not there")
            values, _, _ = page.decode(packed, index, jpegtables=page.jpegtables)
        except Exception as error:
            _check_extra(error, page)
            self.damaged = True
            return None
        self.decoded += 1
        return None if values is None else Piece(values[0], left, top)

    def _is_bomb(self, packed: bytes) -> bool:
        """Whether it unpacks to more than a segment holds; tifffile by itself would unpack it all."""
        if self._page.compression not in _DEFLATE:
            return False
        inflate = zlib.decompressobj()
        inflate.decompress(packed, self._expected + 1)
        return not inflate.eof and len(inflate.unconsumed_tail) > 64

    def _chosen(self, values: Values) -> Values:
        """Of all samples those that are seen."""
        if self._page.photometric == _PALETTE and self._page.colormap is not None:
            return (self._page.colormap.T[values[..., 0]] >> 8).astype(np.uint8)
        return values[..., 0] if self._kept == 1 else values[..., : self._kept]


def _check_extra(error: Exception, page: tifffile.TiffPage) -> None:
    """Raises DecodeError if another package could."""
    if "imagecodecs" in str(error):
        needs = "needs the extra 'tiff'. Install it with: pip install 'fanfold[tiff]'"
        raise DecodeError(f"{_named(page)} {needs}") from error


def _named(page: tifffile.TiffPage) -> str:
    kind = {_UNSIGNED: "", _SIGNED: "signed ", _FLOAT: "float "}.get(int(page.sampleformat or 0), "")
    packed = "" if page.compression == _NONE else f", {getattr(page.compression, 'name', page.compression)}"
    size = f"{page.imagewidth} x {page.imagelength} x {page.samplesperpixel}"
    return f"a TIFF of {size} {kind}{page.bitspersample}-bit samples{packed}"
