"""Small pictures for tests that need any."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(file: Path, colour: tuple[int, int, int] = (200, 30, 30), seed: int = 0) -> Path:
    """A small noisy picture."""
    noise = np.random.default_rng(seed).integers(0, 60, (64, 80, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + np.array(colour)).clip(0, 255).astype(np.uint8)).save(file)
    return file


def make_photos(folder: Path) -> Path:
    """Four good pictures, two of them nearly the same, and files that are not pictures."""
    picture(folder / "red.jpg")
    picture(folder / "sub" / "red again.png")
    picture(folder / "green.png", (20, 200, 40), 1)
    picture(folder / "[blue].png", (20, 40, 220), 2)
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.jpg").touch()
    return folder
