"""Free text through the real path: the addresses, preprocessing and contracts of the known models, with toy weights.

The hub on loopback has graphs of known meaning (`dual_encoders.py`) at the addresses of the registry. Only the hashes
in the registry are those of the toys.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dual_encoders import (
    BLACK,
    BLUE,
    CLIP_MEAN,
    CLIP_STD,
    COLOURS,
    GREEN,
    HALF,
    RED,
    WHITE,
    WRONG,
    as_seen,
    clip_text_graph,
    picture_graph,
    siglip_text_graph,
)
from local_hub import Hub, serving
from PIL import Image
from tokenizer_files import END, GOLDEN, clip_tokenizer, word_tokenizer

import fanfold
from commands import objects
from fanfold.errors import FanfoldError
from fanfold.images import Images
from fanfold.images.models import registry
from fanfold.images.models.hub import Address
from fanfold.images.models.registry import Model
from fanfold.images.text.encoder import open_encoder
from helpers import Here

WORDS = ("<0>", "<1>", "<unk>", "a", "photo", "of", "something", "sky", "cat", "warm", *COLOURS)
WARM = (141, 117, 104)
"""Redder than CLIP's mean, and blue for those whose mean is another."""


def clip_files() -> tuple[bytes, bytes, bytes]:
    """Toys for CLIP: the graph of pictures, that of texts, and the tokenizer."""
    seen = {
        GOLDEN["a photo of something red"][5]: RED,
        GOLDEN["blue sky"][1]: BLUE,
        GOLDEN["green"][1]: GREEN,
        GOLDEN["a WHITE cat"][2]: WHITE,
        GOLDEN["black"][1]: BLACK,
        GOLDEN["grey"][1]: WARM,
    }
    rows = {token: tuple(as_seen(colour, CLIP_MEAN, CLIP_STD)) for token, colour in seen.items()}
    graph = clip_text_graph(rows | {END: (0.0, 0.0, 0.0, 0.01)}, END + 1)
    return picture_graph("image_embeds"), graph, clip_tokenizer().encode()


def siglip_files(pad: int) -> tuple[bytes, bytes, bytes]:
    """Toys for SigLIP, which fills up texts with `pad`, and whose tokenizer adds the end; SigLIP 2's does not."""
    rows = {WORDS.index(word): tuple(as_seen(colour, HALF, HALF)) for word, colour in COLOURS.items()}
    rows[WORDS.index("warm")] = tuple(10 * as_seen(WARM, HALF, HALF))  # short, beside what the end counts
    # The end may stand once, and counts for little. Where it fills up texts, 0 must not.
    rows |= {1: (0.0, 0.0, 0.0, 0.05)} if pad == 0 else {0: WRONG}
    rows[WORDS.index("<unk>")] = WRONG
    graph = siglip_text_graph(rows, len(WORDS), end=1)
    pictures = picture_graph("pooler_output", f"filled up with {pad}")
    return pictures, graph, word_tokenizer(WORDS, "<1>" if pad else "").encode()


TOYS = {"clip-vit-b32": clip_files, "siglip2-b16": lambda: siglip_files(0), "siglip-b16": lambda: siglip_files(1)}


