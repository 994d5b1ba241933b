"""JPEGs: decoded at 1, 1/2, 1/4 or 1/8, the least that leaves twice the pixels wanted (libjpeg-turbo, by simplejpeg).

Markers: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import simplejpeg
from PIL import Image, ImageFile

from fanfold.images.decode.square import box_of, resized, shifted, shrink_of, window_of
from fanfold.images.decode.view import View, check_memory, check_pixels

SIGNATURE = b"\xff\xd8\xff"
_END, _SCAN = 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_KEPT = {0xE0, 0xE1, 0xEE}  # JFIF, EXIF (the orientation), Adobe (the colours)
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")  # no pixels are missing; padding or a trailer follows
_NOT_DATA = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # ends a scan: no stuffed byte, no restart
_PADDED = re.compile(rb"(?<!\xff)\x00+(?=\xff[\xd0-\xd7\xd9])")  # zeros before a restart or the end
_CHECKED = 1 << 23  # pixels; a smaller picture never takes too much memory


class Frame(NamedTuple):
    """A JPEG's header."""

    marker: int
    """The coding process, 0xC0 to 0xCF."""
    bits: int
    width: int
    height: int
    sampling: list[tuple[int, int]]
    """Samples across and down in a unit, for each component."""
    scans: int
    """Components of the first scan; fewer than all means several scans."""

    @property
    def buffered(self) -> int:
        """Bytes that the decoder keeps of a picture in several scans: all coefficients, two bytes each."""
        if self.marker not in (0xC2, 0xC6, 0xCA, 0xCE) and self.scans >= len(self.sampling):
            return 0
        across, down = (max(pair[axis] for pair in self.sampling) for axis in (0, 1))
        units = math.ceil(self.width / 8 / across) * math.ceil(self.height / 8 / down)
        return 2 * 64 * units * sum(h * v for h, v in self.sampling)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, up to the first scan's header or to where the file breaks."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        end = at + 2 if marker in _ALONE else at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data) or marker == _END:
            return
        yield marker, at, end
        if marker == _SCAN:
            return
        at = end


def frame_of(data: bytes) -> Frame | None:
    """The header of a JPEG; None if it is missing or incomplete."""
    frame = None
    for marker, start, end in segments(data):
        body = data[start + 4 : end]
        if marker in _FRAMES and len(body) >= 6:
            sampling = [(body[at] >> 4 or 1, body[at] & 15 or 1) for at in range(7, len(body), 3)]
            height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
            frame = Frame(marker, body[0], width, height, sampling, len(sampling))
        if marker == _SCAN and frame and body:
            frame = frame._replace(scans=body[0])
    return frame


def bare(data: bytes) -> bytes:
    """A JPEG without profiles, previews, comments and the index of other pictures."""
    kept, end = [data[:2]], 2
    for marker, start, end in segments(data):
        needed = data[start + 4 : end].startswith((b"JFIF", b"Exif", b"Adobe"))
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker in _KEPT and needed):
            kept.append(data[start:end])
    return b"".join([*kept, data[end:]])


def check(data: bytes, image: ImageFile.ImageFile, view: View) -> None:
    """Raises DecodeError for a JPEG that takes too much work or memory at the scale at which it will be decoded."""
    shrink = shrink_of(image.size, view)
    check_pixels(image.size, view, shrink)
    pixels = image.width * image.height
    if pixels < _CHECKED:
        return
    frame = frame_of(data)
    held = frame.buffered if frame else 0
    shown = pixels // shrink**2 * (4 if image.mode == "CMYK" else 3)
    kind = "a JPEG in several scans" if held else "a JPEG"
    check_memory(f"{kind} of {image.width} x {image.height} pixels", len(data) + held + shown, view)


def square_of(data: bytes, image: ImageFile.ImageFile, view: View) -> tuple[Image.Image, bool]:
    """The square, and whether pixels are missing. Raises ValueError for what simplejpeg cannot decode."""
    shrink = shrink_of(image.size, view)
    asked: dict[str, Any] = {
        "colorspace": "GRAY" if image.mode == "L" else "RGB",
        "min_width": math.ceil(image.width / shrink),
        "min_height": math.ceil(image.height / shrink),
    }
    damaged = False
    try:
        pixels = simplejpeg.decode_jpeg(data, **asked)
    except ValueError as warning:
        progressive = "progressive" in image.info
        damaged = _is_damaged(data, str(warning), progressive)
        try:
            pixels = simplejpeg.decode_jpeg(data, strict=False, **asked)
        except ValueError:  # without an end marker, a second JPEG behind it is an error
            pixels = simplejpeg.decode_jpeg(tidy(data, progressive), strict=False, **asked)
    box = box_of(image.size, view, shrink)
    left, top, right, bottom = window_of((pixels.shape[1], pixels.shape[0]), box, view)
    inner = pixels[top:bottom, left:right]
    grey_or_rgb = inner[..., 0] if image.mode == "L" else inner
    return resized(Image.fromarray(grey_or_rgb), shifted(box, left, top), view), damaged


def _is_damaged(data: bytes, warning: str, progressive: bool) -> bool:
    """Whether pixels are missing, by libjpeg's first warning.

    Parts that hold no pixels are removed; if libjpeg has nothing to warn of then, the picture is whole. In a
    progressive file a missing end looks the same as missing refinements.
    """
    if _HARMLESS.search(warning):
        return False
    if progressive and "extraneous" not in warning:
        return True
    return all(_warns(tidy(data, progressive, kept)) for kept in (False, True))


def _warns(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg(data, min_width=1, min_height=1)
    except ValueError as error:
        return not _HARMLESS.search(str(error))
    return False


def tidy(data: bytes, progressive: bool, kept: bool = False) -> bytes:
    """A JPEG with an end, without anything behind it, and without zeros before the end or before restarts.

    A zero may be the last byte of coded pixels: with `kept`, the shortest run of zeros is removed from each run.
    All of a baseline JPEG's pixels are in its first scan, so any other marker ends it: cameras put data there that
    is not JPEG.
    """
    start = max((end for _, _, end in segments(data)), default=0)
    end = data.rfind(b"\xff\xd9", start) if progressive else _NOT_DATA.search(data, start)
    stop = end.start() if isinstance(end, re.Match) else end
    scan = (data[start:] if stop in (None, -1) else data[start:stop]) + b"\xff\xd9"
    padding = [len(run[0]) for run in _PADDED.finditer(scan) if scan[run.end() + 1] != _END]
    spare = 0 if not kept or not padding else min(padding)
    return data[:start] + _PADDED.sub(lambda run: run[0][spare:] if spare else b"", scan)
