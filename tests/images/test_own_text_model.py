"""`--text-model`: the text encoder that goes with a model of one's own, kept with the table."""

import json
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dual_encoders import CLIP_MEAN, CLIP_STD, COLOURS, RED, as_seen, clip_text_graph, picture_graph, siglip_text_graph
from local_hub import COMMIT, serving
from onnx import TensorProto, helper
from PIL import Image
from tokenizer_files import END, GOLDEN, clip_tokenizer, word_tokenizer
from tokenizers import Tokenizer

import fanfold as library
from commands import fanfold, objects
from fanfold.errors import FanfoldError, UsageError
from fanfold.images.models import registry
from fanfold.images.text import own
from fanfold.images.text.encoder import open_encoder
from fanfold.images.text.twin import KEPT, twin_of

CONFIGURATION = {"size": {"shortest_edge": 224}, "crop_size": 224, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
TOKENS = {"red": GOLDEN["a photo of something red"][5], "blue": GOLDEN["blue sky"][1], "green": GOLDEN["green"][1]}


def rows() -> dict[int, tuple[float, ...]]:
    """What the tokens of colours add."""
    return {token: tuple(as_seen(COLOURS[word], CLIP_MEAN, CLIP_STD)) for word, token in TOKENS.items()}


def files() -> dict[str, bytes]:
    """A model of one's own, and its text encoder: CLIP's shape, with its tokenizer and without more words on it."""
    tokenizer = Tokenizer.from_str(clip_tokenizer())
    tokenizer.enable_truncation(77)
    tokenizer.enable_padding(length=77, pad_id=END, pad_token="<|endoftext|>")
    return {
        "vision.onnx": picture_graph("image_embeds"),
        "preprocessor_config.json": json.dumps(CONFIGURATION).encode(),
        "text.onnx": clip_text_graph(rows() | {END: (0.0, 0.0, 0.0, 0.01)}, END + 1),
        "tokenizer.json": tokenizer.to_str().encode(),
    }


@pytest.fixture(name="models")
def _models(tmp_path: Path) -> Path:
    """A folder with them."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(name="pictures")
def _pictures(tmp_path: Path) -> Path:
    """A picture of each colour."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for word in TOKENS:
        Image.new("RGB", (32, 32), COLOURS[word]).save(folder / f"{word}.png")
    return folder


Embed = Callable[..., Any]


@pytest.fixture(name="embed")
def _embed(models: Path, pictures: Path, tmp_path: Path) -> Embed:
    """`images embed` of the pictures with the model."""

    def run(*words: object) -> Any:
        command = ("images", "embed", pictures, tmp_path / "db", "--model", models / "vision.onnx", "--workers", 1)
        return fanfold(*command, *words)

    return run


def found(database: Path, words: str) -> list[str]:
    """The keys that a text finds, best first."""
    return [hit["key"] for hit in objects("images", "search", database, "--text", words)]


def kept(database: Path) -> dict[str, Any]:
    """What the table says about its text encoder."""
    metadata = library.open_table(str(database), "images").schema.metadata
    return json.loads(metadata.get(KEPT.encode(), b"{}"))


def test_kept_with_the_table(embed: Embed, models: Path, pictures: Path, tmp_path: Path) -> None:
    """The facts of the text encoder are in the table, stay there when it grows, and texts find pictures by them."""
    database = tmp_path / "db"
    assert embed("--text-model", models / "text.onnx").returncode == 0
    facts = kept(database)
    assert (facts["source"], facts["tokenizer"]) == (str(models / "text.onnx"), str(models / "tokenizer.json"))
    assert (facts["length"], facts["pad"], facts["output"], facts["lower"]) == (77, END, "text_embeds", False)
    assert found(database, "a photo of something red")[0] == "red.png"
    Image.new("RGB", (32, 32), RED).save(pictures / "more.png")
    assert embed().returncode == 0
    assert kept(database) == facts
    assert set(found(database, "RED")[:2]) == {"red.png", "more.png"}


def test_added_later(embed: Embed, models: Path, tmp_path: Path) -> None:
    """A table without words gets them by the same command with --text-model, and no picture is embedded again."""
    database = tmp_path / "db"
    assert embed().returncode == 0
    done = fanfold("images", "search", database, "--text", "red")
    assert done.returncode == 2
    assert "has no words" in done.stderr
    before = library.open_table(str(database), "images").to_table(columns=["created"])
    assert embed("--text-model", models / "text.onnx").returncode == 0
    assert library.open_table(str(database), "images").to_table(columns=["created"]) == before
    assert found(database, "green")[0] == "green.png"


def test_not_in_the_recipe(embed: Embed, models: Path, tmp_path: Path) -> None:
    """The text encoder is no part of the recipe: tables with and without one hold the same vectors."""
    assert embed().returncode == 0
    recipe = library.open_table(str(tmp_path / "db"), "images").schema.metadata[b"fanfold.recipe"]
    assert embed("--text-model", models / "text.onnx").returncode == 0
    assert library.open_table(str(tmp_path / "db"), "images").schema.metadata[b"fanfold.recipe"] == recipe


def test_plan_keeps_nothing(models: Path, pictures: Path, embed: Embed, tmp_path: Path) -> None:
    """A plan checks the text encoder and leaves the table as it was."""
    assert embed().returncode == 0
    words = ("plan", "images", pictures, tmp_path / "db", "--model", models / "vision.onnx", "--text-model")
    assert fanfold(*words, models / "text.onnx").returncode == 0
    assert kept(tmp_path / "db") == {}
    assert fanfold(*words, models / "nothing.onnx").returncode == 2


def test_changed_file(embed: Embed, models: Path, tmp_path: Path) -> None:
    """A file that has changed or gone since is named, with what to type."""
    assert embed("--text-model", models / "text.onnx").returncode == 0
    for name in ("text.onnx", "tokenizer.json"):
        held = (models / name).read_bytes()
        (models / name).write_bytes(held + b" ")
        open_encoder.cache_clear()
        changed = fanfold("images", "search", tmp_path / "db", "--text", "red")
        assert changed.returncode == 2
        assert f"{name} has changed since the table was made" in changed.stderr.replace("\n", " ")
        assert "--text-model" in changed.stderr
        (models / name).unlink()
        gone = fanfold("images", "search", tmp_path / "db", "--text", "red")
        assert gone.returncode == 2
        assert "Put the file back" in gone.stderr.replace("\n", " ")
        (models / name).write_bytes(held)
    assert found(tmp_path / "db", "red")[0] == "red.png"


def test_refused_before_the_run(embed: Embed, models: Path, tmp_path: Path) -> None:
    """A text encoder that cannot go with the pictures is refused before any is embedded."""
    wide = clip_text_graph({}, END + 1)
    model = onnx.load_from_string(wide)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "rows")
    table.CopyFrom(onnx.numpy_helper.from_array(np.ones((END + 1, 5), np.float32), "rows"))
    shape = next(tensor for tensor in model.graph.initializer if tensor.name == "wide")
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, 5], np.int64), "wide"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    (models / "wide.onnx").write_bytes(model.SerializeToString())
    done = embed("--text-model", models / "wide.onnx")
    assert done.returncode == 2
    assert "gives vectors of 5 values, but those of the pictures have 4" in " ".join(done.stderr.split())
    assert not (tmp_path / "db").exists()


