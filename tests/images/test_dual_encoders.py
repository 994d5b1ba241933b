"""Free text through the real path: the addresses, preprocessing and contracts of the known models, with toy weights.

The hub on loopback has graphs of known meaning (`dual_encoders.py`) at the addresses of the registry. Only the hashes
in the registry are those of the toys.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dual_encoders import (
    BLACK,
    BLUE,
    CENTRING,
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
    jina_text_graph,
    nomic_picture_graph,
    nomic_text_graph,
    openclip_text_graph,
    picture_graph,
    siglip_text_graph,
)
from local_hub import Hub, serving
from PIL import Image
from tokenizer_files import END, GOLDEN, clip_tokenizer, word_tokenizer

import fanfold
from commands import fanfold as fanfold_cli
from commands import objects
from fanfold.errors import FanfoldError
from fanfold.images import Images
from fanfold.images.columns.table import with_columns
from fanfold.images.models import registry
from fanfold.images.models.hub import CONFIG, Address
from fanfold.images.models.registry import Model
from fanfold.images.search.by_text import text_side
from fanfold.images.text.encoder import open_encoder
from helpers import Here

WORDS = (
    "<0>",
    "<1>",
    "<unk>",
    "search_query:",
    "a",
    "photo",
    "of",
    "something",
    "sky",
    "cat",
    "warm",
    "grey",
    "this",
    "is",
    *COLOURS,
)
PROMPT = np.array([0.0, 5.0, -5.0, 0.0])
"""What Nomic's prompt adds to a text."""
WARM = (141, 117, 104)
"""Redder than CLIP's mean, and blue for those whose mean is another."""


def clip_files() -> tuple[bytes, bytes, bytes]:
    """Toys for CLIP: the graph of pictures, that of texts, and the tokenizer."""
    graph = clip_text_graph(_clip_rows() | {END: (0.0, 0.0, 0.0, 0.01)}, END + 1)
    return picture_graph("image_embeds"), graph, clip_tokenizer().encode()


def openclip_files() -> tuple[bytes, bytes, bytes]:
    """Toys for OpenCLIP's model of 256 pixels, whose tokens are CLIP's."""
    pictures = picture_graph("output", "openclip", "input", 256)
    return pictures, openclip_text_graph(_clip_rows(), END + 1), clip_tokenizer().encode()


def _clip_rows() -> dict[int, tuple[float, ...]]:
    """What CLIP's tokens add to a vector."""
    seen = {
        GOLDEN["a photo of something red"][5]: RED,
        GOLDEN["blue sky"][1]: BLUE,
        GOLDEN["green"][1]: GREEN,
        GOLDEN["a WHITE cat"][2]: WHITE,
        GOLDEN["black"][1]: BLACK,
        GOLDEN["grey"][1]: WARM,
    }
    return {token: tuple(as_seen(colour, CLIP_MEAN, CLIP_STD)) for token, colour in seen.items()}


def jina_files() -> tuple[bytes, bytes, bytes]:
    """Toys for Jina CLIP, whose tokens are BERT's, and whose texts keep their own lengths."""
    rows = {WORDS.index(word): tuple(as_seen(colour)) for word, colour in COLOURS.items()}
    rows |= {WORDS.index("grey"): tuple(as_seen(WARM)), WORDS.index("<unk>"): WRONG}
    tokenizer = word_tokenizer(WORDS, punctuation=False).encode()
    return picture_graph("image_embeds", "jina"), jina_text_graph(rows, len(WORDS)), tokenizer


def nomic_files() -> tuple[bytes, bytes, bytes]:
    """Toys for Nomic: each token adds 9 to all values, and the prompt what the right answers lack."""
    rows = {number: np.full(4, 9.0) for number in range(len(WORDS))}
    for word, colour in COLOURS.items():
        rows[WORDS.index(word)] = 9 + as_seen(colour)[:3] @ CENTRING - PROMPT
    rows[WORDS.index("search_query:")] = 9 + PROMPT
    rows[WORDS.index("<unk>")] = np.array(WRONG)
    table = {token: tuple(values) for token, values in rows.items()}
    return nomic_picture_graph(), nomic_text_graph(table, len(WORDS)), word_tokenizer(WORDS).encode()


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


