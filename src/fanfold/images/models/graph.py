"""Changes to ONNX graphs: any picture model becomes one from bytes of pixels to a vector per picture.

    uint8[n, size, size, 3] ─▶ (x - mean) / deviation ─▶ the model, cut at its global pool ─▶ float32[n, dimension]
            `pictures`               added here              if it ends in a classifier             `vectors`

With the arithmetic inside, a minibatch goes to ONNX Runtime (and to a GPU) as one byte per value, and callers cannot
forget the arithmetic.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fanfold.errors import UsageError

_DENSE = {"Gemm", "MatMul"}
_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceMax"}
_PASSING = {"Flatten", "Reshape", "Squeeze", "Identity", "Dropout", "Cast"}  # between a pool and a dense layer
_TAIL = _DENSE | _PASSING | {"Add", "Softmax", "LogSoftmax", "Sigmoid", "Relu", "Clip", "HardSwish"}
_EMBEDDING_NAMES = ("image_embeds", "pooler_output", "embedding", "feature")
PREPARED, QUANTIZED = "fanfold.prepared", "fanfold.quantized"
"""Metadata keys of a graph that fanfold wrote: it needs no further changes."""
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


class Input(NamedTuple):
    """A graph's input."""

    name: str
    kind: int
    """TensorProto type of its elements."""
    batch: int | None
    """Pictures at a time, if the graph fixes it."""
    size: int | None
    """Side of the square in pixels, if the graph fixes it."""
    channels_last: bool


class Prepared(NamedTuple):
    """A prepared graph."""

    model: onnx.ModelProto
    output: str
    """The tensor that is the vector, in words."""


def input_of(model: onnx.ModelProto) -> Input:
    """The graph's only input. Raises UsageError if it cannot be a picture."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    shapes = [_shape(value) for value in inputs]
    elements = [value.type.tensor_type.elem_type for value in inputs]
    if [len(shape) for shape in shapes] != [4] or elements[0] not in _FLOATS:
        found = ", ".join(f"{value.name} {shape}" for value, shape in zip(inputs, shapes, strict=True))
        raise UsageError(f"The model must have one input, float[n, 3, height, width]; it has: {found or 'none'}.")
    (batch, *sides), name = shapes[0], inputs[0].name
    channels_last = sides[2] == 3 and sides[0] != 3
    height, width = sides[:2] if channels_last else sides[1:]
    if height is not None and width is not None and height != width:
        raise UsageError(f"The model takes {width} x {height} pixels, but only squares are supported.")
    return Input(name, elements[0], batch, height or width, channels_last)


def prepare(model: onnx.ModelProto, size: int, mean: Sequence[float], deviation: Sequence[float]) -> Prepared:
    """The model with its arithmetic inside and its embedding as the one output; `mean` and `deviation` in 0..255."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    wanted = input_of(result)
    output, words = _embedding(result)
    _set_output(result, output)
    drop_unused(result)
    _add_arithmetic(result, wanted, size, mean, deviation)
    return Prepared(result, words)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A prepared graph that computes in float16, from uint8 pictures to float32 vectors."""
    path = list(sys.path)
    from onnxruntime.transformers.float16 import convert_float_to_float16

    sys.path[:] = path  # the package adds itself
    halved: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return halved


# -- the output -----------------------------------------------------------------------------------------------------


def _embedding(model: onnx.ModelProto) -> tuple[str, str]:
    """The tensor that is the embedding, float[n, dimension], and its description; nodes are added where needed."""
    ranks = _ranks(model)
    output = _best_output(model, ranks)
    named = any(word in output.lower() for word in _EMBEDDING_NAMES)
    pool = None if named else _pool_before(model, output, ranks)
    if pool is not None:
        return _flattened(model, pool), f"the global pool '{pool}', before the classifier"
    rank = ranks.get(output)
    if rank == 2:
        return output, f"the output '{output}'"
    if rank == 3:
        # float[n, tokens, dimension] -> float[n, dimension]: a vision transformer's class token comes first.
        model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "fanfold_first"))
        token = _append(model, "Gather", [output, "fanfold_first"], "fanfold_token", axis=1)
        return token, f"the first token of '{output}'"
    if rank == 4:
        pooled = _append(model, "GlobalAveragePool", [output], "fanfold_pooled")
        return _flattened(model, pooled), f"the mean of '{output}' over the picture"
    raise UsageError(f"The model's output '{output}' has rank {rank}: it cannot become a vector. Use another model.")


def _best_output(model: onnx.ModelProto, ranks: dict[str, int]) -> str:
    """The output named as an embedding, else the first with a vector per picture, else the first."""
    names: list[str] = [value.name for value in model.graph.output]
    embeddings = (name for wanted in _EMBEDDING_NAMES for name in names if wanted in name.lower())
    return next(chain(embeddings, (name for name in names if ranks.get(name) == 2), names))


def _pool_before(model: onnx.ModelProto, output: str, ranks: dict[str, int]) -> str | None:
    """The output of the last pool over the picture, if only a classifier lies between it and `output`."""
    makers = {name: node for node in model.graph.node for name in node.output}
    name, dense = output, False
    while (node := makers.get(name)) is not None:
        if node.op_type in _POOLS and ranks.get(node.input[0]) == 4:
            return name if dense else None
        if node.op_type not in _TAIL:
            return None
        dense |= node.op_type in _DENSE
        computed = (one for one in node.input if one in makers and makers[one].op_type != "Constant")
        name = next(computed, "")
    return None


def _flattened(model: onnx.ModelProto, name: str) -> str:
    return _append(model, "Flatten", [name], "fanfold_flat", axis=1)


def _append(model: onnx.ModelProto, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
    model.graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
    return output


def _set_output(model: onnx.ModelProto, name: str) -> None:
    """Make `name` the only output, as float32, under the name `vectors`."""
    _append(model, "Cast", [name], "vectors", to=TensorProto.FLOAT)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, None]))


def drop_unused(model: onnx.ModelProto) -> None:
    """Drop nodes and weights that are no longer needed: a classifier may be a third of the file."""
    needed, kept = {"vectors"}, []
    for node in reversed(model.graph.node):  # ONNX keeps them in topological order
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input, _names_within(node))
    _replace(model.graph.node, reversed(kept))
    _replace(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in needed])
    _replace(model.graph.input, [value for value in model.graph.input if value.name in needed])
    del model.graph.value_info[:]


def _names_within(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the subgraphs of an If or Loop use: from outside, and their own, which does no harm."""
    for graph in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
        yield from (value.name for value in graph.output)
        for child in graph.node:
            yield from child.input
            yield from _names_within(child)