# -- facts from files -----------------------------------------------------------------------------------------------


def test_address(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address on the hub is kept with its commit; the tokenizer may be beside the graph or at the top."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name, place in {"text.onnx": "onnx/text.onnx", "tokenizer.json": "tokenizer.json"}.items():
            hub.files[f"org/net/{place}"] = (models / name).read_bytes()
        text = own.text_of("hf://org/net/onnx/text.onnx")
        assert text.source == f"hf://org/net/onnx/text.onnx@{COMMIT}"
        assert text.tokenizer == f"hf://org/net/tokenizer.json@{COMMIT}"
        hub.files["org/net/onnx/tokenizer.json"] = hub.files["org/net/tokenizer.json"]
        assert own.text_of(f"hf://org/net/onnx/text.onnx@{COMMIT}").tokenizer.startswith(
            "hf://org/net/onnx/tokenizer.json"
        )
    assert len(open_encoder(text)("red")) == 4, "without the hub, too"


SIGLIP = ["<pad>", "</s>", "<unk>", "red"]
SETTINGS = {"model_max_length": 64, "pad_token": {"content": "</s>"}, "do_lower_case": True}


@pytest.fixture(name="siglip")
def _siglip(tmp_path: Path) -> Path:
    """A text encoder of SigLIP's shape, whose tokenizer_config.json has its length, padding and case."""
    (tmp_path / "text.onnx").write_bytes(siglip_text_graph({3: (1.0, 0.0, 0.0, 0.0)}, 4, end=1))
    (tmp_path / "tokenizer.json").write_text(word_tokenizer(SIGLIP, "</s>"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_settings_beside_it(siglip: Path) -> None:
    """Length, padding and case come from the tokenizer_config.json, if the tokenizer itself has none."""
    text = own.text_of(str(siglip / "text.onnx"))
    assert (text.length, text.pad, text.lower, text.output) == (64, 1, True, "pooler_output")
    assert open_encoder(text)("RED").tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pad_token": "</s>"}, "how many tokens a text has"),
        ({"model_max_length": 10**30, "pad_token": "</s>"}, "how many tokens a text has"),
        ({"model_max_length": 64}, "which token fills up a text"),
        ({"model_max_length": 64, "pad_token": "nothing"}, "which token fills up a text"),
    ],
)
def test_nothing_is_guessed(siglip: Path, settings: dict[str, Any], said: str) -> None:
    """A text encoder that needs a fixed length is refused without one, with what to add."""
    (siglip / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=rf"does not say {said}.*tokenizer.enable_padding\(length=LENGTH"):
        own.text_of(str(siglip / "text.onnx"))


def test_known_files(siglip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a known text encoder has all of its facts, which no file beside it says."""
    plain = own.text_of(str(siglip / "text.onnx"))
    known = registry.Text(**asdict(plain) | {"source": "hf://a/b/c.onnx", "scale": 100.0, "end": 1})
    model = registry.Model("toy", 4, "MIT", 1, "hf://a/b/d.onnx", text=known)
    monkeypatch.setattr(registry, "MODELS", (*registry.MODELS, model))
    text = own.text_of(str(siglip / "text.onnx"))
    assert (text.scale, text.end, text.source) == (100.0, 1, str(siglip / "text.onnx"))


def test_any_length(tmp_path: Path) -> None:
    """An encoder with a mask and without a length gets each text as long as it is, and zeros for kinds of tokens."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, ["n", "length"]) for name in names]
    nodes = [
        helper.make_node("Sub", ["attention_mask", "token_type_ids"], ["counted"]),
        helper.make_node("Mul", ["input_ids", "counted"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum", "sum"], ["sentence_embedding"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", "length"]),
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["n", 2]),
    ]
    graph = helper.make_graph(nodes, "any", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "text.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "tokenizer.json").write_text(word_tokenizer(["<unk>", "a", "b"]))
    text = own.text_of(str(tmp_path / "text.onnx"))
    assert (text.length, text.pad, text.output) == (None, None, "sentence_embedding")
    assert open_encoder(text)("b a b").tolist() == pytest.approx([0.5**0.5] * 2)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer.json beside it"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), r"tokenizer.json is not a tokenizer"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{"), r"tokenizer_config.json is not JSON"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), r"must be an object"),
        (lambda folder: (folder / "text.onnx").write_bytes(b"x"), r"text.onnx is not a text encoder that ONNX Runtime"),
        (lambda folder: (folder / "text.onnx").write_bytes(b""), r"text.onnx is not a text encoder"),
        (lambda folder: (folder / "text.onnx").unlink(), r"text.onnx does not exist"),
        (lambda folder: (folder / "text.onnx").write_bytes(picture_graph("x")), r"it must take the tokens of a text"),
    ],
)
def test_broken_files(siglip: Path, break_it: Callable[[Path], Any], said: str) -> None:
    """Files that are absent or are something else are refused by name."""
    break_it(siglip)
    with pytest.raises(UsageError, match=said):
        own.text_of(str(siglip / "text.onnx"))