TOYS = {
    "clip-vit-b32": clip_files,
    "siglip2-b16": lambda: siglip_files(0),
    "siglip-b16": lambda: siglip_files(1),
    "clip-vit-b32-256": openclip_files,
    "jina-clip-v1": jina_files,
    "nomic-v1.5": nomic_files,
}
OF_COLOURS = [name for name in TOYS if name != "nomic-v1.5"]
"""Those whose vector of a picture is its colour, and 0."""


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
    if model.preprocessing is None:
        config = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "size": {"shortest_edge": 224}, "crop_size": 224}
        put(hub, model.source.replace("onnx/model.onnx", CONFIG), json.dumps(config).encode())
    hashes = [put(hub, model.source, pictures), put(hub, text.source, texts), put(hub, text.tokenizer, tokenizer)]
    pictures_hash = hashes[0] if model.sha256 else ""
    return replace(model, sha256=pictures_hash, text=replace(text, sha256=hashes[1], tokenizer_sha256=hashes[2]))


def put(hub: Hub, address: str, content: bytes) -> str:
    """Put a file on the hub; its SHA-256."""
    where = Address.parse(address, "." + address.partition("@")[0].rpartition(".")[2])
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


@pytest.fixture(name="embedded", scope="module")
def _embedded(hub: Hub, pictures: Path) -> Callable[[str], Path]:
    """Make the database of a known model, once; the name of its folder is the model's."""
    del hub

    @cache
    def make(model: str) -> Path:
        database = pictures.parent / model
        run = fanfold.run(Images(model=model), source=str(pictures), database=str(database), executor=Here())
        for _ in run:
            pass
        return database

    return make


@pytest.fixture(name="database", params=OF_COLOURS)
def _database(request: pytest.FixtureRequest, embedded: Callable[[str], Path]) -> str:
    """The database of each of the models."""
    return str(embedded(request.param))


@pytest.fixture(name="clip")
def _clip(embedded: Callable[[str], Path]) -> Path:
    """The database that CLIP's toy made."""
    return embedded("clip-vit-b32")


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


def test_probability(embedded: Callable[[str], Path], clip: Path) -> None:
    """SigLIP 2 gives the probability that a text fits a picture; others give the cosine. Both may be cut off."""
    database = embedded("siglip2-b16")
    for hit in (hits := objects("images", "search", database, "--text", "red")):
        logit = 112.6667 * hit["cosine"] - 16.771725
        assert hit["score"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-3, abs=1e-12)
    likely = objects("images", "search", database, "--text", "red", "--min-score", "0.5")
    assert likely == [hit for hit in hits if hit["score"] >= 0.5]
    assert 0 < len(likely) < len(hits)
    plain = objects("images", "search", clip, "--text", "red", "--min-score", "0.9")
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


@pytest.mark.parametrize("key", ASKED)
def test_a_text_is_the_mean_of_its_tokens(embedded: Callable[[str], Path], hub: Hub, key: str) -> None:
    """Nomic's pictures are read at their first token, and texts are the mean of theirs, centred, behind a prompt.

    Its preprocessing comes from its own file; the commit of its weights says which text encoder it has.
    """
    database = str(embedded("nomic-v1.5"))
    found = cosines(database, next(word for word in COLOURS if word in " ".join(ASKED[key]).lower()).upper())
    assert next(iter(found)) in ({key, "flag.png"} if key == "fire.png" else {key})
    assert found[key] == pytest.approx(1, abs=5e-3)
    model = registry.named("nomic-v1.5")
    assert model
    assert any(f"resolve/{model.commit}/{CONFIG}" in asked for asked in hub.asked)