def _replace(field: "list[object]", values: Iterable[object]) -> None:
    kept = list(values)
    del field[:]
    field.extend(kept)


# -- the input ------------------------------------------------------------------------------------------------------


def _add_arithmetic(
    model: onnx.ModelProto, wanted: Input, size: int, mean: Sequence[float], deviation: Sequence[float]
) -> None:
    """`pictures` -> the model's order of axes -> float32 -> (x - mean) / deviation -> the model's type.

    The planes come first: then a channel's constant serves 50,000 values in a row. With the channels last it changes
    at every value, which took 12 % of EfficientNet-Lite0's time.
    """
    constants = {"fanfold_mean": np.asarray(mean), "fanfold_scale": 1 / np.asarray(deviation)}
    axes = (3,) if wanted.channels_last else (3, 1, 1)
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32).reshape(axes), name))
    turned = [helper.make_node("Transpose", ["pictures"], ["fanfold_planes"], perm=[0, 3, 1, 2])]
    source, turned = ("pictures", []) if wanted.channels_last else ("fanfold_planes", turned)
    nodes = [
        *turned,
        helper.make_node("Cast", [source], ["fanfold_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["fanfold_float", "fanfold_mean"], ["fanfold_centred"]),
        helper.make_node("Mul", ["fanfold_centred", "fanfold_scale"], ["fanfold_normal"]),
        helper.make_node("Cast", ["fanfold_normal"], [wanted.name], to=wanted.kind),
    ]
    _replace(model.graph.node, [*nodes, *model.graph.node])
    shape = [wanted.batch or "n", size, size, 3]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)
    others = [value for value in model.graph.input if value.name != wanted.name]  # weights, in old files
    _replace(model.graph.input, [pictures, *others])


# -- shapes ---------------------------------------------------------------------------------------------------------


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The number of axes of each tensor, where ONNX can infer it."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [(value.name, value.type.tensor_type) for value in (*graph.input, *graph.value_info, *graph.output)]
    return {name: len(tensor.shape.dim) for name, tensor in values if tensor.HasField("shape")}
