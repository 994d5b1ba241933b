"""The known models with a text encoder, with their real weights: about 5 GB from the Hugging Face hub.

Collected only with FANFOLD_HUB=1 (see conftest.py). Run it after a change to the registry:

    FANFOLD_HUB=1 .venv/bin/pytest -n 0 tests/images/test_real_encoders.py
"""

from pathlib import Path

import numpy as np
import pytest

from fanfold.images import Images
from fanfold.images.models.registry import MODELS, Model
from fanfold.images.text.encoder import open_encoder

DUAL = [model for model in MODELS if model.text]
SAID = {
    "chelsea": "a photo of a cat",
    "coffee": "a cup of coffee",
    "motorcycle_left": "a motorcycle in a garage",
    "rocket": "a rocket at night",
    "astronaut": "a portrait of an astronaut",
    "retina": "an image of the retina of an eye",
    "page": "a page of printed text",
}
"""Pictures of scikit-image, and what is on them."""


@pytest.mark.parametrize("model", DUAL, ids=lambda model: model.name)
def test_texts_find_their_pictures(model: Model, photos: dict[str, Path]) -> None:
    """Each text is nearest to its picture, and each picture to its text."""
    assert model.text
    job = Images(model=model.name).open()
    pictures = np.stack([job.embed_one(photos[name].read_bytes()) for name in SAID])
    texts = np.stack([open_encoder(model.text)(text) for text in SAID.values()])
    assert pictures.shape == texts.shape == (len(SAID), model.dimension)
    cosines = texts @ (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).T
    right = np.arange(len(SAID))
    assert np.array_equal(cosines.argmax(axis=1), right)
    assert np.array_equal(cosines.argmax(axis=0), right)


@pytest.mark.parametrize("model", DUAL, ids=lambda model: model.name)
def test_case_does_not_matter(model: Model) -> None:
    """A text in capitals has the vector of the same text in small letters, as in training."""
    assert model.text
    encoder = open_encoder(model.text)
    assert np.array_equal(encoder("A CAT ON A SOFA"), encoder("a cat on a sofa"))
