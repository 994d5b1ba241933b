"""Bombs, large pictures, and their memory."""

import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import tifffile
from decoding import chunk, encoded, png, seen
from PIL import Image

from fanfold.images.decode import DecodeError, Facts, View


def test_pixel_bomb() -> None:
    """A picture of 30,000 x 30,000 pixels in a few hundred bytes fails by its header and is not decoded."""
    with pytest.raises(DecodeError, match="30000 x 30000 pixels are more than"):
        seen(png(chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), chunk(b"IDAT", b"")))


def test_jpeg_bomb() -> None:
    """A JPEG's size is checked before decoding, too."""
    data = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(DecodeError, match="60000 x 60000"):
        seen(data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :])


def test_pixel_cap_is_ours(picture: Image.Image) -> None:
    """The limit is the option's, not Pillow's, and any picture up to it is accepted."""
    data = encoded(picture, "PNG")
    assert seen(data, View(64, 0.875, max_pixels=450 * 300))[1].width == 450
    with pytest.raises(DecodeError, match="max_pixels"):
        seen(data, View(64, 0.875, max_pixels=450 * 300 - 1))


def test_large_picture_without_warning() -> None:
    """A picture above Pillow's own limit and below ours is decoded without a warning."""
    data = encoded(Image.new("1", (10000, 9500), 1), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square, _ = seen(data)
    assert (square == 255).all()


def test_text_bomb() -> None:
    """A PNG with 100 MB of text compressed to 100 kB is decoded, and its text takes no memory: it is never inflated."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    data = png(header, text, pixels)
    with pytest.raises(ValueError, match="too large"):  # so Pillow must not see the text
        Image.open(io.BytesIO(data)).load()
    tracemalloc.start()
    try:
        square, facts = seen(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (square == (1, 2, 3)).all()
    assert facts == Facts(1, 1, "PNG", False)
    assert most < 500_000  # bytes


def test_claimed_text_chunk() -> None:
    """A PNG that claims a chunk of 2 GB that it does not have neither allocates it nor crashes."""
    data = (
        png(chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))) + struct.pack(">I", (1 << 31) - 1) + b"tEXtCo"
    )
    with pytest.raises(DecodeError):
        seen(data)


def test_pillow_is_left_alone(picture: Image.Image) -> None:
    """Pillow's process-wide settings stay as they were, even after a failure."""
    from PIL import AvifImagePlugin, ImageFile

    def now() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS

    before = now()
    data = encoded(picture, "PNG")
    seen(data[: len(data) // 2])
    with pytest.raises(DecodeError):
        seen(b"nothing")
    assert now() == before


# -- memory ---------------------------------------------------------------------------------------------------------

SIDE = 11_500  # 132 megapixels, just below max_pixels
MOST = 600e6
"""The limit in bytes for a process that decodes any picture, including Python."""

DECODE = """
import sys
from pathlib import Path
import numpy as np
from fanfold.images.decode import DecodeError, View, decode
out = np.empty((224, 224, 3), np.uint8)
try:
    print(*decode(Path(sys.argv[1]).read_bytes(), out, View(224, 0.875))[:2], out.min(), out.max())
except DecodeError as error:
    print(error)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def decoded(path: Path) -> tuple[str, float]:
    """The output of a separate process that decodes a file, and its peak memory in bytes."""
    done = subprocess.run([sys.executable, "-c", DECODE, str(path)], capture_output=True, text=True, check=True)
    *said, kilobytes = done.stdout.split("\n")[:-1]
    return "\n".join(said), int(kilobytes) * 1024


def slope(dtype: str, most: float) -> np.ndarray[Any, Any]:
    """A row from black to white."""
    return np.linspace(0, most, SIDE).astype(dtype)


def sixteen_bit_png(path: Path) -> None:
    row = b"\0" + slope(">u2", 65535).tobytes()
    pack = zlib.compressobj(1)
    pixels = b"".join([*(pack.compress(row) for _ in range(SIDE)), pack.flush()])
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 0, 0, 0, 0)
    path.write_bytes(png(chunk(b"IHDR", header), chunk(b"IDAT", pixels)))


def float_tiff(path: Path) -> None:
    tile = np.tile(np.linspace(0, 1, 512, dtype=np.float32), (512, 1))
    tiles = iter([zlib.compress(tile.tobytes(), 1)] * (SIDE // 512 + 1) ** 2)
    options: dict[str, Any] = {"shape": (SIDE, SIDE), "dtype": np.float32, "tile": (512, 512)}
    tifffile.imwrite(path, tiles, compression="zlib", metadata=None, photometric="minisblack", **options)


def wide_jpeg(path: Path) -> None:
    """A picture with more pixels than max_pixels, which is decoded at an eighth."""
    Image.fromarray(np.tile(slope("u1", 255), (12_000, 1))).save(path, "JPEG", quality=50)


HELD = {
    "grey16.png": (sixteen_bit_png, f"{SIDE} {SIDE}"),
    "float.tif": (float_tiff, f"{SIDE} {SIDE}"),
    "wide.jpg": (wide_jpeg, f"{SIDE} 12000"),
}


@pytest.mark.parametrize("name", HELD)
def test_large_pictures_take_little_memory(tmp_path: Path, name: str) -> None:
    """The largest allowed pictures are decoded, black to white, in less than 600 MB."""
    make, size = HELD[name]
    make(tmp_path / name)
    said, taken = decoded(tmp_path / name)
    assert taken < MOST
    assert said.startswith(size)
    low, high = map(int, said.split()[2:])
    assert low < 30
    assert high > 225
    (tmp_path / name).unlink()


def test_what_takes_more_memory_fails() -> None:
    """A format that can only be decoded as a whole fails by its header, with the memory that it would take."""
    for form in ("WEBP", "AVIF", "JPEG2000"):
        data = encoded(Image.new("RGB", (1100, 1000)), form)
        with pytest.raises(DecodeError, match=r"of 1100 x 1000 pixels takes \d+ MB to decode, more than the \d+ MB"):
            seen(data, Tight(64, 0.875))
    progressive = encoded(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True)
    with pytest.raises(DecodeError, match="a JPEG in several scans of 3000 x 3000 pixels takes"):
        seen(progressive, Tight(64, 0.875))


class Tight(View):
    """A view with ten megabytes for a picture."""

    @property
    def memory(self) -> int:
        return 10 << 20
