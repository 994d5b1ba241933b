"""The SIMD resizer and Pillow's: the same squares but for rounding, and the same vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fanfold.images import Images
from fanfold.images.decode import View, decode, square
from fanfold.images.decode.square import by_pillow, by_simd
from fanfold.images.decode.view import Filter
from fanfold.images.models.quantize import cosines

STAMPS = Path("/usr/share/tuxpaint/stamps")


def noise(seed: int, width: int, height: int, mode: str) -> Image.Image:
    """Smooth noise, with edges of full contrast."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, len(mode.replace("L", "1"))), dtype=np.uint8)
    image = Image.fromarray(values[..., 0] if mode == "L" else values)
    return image.resize((width, height), box=(0, 0, max(1, width // 3), max(1, height // 3)))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(32, 190), st.integers(32, 190)),  # beyond, Pillow averages whole blocks first
    st.sampled_from(["L", "RGB"]),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_the_same_squares(seed: int, size: tuple[int, int], mode: str, kernel: Filter) -> None:
    """For any picture, grey or RGB, that is made smaller, the two are nearly the same."""
    image = noise(seed, *size, mode)
    theirs, ours = (np.asarray(way(image, (0, 0, *size), 32, kernel), np.int16) for way in (by_simd, by_pillow))
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= 12  # at edges of full contrast
    assert np.abs(theirs - ours).mean() <= 0.6


@pytest.mark.parametrize("side", [100, 223, 224, 225])
def test_what_is_enlarged(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enlarging is Pillow's alone: edges look beyond the box there."""
    image, view = noise(side, 300, 300, "RGB"), View(224, 1.0)
    box = (10.0, 10.0, 10.0 + side, 10.0 + side)
    found = np.asarray(square.resized(image, box, view))
    monkeypatch.setattr(square, "simd", None)
    assert np.array_equal(found, np.asarray(square.resized(image, box, view))) == (side <= 224)


def pictures(photos: dict[str, Path]) -> Iterator[Path]:
    """The demo's pictures, then the stamps."""
    yield from photos.values()
    yield from sorted(file for file in STAMPS.rglob("*.png"))[::9]


@pytest.mark.skipif(not STAMPS.is_dir(), reason="needs tuxpaint-stamps-default")
def test_the_same_vectors(photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On real pictures of all modes (grey, RGB, shrunk JPEGs, palettes, alpha over white) the vectors agree."""
    views, found = (View(224, 0.875), View(224, 1.0)), {}
    files = [*pictures(photos)]
    for way in (by_simd, by_pillow):
        monkeypatch.setattr(square, "simd", way is by_simd and square.simd)
        found[way] = np.stack([decoded(file, views[number % 2]) for number, file in enumerate(files)])
    assert len(files) > 60
    assert (found[by_simd] != found[by_pillow]).any()  # both ways were taken
    embed = Images(engine="onnxruntime").open()._embedder
    theirs, ours = (np.concatenate([embed(pixels[None]) for pixels in found[way]]) for way in (by_simd, by_pillow))
    alike = cosines(theirs, ours)
    assert alike.min() >= 0.999, files[int(alike.argmin())]
    assert alike.mean() >= 0.9999


def decoded(file: Path, view: View) -> np.ndarray:
    """uint8[size, size, 3]; black for what cannot be decoded."""
    pixels = np.zeros((view.size, view.size, 3), np.uint8)
    try:
        decode(file.read_bytes(), pixels, view)
    except Exception:  # some of scikit-image's are odd on purpose
        pixels[:] = 0
    return pixels


def test_sixteen_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of sixteen bits, which are scaled to eight first, come out the same."""
    ramp = np.linspace(0, 65535, 300 * 200).reshape(200, 300).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    theirs = decoded(tmp_path / "ramp.png", View(64, 1.0)).astype(np.int16)
    monkeypatch.setattr(square, "simd", None)
    ours = decoded(tmp_path / "ramp.png", View(64, 1.0)).astype(np.int16)
    assert ours.max() > 200
    assert np.abs(theirs - ours).max() <= 2
