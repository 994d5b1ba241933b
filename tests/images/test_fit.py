"""The two ways a picture becomes a square, the middle of it or all of it squeezed, and the two ways it is resized."""

from typing import Any

import numpy as np
import pytest
from decoding import apart, encoded, png_of_depth_16, reference, seen
from PIL import Image

from fanfold.images import Images
from fanfold.images.decode import Pixels, View
from fanfold.images.models.registry import MODELS

SQUASH = View(64, 1.0, fit="squash")


def squeezed(image: Image.Image, view: View = SQUASH) -> Pixels:
    """All of the picture in the square, by Pillow alone."""
    how = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[view.filter]
    return np.asarray(image.convert("RGB").resize((view.size, view.size), how))


@pytest.mark.parametrize("how", ["bicubic", "bilinear"])
@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "JPEG2000"])
def test_squeezed(picture: Image.Image, form: str, how: Any) -> None:
    """All of a picture is squeezed into the square, as Pillow resizes it but for rounding."""
    view = View(96, 1.0, fit="squash", filter=how)  # above a third of the picture, where no block is averaged first
    options = {"lossless": True} if form == "WEBP" else {}
    square, facts = seen(encoded(picture, form, **options), view)
    assert apart(square, squeezed(picture, view)) < 0.5
    assert facts[:2] == (450, 300)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(450, 300), (1801, 1201), (640, 3203), (64, 64), (50, 37), (3, 700), (2000, 70)])
def test_squeezed_jpeg(picture: Image.Image, size: tuple[int, int], mode: str) -> None:
    """A JPEG of any shape that is decoded at a fraction of its size is squeezed in the same way."""
    large = picture.resize(size).convert(mode)
    square, _ = seen(encoded(large, "JPEG", quality=95), SQUASH)
    assert apart(square, squeezed(large)) < (6 if mode == "CMYK" else 3)


def test_squeezed_in_strips(picture: Image.Image) -> None:
    """A PNG that is decoded some rows at a time is squeezed in the same way: its blocks are not square."""
    large = picture.resize((3600, 1800))
    square, _ = seen(encoded(large, "PNG", compress_level=1), View(64, 1.0, max_pixels=26_500_000, fit="squash"))
    assert apart(square, squeezed(large)) < 1


@pytest.mark.parametrize("size", [(1500, 300), (300, 1500), (450, 300)])
def test_squeezed_deep(picture: Image.Image, size: tuple[int, int]) -> None:
    """A picture of 16 bits a channel is squeezed in the same way."""
    large = picture.resize(size)
    square, _ = seen(png_of_depth_16(np.asarray(large)), SQUASH)
    assert apart(square, squeezed(large)) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_squeezed_and_turned(picture: Image.Image, orientation: int) -> None:
    """A picture that is stored turned is squeezed to what it shows when it is upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # how the upright picture is stored
    stored = picture
    for turn in turns.get(orientation, []):
        stored = stored.transpose(Image.Transpose(turn))
    square, facts = seen(encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif), SQUASH)
    assert facts[:2] == (450, 300)
    assert apart(square, squeezed(picture)) < 2


def test_middle_of_both_sides(picture: Image.Image) -> None:
    """With a crop, the middle of both sides is squeezed, as processors do that crop a squeezed picture."""
    square, _ = seen(encoded(picture, "PNG"), View(64, 0.8, fit="squash"))
    middle = picture.resize((64, 64), Image.Resampling.BICUBIC, box=(45, 30, 405, 270))
    assert apart(square, np.asarray(middle)) < 0.5


def test_edges_of_a_tall_picture() -> None:
    """The rows just outside of the middle count as much as Pillow lets them, however long the picture is."""
    striped = np.zeros((1960, 60, 3), np.uint8)
    striped[:490] = striped[1470:] = 255  # a light border around the middle half
    image = Image.fromarray(striped)
    square, _ = seen(encoded(image, "PNG"), View(10, 0.5, fit="squash"))
    middle = image.resize((10, 10), Image.Resampling.BICUBIC, box=(15, 490, 45, 1470))
    assert apart(square[[0, -1]], np.asarray(middle)[[0, -1]]) < 3


def test_they_differ(picture: Image.Image) -> None:
    """The middle square, all of the picture, and the two filters are four different inputs."""
    data = encoded(picture, "PNG")
    views = [View(64, 1.0, fit=fit, filter=how) for fit in ("crop", "squash") for how in ("bicubic", "bilinear")]
    squares = [seen(data, view)[0] for view in views]
    assert apart(squares[0], reference(picture, views[0])) < 0.5
    for at, one in enumerate(squares):
        assert all(apart(one, other) > 0.5 for other in squares[at + 1 :])


# -- the recipe -----------------------------------------------------------------------------------------------------

BEFORE = {
    "efficientnet-lite0": "middle 0.875 of the short side to 224 px, (rgb - [127, 127, 127]) / [128, 128, 128]",
    "resnet18": "middle 0.875 of the short side to 224 px, (rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]",
    "resnet50": "middle 0.875 of the short side to 224 px, (rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]",
    "dinov2-small": "middle 0.875 of the short side to 224 px, "
    "(rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]",
    "clip-vit-b32": "middle 1 of the short side to 224 px, "
    "(rgb - [122.771, 116.746, 104.094]) / [68.5005, 66.6322, 70.3232]",
}
"""The preprocessing in the recipes of tables that exist."""


@pytest.mark.parametrize("name", BEFORE)
def test_recipes_stay(name: str) -> None:
    """The words in a recipe stay the same, so that tables of older versions go on."""
    (model,) = [model for model in MODELS if model.name == name]
    assert str(model.preprocessing) == BEFORE[name]
    assert model.preprocessing.filter == "bicubic"


def test_recipe_of_the_default() -> None:
    """The whole line of the default model's recipe is the one in tables of older versions."""
    assert Images().recipe()["preprocessing"] == (
        f"{BEFORE['efficientnet-lite0']}; antialiased bicubic; JPEG decoded at >= 2x"
    )
