"""The quality of the vectors, against an independent path to the same model, and by their neighbours."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from fanfold.images import Images
from fanfold.images.models.efficientnet_lite import LITE0
from fanfold.images.work import Embedding

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""About 800 drawings and cut-out photos with alpha, in folders by kind."""


def cosines(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The cosine of the two vectors of each pair."""
    return np.array([one @ two / (np.linalg.norm(one) * np.linalg.norm(two)) for one, two in pairs])


@pytest.fixture(name="reference", scope="module")
def _reference() -> onnxruntime.InferenceSession:
    """The same weights and nothing else of Fanfold's pipeline: the graph as the weights define it."""
    return onnxruntime.InferenceSession(LITE0.build().SerializeToString())


def reference_vector(session: onnxruntime.InferenceSession, image: Image.Image) -> np.ndarray:
    """The vector of a full decode by Pillow, with the middle square by antialiased bicubic and float32 normalisation.

    The resized square has 8 bits per channel, like in every pipeline that the models were trained and published with:
    without rounding, vectors of low-contrast pictures move more (to a cosine of 0.99) than by all that Fanfold does.
    """
    side = min(image.size) * 0.875
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    pixels = (np.asarray(square, np.float32) - 127) / 128
    return session.run(["embedding"], {"pixels": pixels.transpose(2, 0, 1)[None]})[0][0]


def over_white(image: Image.Image) -> Image.Image:
    """The picture over white, as RGB."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")


def whole_pictures(photos: dict[str, Path]) -> Iterator[tuple[Image.Image, bytes]]:
    """Each picture of scikit-image that need not be enlarged, decoded by Pillow alone, and its bytes."""
    for file in photos.values():
        image = over_white(Image.open(file))
        if min(image.size) >= 256:
            yield image, file.read_bytes()


def test_against_full_decode(photos: dict[str, Path], work: Embedding, reference: onnxruntime.InferenceSession) -> None:
    """For scikit-image's pictures, the cosine with the slow, plain path is 0.999 on average and at least 0.99."""
    pairs = [(work.embed_one(data), reference_vector(reference, image)) for image, data in whole_pictures(photos)]
    found = cosines(pairs)
    assert len(found) >= 20
    assert found.mean() >= 0.999
    assert found.min() >= 0.99


def test_against_full_decode_of_large_jpegs(
    photos: dict[str, Path], work: Embedding, reference: onnxruntime.InferenceSession
) -> None:
    """The same for JPEGs large enough to be decoded at a fraction of their size; `fast` stays above 0.98."""
    fast = Images(fast=True).open()
    pairs, fast_pairs = [], []
    for name in ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "hubble_deep_field", "retina"):
        file = io.BytesIO()
        source = Image.open(photos[name]).convert("RGB")
        scale = 1600 / min(source.size)
        source.resize([round(value * scale) for value in source.size]).save(file, "JPEG", quality=90)
        expected = reference_vector(reference, Image.open(file).convert("RGB"))
        pairs.append((work.embed_one(file.getvalue()), expected))
        fast_pairs.append((fast.embed_one(file.getvalue()), expected))
    for found, mean, least in ((cosines(pairs), 0.999, 0.99), (cosines(fast_pairs), 0.995, 0.98)):
        assert found.mean() >= mean
        assert found.min() >= least


@pytest.mark.skipif(not STAMPS.is_dir(), reason="needs Debian's package tuxpaint-stamps-default")
def test_neighbours_share_the_folder(work: Embedding) -> None:
    """For labelled real pictures, the nearest neighbour has the same label at least ten times as often as chance."""
    files = sorted(STAMPS.glob("*/*/**/*.png"))[::3]
    labels = np.array([str(file.relative_to(STAMPS).parent) for file in files])
    vectors = np.stack([work.embed_one(file.read_bytes()) for file in files])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    shared = (labels[alike.argmax(axis=1)] == labels).mean()
    chance = ((labels[:, None] == labels).sum(axis=1) - 1).mean() / (len(labels) - 1)
    assert len(files) > 200
    assert shared >= 10 * chance, (shared, chance)
