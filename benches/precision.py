"""The model in float32 and in INT8: pictures per second, bytes, and the similarity of the vectors.

    .venv/bin/python benches/precision.py [--pictures 400] [--rounds 5]

Speed is measured in CPU seconds of one thread without decoding, and the precisions take turns, so that other work on
the machine matters little. Similarity is measured on pictures that were not used for calibration. The steps show the
effect of each part of quantize.py. ResNet18 has random weights here, so only its speed counts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

import measure
import numpy as np
import onnx
import pictures
import results
from onnx import TensorProto, helper, numpy_helper

from fanfold.images.decode import View, decode
from fanfold.images.models import quantize
from fanfold.images.models.embedder import Embedder
from fanfold.images.models.graph import prepare
from fanfold.images.models.model import ready
from fanfold.images.models.registry import IMAGENET_DEVIATION, IMAGENET_MEAN

CALIBRATED_ON = 32
MINIBATCH = 2  # the workers' default
Pixels = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400, help="of 500 x 375 pixels, and half as many stamps")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    args = parser.parse_args()
    busy = measure.idle()
    shown = look([*taken("500x375", args.pictures), *taken("png", args.pictures // 2)])
    calibration, others = shown[:CALIBRATED_ON], shown[CALIBRATED_ON:]
    lite0 = Path(ready("efficientnet-lite0").file).read_bytes()
    resnet18 = random_resnet18()
    kinds = {name: make(lite0, calibration) for name, make in STEPS.items()}
    fast = {"EfficientNet-Lite0": (lite0, kinds["int8"]), "ResNet18": (resnet18, with_integers(resnet18, calibration))}
    readme = results.markdown(
        ["pictures per CPU second", "float32", "INT8", "INT8 is"], speeds(fast, others, args.rounds)
    )
    rest = alikeness(lite0, kinds, others)
    print(results.record("precision", readme, rest, f"{busy}; {measure.versions(Path(sys.executable), 'onnxruntime')}"))


def taken(name: str, count: int) -> list[Path]:
    """The pictures of an input."""
    return pictures.in_folder(pictures.make(name, count))


def look(paths: Sequence[Path]) -> Pixels:
    """uint8[n, 224, 224, 3], in random order."""
    found = np.empty((len(paths), 224, 224, 3), np.uint8)
    for place, path in zip(found, paths, strict=True):
        decode(path.read_bytes(), place, View(224, 0.875))
    return np.random.default_rng(0).permutation(found)


# -- the ways to quantise --------------------------------------------------------------------------------------------


def with_integers(model: bytes, calibration: Pixels) -> bytes:
    """Quantise like `fanfold images quantize`."""
    return quantize._with_integers(onnx.load_from_string(model), calibration, 1).SerializeToString()


def halved(model: bytes, calibration: Pixels) -> bytes:
    """ONNX Runtime's quantiser with `reduce_range`: weights of seven bits, all convolutions."""
    return _every_convolution(model, calibration, lambda weight: _full(weight) * np.float32(127 / 64), _as_it_was)


def overflowing(model: bytes, calibration: Pixels) -> bytes:
    """Weights of eight bits, whose sums overflow on AVX2."""
    return _every_convolution(model, calibration, _full, _as_it_was)


def finest(model: bytes, calibration: Pixels) -> bytes:
    """The finest scales that cannot overflow."""
    return _every_convolution(model, calibration, quantize.scales, _as_it_was)


def uncorrected(model: bytes, calibration: Pixels) -> bytes:
    """The same, with the first convolution in float."""
    with patch.object(quantize, "_correct", _as_it_was):
        return with_integers(model, calibration)


def _full(weight: np.ndarray) -> np.ndarray:
    limit = np.abs(weight).max(axis=(1, 2, 3))
    return (np.where(limit > 0, limit, 1) / 127).astype(np.float32)


def _as_it_was(*_: object) -> None: ...


def _every_convolution(model: bytes, calibration: Pixels, scales: Callable, correct: Callable) -> bytes:
    with (
        patch.object(quantize, "FIRST", 0),
        patch.object(quantize, "scales", scales),
        patch.object(quantize, "_correct", correct),
    ):
        return with_integers(model, calibration)


STEPS: dict[str, Callable[[bytes, Pixels], bytes]] = {
    "eight bits, overflowing": overflowing,
    "seven bits (reduce_range)": halved,
    "finest scales without overflow": finest,
    "... the first convolution in float": uncorrected,
    "int8": with_integers,
}


