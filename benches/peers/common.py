"""The common part of all peers: reading the list of pictures, preparing a picture for Lite0, saving the vectors.

A peer is a small program like its users would write:

    python benches/peers/NAME.py LIST MODEL OUT [setting=value ...]

LIST has one path per line, MODEL is the ONNX file (the PyTorch peers take the same weights from their package), OUT
receives the vectors in the order of LIST. Its last line is a JSON object: seconds of work, imports and model excluded.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

SIZE = 224
"""Side of the model's input square, in pixels."""
CROP = 224 / 256
"""The fraction of a picture's short side that is used."""


class Bench:
    """A peer's command line and stopwatch."""

    def __init__(self, **settings: int) -> None:
        pictures, self.model, self.out, *given = sys.argv[1:]
        self.paths = Path(pictures).read_text().splitlines()
        self.settings = settings | {name: int(value) for name, value in (pair.split("=") for pair in given)}
        self.started_file = Path(self.out).with_suffix(".started")

    def __getitem__(self, name: str) -> int:
        return self.settings[name]

    def start(self) -> None:
        """Mark the start of work, after imports and loading a model; the first call in any process counts."""
        with suppress(FileExistsError), self.started_file.open("x") as file:
            file.write(str(time.time()))

    def finish(self, vectors: np.ndarray) -> None:
        """Save the vectors and print the time."""
        seconds = time.time() - float(self.started_file.read_text())
        self.started_file.unlink()
        np.save(self.out, np.asarray(vectors, np.float32))
        print(json.dumps({"seconds": seconds, "settings": self.settings}))


def open_rgb(path: str | IO[bytes], draft: bool = False) -> Image.Image:
    """The picture with three channels, over white where it is transparent.

    With `draft`, JPEGs are decoded at the smallest scale (1/2, 1/4, 1/8) still twice as large as needed.
    """
    image = Image.open(path)
    if draft:
        image.draft("RGB", (2 * SIZE, 2 * SIZE))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def crop_and_resize(image: Image.Image) -> np.ndarray:
    """The middle of the picture, 224 x 224, by antialiased bicubic interpolation. uint8[224, 224, 3]"""
    side = CROP * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))
