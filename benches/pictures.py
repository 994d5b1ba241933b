"""The benchmarks' pictures, made from real photographs in the same way on every machine.

    500x375   JPEG quality 90, the size of ImageNet's photographs
    12mp      JPEG quality 90 of 4000 x 3000 pixels, 3 to 6 MB each, like a phone's
    png       Debian's tuxpaint stamps: 796 labelled pictures of all sizes and modes, most with alpha

The photographs come with scikit-image; each picture is a random crop of one, with random mirroring, brightness and
stamp (the seed is its number), so no two are equal. A photograph that is scaled up is smoother than a camera's, which
makes files small and decoding cheap: noise like a sensor's compensates for that.
"""

import os
import shutil
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "bench-data"
STAMPS = Path("/usr/share/tuxpaint/stamps")
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
INPUTS = ("500x375", "12mp", "png")
SHAPES = {"500x375": ((500, 375), 6.0), "12mp": ((4000, 3000), 8.0)}
"""Width and height in pixels; standard deviation of the noise, in levels of 0..255."""


def make(name: str, count: int) -> Path:
    """The folder of input `name` with `count` pictures (or all stamps, if fewer), made if it does not exist."""
    folder = DATA / f"{name}-{count}"
    if (folder / ".done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == "png":
        _copy_stamps(folder, count)
    else:
        jobs = [(name, number, folder / f"{number:05d}.jpg") for number in range(count)]
        with get_context("spawn").Pool() as pool:
            for _ in pool.imap_unordered(_make_photo, jobs, chunksize=4):
                pass
    (folder / ".done").touch()
    return folder


def in_folder(folder: Path) -> list[Path]:
    """The pictures of a folder, ordered by name."""
    return sorted(path for path in folder.rglob("*.*") if path.suffix in {".jpg", ".png"})


def describe(paths: Iterable[Path]) -> str:
    """The number and size of the pictures."""
    sizes = [path.stat().st_size for path in paths]
    return f"{len(sizes)} pictures, {sum(sizes) / 1e6:.0f} MB, {sum(sizes) / len(sizes) / 1e3:.0f} kB each on average"


def _copy_stamps(folder: Path, count: int) -> None:
    stamps = _stamps()
    if not stamps:
        raise SystemExit("The stamps come with Debian's package tuxpaint-stamps-default; leave png out of --inputs.")
    for path in stamps[:: -(-len(stamps) // count)]:
        target = folder / path.relative_to(STAMPS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _make_photo(job: tuple[str, int, Path]) -> None:
    name, number, path = job
    shape, noise = SHAPES[name]
    random = np.random.default_rng(number)
    photo = _crop(_photograph(PHOTOGRAPHS[number % len(PHOTOGRAPHS)]), shape, random)
    pixels = np.asarray(_with_stamp(photo, random), np.float32) * random.uniform(0.8, 1.1)
    # The same noise in all channels: sensor noise is mostly in brightness, and JPEG drops most of the colour's.
    grain = random.standard_normal(pixels.shape[:2], np.float32)[..., None] * noise
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(path, quality=90)


def _photograph(name: str) -> Image.Image:
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The photographs come with scikit-image: pip install --no-deps scikit-image")
    return Image.open(Path(package.submodule_search_locations[0]) / "data" / name).convert("RGB")


def _crop(photo: Image.Image, shape: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """A random part of the photograph with this shape, at least half as large as fits."""
    largest = min(photo.width / shape[0], photo.height / shape[1])
    width, height = (side * largest * random.uniform(0.5, 1) for side in shape)
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    part = photo.resize(shape, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def _with_stamp(photo: Image.Image, random: np.random.Generator) -> Image.Image:
    """The photograph with a stamp on it, at most half as high; unchanged without stamps."""
    stamps = _stamps()
    if not stamps:
        return photo
    stamp = Image.open(stamps[random.integers(len(stamps))]).convert("RGBA")
    scale = photo.height * random.uniform(0.2, 0.5) / max(stamp.size)
    stamp = stamp.resize([max(1, round(side * scale)) for side in stamp.size], Image.Resampling.BICUBIC)
    photo.paste(stamp, [int(random.integers(photo.size[axis] - stamp.size[axis])) for axis in (0, 1)], stamp)
    return photo


@cache
def _stamps() -> list[Path]:
    return sorted(STAMPS.rglob("*.png"))


def many(count: int) -> Path:
    """A folder of `count` files, 1,000 per directory: hard links to 100 pictures (ext4 allows 65,000 per file)."""
    folder = DATA / f"many-{count}"
    if (folder / ".done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    originals = in_folder(make("500x375", 100))
    for number in range(count):
        if number % 1000 == 0:
            directory = folder / f"{number // 1000:04d}"
            directory.mkdir(parents=True)
        os.link(originals[number % len(originals)], directory / f"{number:07d}.jpg")
    (folder / ".done").touch()
    return folder