@pytest.fixture(name="hub", scope="module")
def _hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with the toys, where the registry's addresses are, and an empty cache."""
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        known = tuple(toy(hub, model) if model.name in TOYS else model for model in registry.MODELS)
        patch.setattr(registry, "MODELS", known)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("FANFOLD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield hub


def toy(hub: Hub, model: Model) -> Model:
    """Put a known model's toys on the hub, at its addresses; the model with their hashes."""
    assert model.text
    text = model.text
    pictures, texts, tokenizer = TOYS[model.name]()
    hashes = [put(hub, model.source, pictures), put(hub, text.source, texts), put(hub, text.tokenizer, tokenizer)]
    return replace(model, sha256=hashes[0], text=replace(text, sha256=hashes[1], tokenizer_sha256=hashes[2]))


def put(hub: Hub, address: str, content: bytes) -> str:
    """Put a file on the hub; its SHA-256."""
    where = Address.parse(address, address.partition("@")[0][-5:])
    hub.files[f"{where.repo}/{where.path}"] = content
    assert where.revision
    hub.commits.append(where.revision)
    return hashlib.sha256(content).hexdigest()


# -- pictures and searches ------------------------------------------------------------------------------------------

PICTURES = {"fire.png": RED, "sea.png": BLUE, "wood.png": GREEN, "snow.png": WHITE, "coal.png": BLACK, "clay.png": WARM}


@pytest.fixture(name="pictures", scope="module")
def _pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each, and one whose middle is red, between two blue sides."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in PICTURES.items():
        Image.new("RGB", (300, 100), colour).save(folder / name)
    flag = Image.new("RGB", (300, 100), BLUE)
    flag.paste(RED, (100, 0, 200, 100))
    flag.save(folder / "flag.png")
    return folder


@pytest.fixture(name="database", scope="module", params=TOYS)
def _database(request: pytest.FixtureRequest, hub: Hub, pictures: Path) -> str:
    """A database that a known model made of the pictures; the name of its folder is the model's."""
    del hub
    database = str(pictures.parent / request.param)
    run = fanfold.run(Images(model=request.param), source=str(pictures), database=database, executor=Here())
    for _ in run:
        pass
    return database


ASKED = {
    "fire.png": ["a photo of something red", "RED", "Red"],
    "sea.png": ["blue sky", "a Blue photo"],
    "wood.png": ["green"],
    "snow.png": ["a WHITE cat", "white"],
    "coal.png": ["black"],
}


def cosines(database: str, words: str) -> dict[str, float]:
    """The cosines of all pictures with a text, best first."""
    hits = objects("images", "search", database, "--text", words)
    assert len(hits) == len(PICTURES) + 1
    return {hit["key"]: hit["cosine"] for hit in hits}


@pytest.mark.parametrize(("key", "words"), [(key, words) for key, texts in ASKED.items() for words in texts])
def test_finds(database: str, key: str, words: str) -> None:
    """A text finds the picture of the colour that it names, at a cosine of nearly 1."""
    found = cosines(database, words)
    assert next(iter(found)) in ({key, "flag.png"} if key == "fire.png" else {key})
    assert found[key] == pytest.approx(1, abs=5e-3)
    assert min(found.values()) < 0


def test_part_of_the_picture(database: str) -> None:
    """CLIP sees the middle of a picture, SigLIP all of it, squeezed into a square."""
    mean, std = (CLIP_MEAN, CLIP_STD) if "clip" in Path(database).name else (HALF, HALF)
    seen = RED if mean is CLIP_MEAN else tuple((np.array(RED) + 2 * np.array(BLUE)) / 3)
    expected = cosine(as_seen(seen, mean, std), as_seen(RED, mean, std))
    assert cosines(database, "red")["flag.png"] == pytest.approx(expected, abs=0.02)


def test_mean(database: str) -> None:
    """Near the mean of a model's pictures, a vector's direction is all that the mean leaves of a colour."""
    mean, std = (CLIP_MEAN, CLIP_STD) if "clip" in Path(database).name else (HALF, HALF)
    found = cosines(database, "grey" if mean is CLIP_MEAN else "warm")
    assert next(iter(found)) == "clay.png"
    assert found["clay.png"] == pytest.approx(1, abs=5e-3)
    expected = cosine(as_seen(RED, mean, std), as_seen(WARM, mean, std))
    assert found["fire.png"] == pytest.approx(expected, abs=0.02)


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Of two vectors."""
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def test_probability(hub: Hub, pictures: Path) -> None:
    """SigLIP 2 gives the probability that a text fits a picture; others give the cosine. Both may be cut off."""
    del hub
    database = pictures.parent / "siglip2-b16"
    for hit in (hits := objects("images", "search", database, "--text", "red")):
        logit = 112.6667 * hit["cosine"] - 16.771725
        assert hit["score"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-3, abs=1e-12)
    likely = objects("images", "search", database, "--text", "red", "--min-score", "0.5")
    assert likely == [hit for hit in hits if hit["score"] >= 0.5]
    assert 0 < len(likely) < len(hits)
    plain = objects("images", "search", pictures.parent / "clip-vit-b32", "--text", "red", "--min-score", "0.9")
    assert [hit["key"] for hit in plain] == ["fire.png", "flag.png"]
    assert all(hit["score"] == hit["cosine"] >= 0.9 for hit in plain)


def test_fetched_as_pinned(database: str, hub: Hub) -> None:
    """All files come from the commits in the registry, once; a search asks the hub for nothing more."""
    model = registry.named(Path(database).name)
    assert model
    assert model.text
    cosines(database, "red")
    for address in (model.source, model.text.source, model.text.tokenizer):
        where = Address.parse(address, address.partition("@")[0][-5:])
        assert f"GET /{where.repo}/resolve/{where.revision}/{where.path}" in hub.asked
    before = len(hub.asked)
    open_encoder.cache_clear()
    cosines(database, "blue")
    assert len(hub.asked) == before


# -- every fact counts ----------------------------------------------------------------------------------------------

WRONG_TEXTS: dict[str, list[dict[str, Any]]] = {
    "clip-vit-b32": [{"length": 76}, {"length": 78}, {"pad": None}, {"output": "other"}],
    "siglip2-b16": [{"length": 63}, {"pad": 1}, {"pad": None}, {"end": None}, {"lower": False}],
    "siglip-b16": [{"length": 63}, {"pad": 0}, {"pad": None}, {"lower": False}],
}


@pytest.mark.parametrize(("name", "wrong"), [(name, one) for name, all_ in WRONG_TEXTS.items() for one in all_])
@pytest.mark.usefixtures("hub")
def test_every_fact_of_a_text_counts(name: str, wrong: dict[str, Any]) -> None:
    """With any of its facts wrong, a text encoder fails or its vector points elsewhere: the tests above hold each."""
    model = registry.named(name)
    assert model
    assert model.text
    right = open_encoder(model.text)("a WHITE cat")
    assert np.linalg.norm(right) == pytest.approx(1)
    try:
        found = open_encoder(replace(model.text, **wrong))("a WHITE cat")
    except FanfoldError:
        return
    assert cosine(right, found) < 0.9