@pytest.mark.parametrize("address", ["text.bin", "hf://org/net", "hf://org/net/model.bin", "s3://bucket/text"])
def test_not_an_address(address: str) -> None:
    """An address of another kind is refused with those that work."""
    with pytest.raises(UsageError, match=r"hf://org/repo/path"):
        own.text_of(address)


def test_facts_of_another_version() -> None:
    """Facts that this version does not know are refused with the command that keeps them again."""
    with pytest.raises(UsageError, match=r"kept by another version of fanfold.*--text-model"):
        twin_of({KEPT: '{"source": "x", "colour": 1}'})


def test_quantised() -> None:
    """A model that was quantised has the text encoder of the weights it was made from."""
    clip = registry.named("clip-vit-b32")
    assert clip
    assert twin_of({"fanfold.sha256": clip.sha256}) == clip.text == registry.CLIP_TEXT
    assert twin_of({"fanfold.sha256": "other", "fanfold.base": clip.sha256}) == clip.text
    assert twin_of({"fanfold.sha256": "other", "fanfold.base": ""}) is None
    assert twin_of({}) is None


# -- what is missing ------------------------------------------------------------------------------------------------

WITHOUT_TOKENIZERS = """
import sys
sys.path[:] = [sys.argv[1] if path.endswith("site-packages") else path for path in sys.path]
from fanfold.cli import exit_code
sys.exit(exit_code(sys.argv[2:]))
"""


def test_without_the_extra(embed: Embed, models: Path, tmp_path: Path) -> None:
    """Without the extra `text`, a search and an embedding with a text encoder say what to install."""
    assert embed("--text-model", models / "text.onnx").returncode == 0
    (tmp_path / "packages").mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name != "tokenizers":
            (tmp_path / "packages" / entry.name).symlink_to(entry)
    for words in (
        ["search", tmp_path / "db", "--text", "red"],
        ["embed", tmp_path / "pictures", tmp_path / "db2", "--text-model", models / "text.onnx"],
    ):
        command = [sys.executable, "-c", WITHOUT_TOKENIZERS, tmp_path / "packages", "images", *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "pip install 'fanfold[text]'" in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network, the error of a text encoder that is not in the cache says what works without it."""
    with socket.socket() as taken:  # bound and not listening, so that connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path))
        with pytest.raises(FanfoldError, match=r"try again\. A search by a picture does not need it"):
            open_encoder(registry.SIGLIP2_TEXT)
