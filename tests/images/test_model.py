"""From a model's name to a graph that is ready to run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nursery
from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Images
from fanfold.images.models.cache import cache_dir
from fanfold.images.models.efficientnet_lite import LITE0
from fanfold.images.models.embedder import Embedder
from fanfold.images.models.hub import Address
from fanfold.images.models.model import Ready, probe, ready
from fanfold.images.models.registry import MODELS

pytestmark = pytest.mark.usefixtures("cache")

GOLDEN = {39: 3.45734, 113: 3.23642, 455: 2.87839, 897: 3.40645, 949: 2.89307, 1056: 3.2096, 1111: 3.79891}
"""The largest values of efficientnet-lite0's vector of the probe, by position."""


@pytest.fixture(name="cache")
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(name="onnx_file")
def _onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Make a file with a network that returns the mean colour of its input."""

    def make(batch: int | str = "n", size: int | str = 16) -> Path:
        nodes = [helper.make_node("GlobalAveragePool", ["x"], ["pool"]), helper.make_node("Flatten", ["pool"], ["y"])]
        graph = helper.make_graph(
            nodes,
            "colour",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        (tmp_path / "colour.onnx").write_bytes(model.SerializeToString())
        return tmp_path / "colour.onnx"

    return make


def vector_of_probe(found: Ready) -> np.ndarray:
    """The model's vector of the probe."""
    return Embedder(found.file, found.batch)(probe(found.size)[None])[0]


def test_default_model() -> None:
    """The default is the first of the list, needs no download, and has 1280 dimensions."""
    assert MODELS[0].name == Images().model
    assert not MODELS[0].needs_download
    assert ready(MODELS[0].name).dimension == MODELS[0].dimension == 1280


def test_golden_vector() -> None:
    """The default model's vector of a fixed picture never changes."""
    vector = vector_of_probe(ready("efficientnet-lite0"))
    assert {place: round(float(vector[place]), 3) for place in GOLDEN} == pytest.approx(GOLDEN, abs=2e-3)


def test_list_of_models() -> None:
    """Every model has a unique name, a permissive licence, and a source that is pinned to a commit."""
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert {model.licence for model in MODELS} <= {"Apache-2.0", "MIT"}
    for model in MODELS:
        if model.needs_download:
            assert len(Address.parse(model.source).revision or "") == 40, model.name


def test_unknown_model() -> None:
    """The error about an unknown name lists the known ones."""
    with pytest.raises(
        UsageError, match=r"no model 'resnet19'. Use one of efficientnet-lite0, efficientnet-lite2, resnet18, "
    ):
        ready("resnet19")


def test_made_once(cache: Path) -> None:
    """A second call takes the model from the cache."""
    first = ready("efficientnet-lite0")
    written = {file: file.stat().st_mtime_ns for file in cache.rglob("*.onnx")}
    assert ready("efficientnet-lite0") == first
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.onnx")} == written


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_damaged_cache(cache: Path, suffix: str, content: bytes) -> None:
    """A damaged file in the cache is detected and made again."""
    before = vector_of_probe(ready("efficientnet-lite0"))
    for file in cache.rglob(f"*{suffix}"):
        file.write_bytes(content)
    assert np.array_equal(vector_of_probe(ready("efficientnet-lite0")), before)