# -- what is measured -------------------------------------------------------------------------------------------------


def speeds(models: dict[str, tuple[bytes, bytes]], shown: Pixels, rounds: int) -> list[list[str]]:
    """A row per model: pictures per CPU second in float32, in INT8, and the ratio."""
    rows = []
    for name, graphs in models.items():
        embedders = [Embedder(graph) for graph in graphs]
        seconds = [[timed(embed, shown[:32]) for embed in embedders] for _ in range(rounds + 1)][1:]
        ours = [32 / median(column) for column in zip(*seconds, strict=True)]
        rows.append([name, f"{ours[0]:.1f}", f"{ours[1]:.1f}", f"{ours[1] / ours[0]:.2f}x"])
        print(*rows[-1], file=sys.stderr, flush=True)
    return rows


def timed(embed: Embedder, shown: Pixels) -> float:
    """CPU seconds to embed the pictures."""
    started = time.process_time()
    vectors(embed, shown)
    return time.process_time() - started


def vectors(embed: Embedder, shown: Pixels) -> np.ndarray:
    """float32[n, dimension]"""
    return np.concatenate([embed(shown[at : at + MINIBATCH]) for at in range(0, len(shown), MINIBATCH)])


def alikeness(base: bytes, kinds: dict[str, bytes], shown: Pixels) -> str:
    """A table with the effect of each kind of quantisation on the vectors."""
    whole = vectors(Embedder(base), shown)
    rows = [["float32", "1", "1", "1", f"{len(base) / 1e6:.1f}"]]
    for name, graph in kinds.items():
        found = vectors(Embedder(graph), shown)
        alike = quantize.cosines(whole, found)
        agree = (neighbours(whole) == neighbours(found)).mean()
        rows.append([name, f"{alike.mean():.4f}", f"{alike.min():.4f}", f"{agree:.3f}", f"{len(graph) / 1e6:.1f}"])
        print(*rows[-1], file=sys.stderr, flush=True)
    head = ["EfficientNet-Lite0", "mean cosine", "lowest", "same nearest neighbour", "MB"]
    told = f"On {len(shown)} pictures, {CALIBRATED_ON} others calibrated. ResNet18's weights are random: speed only."
    return f"{results.markdown(head, rows)}\n\n{told}"


def neighbours(found: np.ndarray) -> np.ndarray:
    """int[n]: the nearest other row for each row."""
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -1)
    return alike.argmax(axis=1)


# -- ResNet18 ---------------------------------------------------------------------------------------------------------


def random_resnet18() -> bytes:
    """Table 1 of https://arxiv.org/abs/1512.03385, with random weights and batch norms already folded."""
    random, nodes, tensors = np.random.default_rng(0), [], []

    def conv(source: str, channels: tuple[int, int], kernel: int, stride: int, relu: bool) -> str:
        name = f"c{len(tensors)}"
        weight = random.normal(0, (2 / (channels[0] * kernel**2)) ** 0.5, (channels[1], channels[0], kernel, kernel))
        for part, value in (("w", weight), ("b", np.zeros(channels[1]))):
            tensors.append(numpy_helper.from_array(value.astype(np.float32), name + part))
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [source, name + "w", name + "b"], [name], strides=[stride] * 2, pads=pads)
        )
        if relu:
            nodes.append(helper.make_node("Relu", [name], [name + "r"]))
        return name + "r" if relu else name

    x = conv("x", (3, 64), 7, 2, relu=True)
    nodes.append(helper.make_node("MaxPool", [x], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    x, width = "pooled", 64
    for channels in (64, 64, 128, 128, 256, 256, 512, 512):
        stride = 1 if channels == width else 2
        inner = conv(conv(x, (width, channels), 3, stride, relu=True), (channels, channels), 3, 1, relu=False)
        shortcut = conv(x, (width, channels), 1, stride, relu=False) if stride == 2 else x
        nodes.append(helper.make_node("Add", [inner, shortcut], [f"{inner}s"]))
        nodes.append(helper.make_node("Relu", [f"{inner}s"], [f"{inner}a"]))
        x, width = f"{inner}a", channels
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["vector"]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 224, 224])
    wanted = helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "resnet18", [given], [wanted], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return prepare(model, 224, IMAGENET_MEAN, IMAGENET_DEVIATION).model.SerializeToString()


if __name__ == "__main__":
    main()
