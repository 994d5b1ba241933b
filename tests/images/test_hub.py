"""Models from the Hugging Face hub: a real client, real HTTP, and a local hub on loopback."""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from local_hub import COMMIT, Hub, serving
from onnx import TensorProto, helper

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Images
from fanfold.images.models.hub import Address, fetch
from fanfold.images.models.model import ready


@pytest.fixture(name="hub")
def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and an empty cache."""
    with serving() as hub:
        hub.files["org/net/onnx/model.onnx"] = small_classifier()
        hub.files["org/net/preprocessor_config.json"] = json.dumps(
            {"size": {"shortest_edge": 40}, "crop_size": 32, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        ).encode()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
        yield hub


LATER = "f" * 40


def small_classifier(seed: int = 0) -> bytes:
    """A network of one convolution, a global pool and a classifier, with an embedding of 8 values."""
    random = np.random.default_rng(seed)
    weights = {
        "kernel": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "classes": random.normal(size=(8, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pixel_values", "kernel"], ["map"], strides=[2, 2]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "classes"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_fetched_once(hub: Hub) -> None:
    """A model is downloaded on first use and needs no network after that; its revision and hash are kept."""
    first = ready("hf://org/net/onnx/model.onnx@main")
    hub.asked.clear()
    again = ready("hf://org/net/onnx/model.onnx@main")
    assert again == first
    assert hub.asked == []
    assert first.revision == COMMIT
    assert first.sha256 == hashlib.sha256(hub.files["org/net/onnx/model.onnx"]).hexdigest()
    assert first.dimension == 8


@pytest.mark.usefixtures("hub")
def test_configuration_beside_it() -> None:
    """Sizes and normalisation come from the repository's preprocessor_config.json, and the recipe says so."""
    found = ready("hf://org/net/onnx/model.onnx")
    assert (found.size, found.crop) == (32, 0.8)
    assert "[127.5, 127.5, 127.5]) / [63.75, 63.75, 63.75] (from its preprocessor_config.json)" in found.preprocessing


def test_no_configuration(hub: Hub) -> None:
    """Without a configuration, ImageNet's numbers are assumed, and the recipe says so."""
    del hub.files["org/net/preprocessor_config.json"]
    found = ready("hf://org/net/onnx/model.onnx")
    assert found.size == 224
    assert "assumed" in found.preprocessing


def test_main_stays_what_it_was(hub: Hub) -> None:
    """A push to the repository changes nothing for a cached model; a request for the new revision gets it."""
    before = fetch(Address.parse("hf://org/net/onnx/model.onnx"))
    hub.main = LATER
    hub.files["org/net/onnx/model.onnx"] = small_classifier(seed=1)
    assert fetch(Address.parse("hf://org/net/onnx/model.onnx")) == before
    assert fetch(Address.parse(f"hf://org/net/onnx/model.onnx@{LATER}")).revision == LATER


def test_damaged_in_the_cache(hub: Hub) -> None:
    """A file that changed since its download is downloaded again."""
    kept = fetch(Address.parse("hf://org/net/onnx/model.onnx"))
    Path(kept.file).resolve().write_bytes(b"something else")
    assert fetch(Address.parse("hf://org/net/onnx/model.onnx")) == kept
    assert Path(kept.file).read_bytes() == hub.files["org/net/onnx/model.onnx"]


@pytest.mark.usefixtures("hub")
def test_not_the_file_it_should_be() -> None:
    """A file whose hash is not the one that fanfold expects is refused."""
    with pytest.raises(FanfoldError, match="not the expected file"):
        fetch(Address.parse("hf://org/net/onnx/model.onnx"), sha256="0" * 64)


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network, the error names the model that needs no download."""
    with socket.socket() as taken:  # bound and not listening, so that connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path))
        with pytest.raises(FanfoldError, match="'efficientnet-lite0' needs no download"):
            Images(model="resnet18").schema()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://org/net/onnx/other.onnx", "'onnx/other.onnx' does not exist in org/net"),
        ("hf://org/other/model.onnx", "There is no model org/other"),
        ("hf://org/net/onnx/model.onnx@nonsense", "Cannot fetch hf:"),
        ("hf://org/net", "not an address like"),
        ("hf://org/net/weights.bin", "not an address like"),
    ],
)
def test_not_there(address: str, said: str) -> None:
    """The error names what the hub does not have."""
    with pytest.raises(FanfoldError, match=said):
        ready(address)


@pytest.mark.usefixtures("hub")
def test_embeds(photos: dict[str, Path]) -> None:
    """A model from the hub embeds a picture, and its table records the model."""
    job = Images(model=f"hf://org/net/onnx/model.onnx@{COMMIT}")
    assert job.embed_one(photos["coffee"].read_bytes()).shape == (8,)
    assert job.schema().metadata[b"fanfold.revision"] == COMMIT.encode()
    assert "before the classifier" in job.recipe()["output"]


def test_address_of_a_usage_error() -> None:
    """A malformed address is a usage error."""
    with pytest.raises(UsageError):
        Address.parse("hf://org")