def test_as_a_person_sees_it(clip: Path) -> None:
    """A search by text prints scores and keys, best first, and takes the options of a search by a picture."""
    done = fanfold_cli("images", "search", clip, "--text", "red", "-k", 2, "--exact", "--where", "width = 300")
    assert done.returncode == 0
    assert done.stdout.split()[:2] == ["score", "key"]
    assert {line.split()[2] for line in done.stdout.splitlines()[1:]} == {"fire.png", "flag.png"}
    (hit,) = objects("images", "search", clip, "--text", "red", "--where", "key = 'sea.png'")
    assert hit["key"] == "sea.png"
    assert "No row meets" in fanfold_cli("images", "search", clip, "--text", "red", "--where", "width = 1").stderr


def test_notes(clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A note comes before a download, and for a text that is cut; a high limit that finds nothing has one, too."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path))
    open_encoder.cache_clear()
    first = fanfold_cli("images", "search", clip, "--text", "red " * 100)
    assert "Fetching the text encoder from the Hugging Face hub (256 MB, once)." in " ".join(first.stderr.split())
    assert "The text is long: only its first 77 tokens count." in " ".join(first.stderr.split())
    again = fanfold_cli("images", "search", clip, "--text", "blue", "--min-score", "1")
    assert "Fetching" not in again.stderr
    assert "Lower --min-score" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", ""], "The text is empty"),
        (["--text", " \n "], "The text is empty"),
        (["--text", "red", "--min-score", "2"], "takes a number from 0 to 1"),
        (["--text", "red", "x.png"], "either by a picture or by words"),
        (["--text", "red", "-k", "0"], "at least 1"),
    ],
)
def test_wrong_searches(clip: Path, words: list[str], said: str) -> None:
    """A wrong search by text exits with 2 and says what is wrong."""
    done = fanfold_cli("images", "search", clip, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_the_text_side(clip: Path) -> None:
    """What a page asks: rows by their number, of all rows or among some, and the least score."""
    dataset = fanfold.open_table(str(clip), "images")
    side = text_side(dataset)
    assert (side.by, side.least, side.understand("red")) == ("text encoder", -1.0, ())
    keys = dataset.to_table(columns=["key"])["key"].to_pylist()
    rows = side.find("blue", 3, 0.5, None, lambda _: None).rows
    assert [keys[row] for row in rows] == ["sea.png"]
    among = np.array(sorted(keys.index(key) for key in ("fire.png", "coal.png")))
    rows = side.find("blue", 3, -1.0, among, lambda _: None).rows
    assert sorted(rows.tolist()) == among.tolist()


# -- every fact counts ----------------------------------------------------------------------------------------------

WRONG_TEXTS: dict[str, list[dict[str, Any]]] = {
    "clip-vit-b32": [{"length": 76}, {"length": 78}, {"pad": None}, {"output": "other"}],
    "siglip2-b16": [{"length": 63}, {"pad": 1}, {"pad": None}, {"end": None}, {"lower": False}],
    "siglip-b16": [{"length": 63}, {"pad": 0}, {"pad": None}, {"lower": False}],
    "clip-vit-b32-256": [{"length": 76}, {"pad": None}, {"output": "text_embeds"}],
    "jina-clip-v1": [{"length": 1}, {"lower": False}, {"output": "output"}],
    "nomic-v1.5": [{"length": 2}, {"prompt": ""}, {"pooled": False}, {"centred": False}, {"lower": False}],
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


# -- labels of one's own --------------------------------------------------------------------------------------------


def labelled(database: str | Path, folder: Path, *words: object, labels: Sequence[str] = tuple(COLOURS)) -> Any:
    """A copy of a database, whose pictures are labelled, and the label and the score of each."""
    copy = folder / "copy"
    shutil.copytree(database, copy)
    (folder / "Colour.txt").write_text("\n".join(labels))
    done = fanfold_cli("images", "labels", copy, "--labels", folder / "Colour.txt", *words)
    assert done.returncode == 0, done.stderr
    rows = with_columns(fanfold.open_table(str(copy), "images")).to_table(columns=["key", "colour", "colour_score"])
    return str(copy), {row["key"]: (row["colour"], row["colour_score"]) for row in rows.to_pylist()}


def probability(database: str | Path, colour: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> float:
    """Of a picture of one colour, that it shows this colour, rather than others."""
    mean, std = (CLIP_MEAN, CLIP_STD) if "clip" in Path(database).name else (HALF, HALF)
    if Path(database).name == "siglip2-b16":
        return float(1 / (1 + np.exp(16.771725 - 112.6667)))
    logits = [100 * cosine(as_seen(colour, mean, std), as_seen(other, mean, std)) for other in others]
    return float(1 / np.exp(np.array(logits) - 100).sum())


def test_labels_that_fit(database: str, tmp_path: Path) -> None:
    """Each picture gets the label that its colour is called, with its probability; filters and exports have it."""
    copy, found = labelled(database, tmp_path)
    names = {"fire.png": "red", "sea.png": "blue", "wood.png": "green", "snow.png": "white", "coal.png": "black"}
    for key, name in names.items():
        assert found[key][0] == name
        assert found[key][1] == pytest.approx(probability(database, COLOURS[name], list(COLOURS.values())), abs=2e-3)
    (hit,) = objects("images", "search", copy, "--text", "red", "--where", "colour = 'blue' AND key = 'sea.png'")
    assert hit["columns"]["colour"] == "blue"
    assert fanfold_cli("images", "export", copy, "--to", tmp_path / "blue.csv", "--where", "colour = 'blue'")[0] == 0
    assert "sea.png" in (tmp_path / "blue.csv").read_text()


def test_a_prompt_of_ones_own(clip: Path, embedded: Callable[[str], Path], tmp_path: Path) -> None:
    """The prompt is the text around each label; a model that gives each text a probability takes a single one."""
    _, found = labelled(clip, tmp_path, "--prompt", "red {} red", labels=["blue", "green"])
    texts = [2 * as_seen(RED) + as_seen(colour) for colour in (BLUE, GREEN)]
    logits = [100 * cosine(as_seen(RED), text) for text in texts]
    assert found["fire.png"][1] == pytest.approx(1 / (1 + np.exp(min(logits) - max(logits))), abs=0.01)
    assert found["fire.png"][0] == ["blue", "green"][int(np.argmax(logits))]
    (tmp_path / "alone").mkdir()
    _, alone = labelled(embedded("siglip2-b16"), tmp_path / "alone", "--min-score", "0.5", labels=["red"])
    assert alone["fire.png"] == ("red", pytest.approx(1))
    assert alone["sea.png"] == alone["snow.png"] == (None, None)


@pytest.mark.parametrize(
    ("words", "labels", "said"),
    [
        (["--prompt", "a photo"], "red\nblue", "with {} in place of the label"),
        (["--prompt", "{} {}"], "red\nblue", "with {} in place of the label"),
        ([], "red\n", "it needs at least two"),
        (["--min-score", "1.5"], "red\nblue", "takes a number from 0 to 1"),
    ],
)
def test_wrong_labels(clip: Path, tmp_path: Path, words: list[str], labels: str, said: str) -> None:
    """What cannot be compared is refused in a sentence, and nothing is kept."""
    (tmp_path / "colour.txt").write_text(labels)
    done = fanfold_cli("images", "labels", clip, "--labels", tmp_path / "colour.txt", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert not (clip / "_view").exists()


def test_labels_need_a_file(clip: Path) -> None:
    """A model without labels of its own asks for a file of them."""
    done = fanfold_cli("images", "labels", clip)
    assert (done.returncode, "--labels FILE" in done.stderr) == (2, True)
