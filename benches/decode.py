"""The time between a picture's bytes and the model's input square, format by format.

    .venv/bin/python benches/decode.py [--rounds 9]

    header    finding format, size and orientation, and refusing bombs
    pixels    the decoder (libjpeg-turbo at a fraction of the size, or Pillow's), and the rest: cropping, rotating
    square    resizing the middle square

CPU milliseconds of one thread, the minimum of several rounds: the time of undisturbed work.
"""

import argparse
import io
import time
from collections.abc import Callable
from unittest.mock import patch

import measure
import numpy as np
import pictures
import results
from PIL import Image

from fanfold.images.decode import View, decode, jpeg, pillow, png

VIEW = View(224, 0.875)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    busy = measure.idle()
    rows = [[name, f"{len(data) / 1e3:,.0f}", *split(data, args.rounds)] for name, data in inputs().items()]
    table = results.markdown(["CPU ms a picture", "kB", "header", "pixels", "square", "in all"], rows)
    libraries = measure.versions(measure.OURS / "python", "pillow", "simplejpeg")
    print(results.record("decode", "", table, f"{busy}; {libraries}"))


def inputs() -> dict[str, bytes]:
    """One photograph in several formats and sizes."""
    small = pictures.in_folder(pictures.make("500x375", 100))[3].read_bytes()
    large = pictures.in_folder(pictures.make("12mp", 24))[3].read_bytes()
    photo = Image.open(io.BytesIO(large))
    middle = photo.resize((1000, 750), Image.Resampling.LANCZOS)
    return {
        "JPEG, 500 x 375": small,
        "JPEG, 4000 x 3000": large,
        "progressive JPEG, 4000 x 3000": saved(photo, "JPEG", quality=90, progressive=True),
        "PNG, 1000 x 750": saved(middle, "PNG"),
        "WebP, 1000 x 750": saved(middle, "WEBP", quality=85),
    }


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def split(data: bytes, rounds: int) -> list[str]:
    """Milliseconds for header, pixels, square and total, from the quickest round."""
    out = np.empty((VIEW.size, VIEW.size, 3), np.uint8)
    resized, spent = pillow.resized, 0.0

    def timed(*args: object) -> Image.Image:
        nonlocal spent
        started = time.process_time()
        square = resized(*args)
        spent = time.process_time() - started
        return square

    with patch.object(pillow, "resized", timed), patch.object(jpeg, "resized", timed):
        whole, square = min((took(lambda: decode(data, out, VIEW)), spent) for _ in range(rounds))
    head = min(took(lambda: header(data)) for _ in range(rounds * 10))
    return [f"{1000 * seconds:.2f}" for seconds in (head, whole - square - head, square, whole)]


def header(data: bytes) -> None:
    """Everything that is done before a decoder is called."""
    with pillow.settings():
        if data.startswith(png.SIGNATURE):
            png.Png(data).orientation()
            return
        image = pillow.opened(data)
        pillow.orientation_of(image)
        if data.startswith(jpeg.SIGNATURE):
            jpeg.check(data, image, VIEW)


def took(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