def test_one_flipped_bit(cache: Path) -> None:
    """Even one wrong bit in the weights is detected."""
    found = Path(ready("efficientnet-lite0").file)
    content = bytearray(found.read_bytes())
    content[len(content) // 2] ^= 1
    found.write_bytes(content)
    ready("efficientnet-lite0")
    assert all(file.read_bytes() != content for file in cache.rglob("*.onnx"))


def test_two_processes_at_once(cache: Path) -> None:
    """Processes that make the same model at the same time all get it complete."""
    program = "from fanfold.images.models.model import ready; print(ready('efficientnet-lite0').sha256)"
    running = [nursery.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert not list(cache.rglob(".*")), "no half-written files stay behind"


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be written is an error that names the variable to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(FanfoldError, match="Set FANFOLD_CACHE"):
        ready("efficientnet-lite0")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FANFOLD_CACHE takes precedence over XDG_CACHE_HOME, and that over the home folder."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "ours"))
    assert cache_dir() == tmp_path / "ours"
    monkeypatch.delenv("FANFOLD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "fanfold"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "fanfold"


# -- the user's own file
# ------------------------------------------------------------------------------------------------


def test_own_file(onnx_file: Callable[..., Path]) -> None:
    """The size comes from the graph, and ImageNet's numbers are assumed, which the recipe says."""
    found = ready(str(onnx_file(size=16)))
    assert (found.size, found.dimension, found.name) == (16, 3, "colour.onnx")
    assert "assumed" in found.preprocessing
    expected = (probe(16) / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.abs(vector_of_probe(found) - expected.mean(axis=(0, 1))).max() < 1e-4


SQUARE = {"height": 16, "width": 16}
CONFIGURATIONS = {
    "clip": ({"size": {"shortest_edge": 16}, "crop_size": SQUARE}, "crop", 1.0),
    "resnet": ({"size": {"shortest_edge": 16}, "crop_pct": 0.875, "do_center_crop": False}, "crop", 0.875),
    "dinov2": ({"size": {"shortest_edge": 20}, "crop_size": SQUARE, "do_center_crop": True}, "crop", 0.8),
    "old": ({"size": 20, "crop_size": 16}, "crop", 0.8),
    "siglip": ({"size": SQUARE, "do_resize": True}, "squash", 1.0),
    "vit": ({"size": 16, "do_resize": True}, "squash", 1.0),
    "bit": ({"size": {"height": 20, "width": 20}, "crop_size": SQUARE}, "squash", 0.8),
    "efficientnet": (
        {"size": SQUARE, "crop_size": {"height": 20, "width": 20}, "do_center_crop": False},
        "squash",
        1.0,
    ),
}


@pytest.mark.parametrize(("config", "fit", "crop"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configuration(onnx_file: Callable[..., Path], config: dict[str, object], fit: str, crop: float) -> None:
    """The numbers in a preprocessor_config.json beside the file are used, in each of its dialects."""
    file = onnx_file(size="side")
    numbers = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1 / 255}
    file.with_name("preprocessor_config.json").write_text(json.dumps(config | numbers))
    found = ready(str(file))
    assert (found.size, found.fit, found.crop) == (16, fit, crop)
    assert ("squeezed" in found.preprocessing) == (fit == "squash")
    expected = (probe(16) / 255 - np.array([0.1, 0.2, 0.3])) / 0.5
    assert np.abs(vector_of_probe(found) - expected.mean(axis=(0, 1))).max() < 1e-4


@pytest.mark.parametrize(("side", "fit"), [(224, "crop"), (384, "squash")])
def test_configuration_of_convnext(onnx_file: Callable[..., Path], side: int, fit: str) -> None:
    """ConvNeXT's processor crops small squares and squeezes large ones."""
    config = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": side}, "crop_pct": 0.875}
    file = onnx_file(size="side")
    file.with_name("preprocessor_config.json").write_text(json.dumps(config))
    found = ready(str(file))
    assert (found.size, found.fit, found.crop) == (side, fit, 0.875 if fit == "crop" else 1.0)


@pytest.mark.parametrize(
    ("config", "how"),
    [
        ({}, "bicubic"),
        ({"resample": 3}, "bicubic"),
        ({"resample": 2}, "bilinear"),
        ({"interpolation": "bilinear"}, "bilinear"),
        ({"resample": 0}, "bicubic"),
    ],
)
def test_configured_filter(onnx_file: Callable[..., Path], config: dict[str, object], how: str) -> None:
    """The filter of a configuration is used and is in the recipe; those that fanfold lacks become bicubic."""
    file = onnx_file()
    file.with_name("preprocessor_config.json").write_text(json.dumps({"size": SQUARE} | config))
    assert ready(str(file)).filter == how
    assert f"; antialiased {how}; " in Images(model=str(file)).recipe()["preprocessing"]


def test_no_normalising(onnx_file: Callable[..., Path]) -> None:
    """A configuration may say that pixels are only scaled to 0..1."""
    file = onnx_file()
    file.with_name("preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert np.abs(vector_of_probe(ready(str(file))) - (probe(16) / 255).mean(axis=(0, 1))).max() < 1e-4


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "{", "\xff", '{"image_std": [0, 0, 0]}', '{"image_mean": [NaN, 0, 0]}', '{"image_mean": 3}'),
        *('{"size": "large"}', '{"size": 1e400}', '{"crop_pct": 0}', '{"crop_size": -5}', '{"rescale_factor": 0}'),
    ],
)
def test_broken_configuration(onnx_file: Callable[..., Path], text: str) -> None:
    """A broken configuration is an error, rather than a guess."""
    file = onnx_file(size="side")
    file.with_name("preprocessor_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"preprocessor_config.json is not a preprocessor configuration"):
        ready(str(file))


def test_fixed_number_of_pictures(onnx_file: Callable[..., Path]) -> None:
    """A graph that takes exactly four pictures gets four at a time, for any number of pictures."""
    found = ready(str(onnx_file(batch=4)))
    pictures = np.stack([probe(16) // divisor for divisor in range(1, 8)])
    vectors = Embedder(found.file, found.batch)(pictures)
    assert vectors.shape == (7, 3)
    assert np.diff(vectors[:, 0]).max() < 0  # each is darker than the one before


def test_changed_file(onnx_file: Callable[..., Path]) -> None:
    """A different file of the same name is a different model."""
    one = ready(str(onnx_file()))
    two = ready(str(onnx_file(size=32)))
    assert (one.sha256, one.size) != (two.sha256, two.size)


@pytest.mark.parametrize("content", [None, b"", b"not a graph"])
def test_no_model_in_the_file(tmp_path: Path, content: bytes | None) -> None:
    """A file that is absent, or not a model, is refused by name."""
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"m\.onnx"):
        ready(str(tmp_path / "m.onnx"))


def test_other_networks_of_the_article(tmp_path: Path) -> None:
    """The default network saved with its classifier, as in a hub, gives the default's vectors."""
    file = tmp_path / "lite0.onnx"
    onnx.save(LITE0.build(classifier=True), file)
    arithmetic = {"do_rescale": False, "image_mean": [127] * 3, "image_std": [128] * 3, "size": 256, "crop_size": 224}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(arithmetic))
    found = ready(str(file))
    assert "before the classifier" in found.output
    assert np.allclose(vector_of_probe(found), vector_of_probe(ready("efficientnet-lite0")), atol=1e-4)


def test_not_finite(tmp_path: Path, onnx_file: Callable[..., Path]) -> None:
    """A model whose vectors are not finite is refused before it fills a table."""
    model = onnx.load(onnx_file())
    model.graph.initializer.append(numpy_helper.from_array(np.float32(np.nan), "nan"))
    model.graph.node[0].input[0] = "spoilt"
    model.graph.node.insert(0, helper.make_node("Mul", ["x", "nan"], ["spoilt"]))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(FanfoldError, match="not finite"):
        ready(str(tmp_path / "nan.onnx"))
