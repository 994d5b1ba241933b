"""Surgery on ONNX graphs: any picture model becomes bytes of pixels in, one vector a picture out.

    uint8[n, size, size, 3] ─▶ (x - mean) / deviation ─▶ the model, cut at its global pool ─▶ float32[n, dimension]
            `pictures`               added here              if it ends in a classifier             `vectors`

With the arithmetic inside, a minibatch crosses into ONNX Runtime (and on to a GPU) as one byte a value, and what
belongs to a model cannot be forgotten by its caller.
"""

import sys
from collections.abc import Sequence
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
"""Under which a graph made by fanfold tells, in its metadata, what it is: no surgery is needed on it."""
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


class Input(NamedTuple):
    """What a graph wants to be fed."""

    name: str
    kind: int
    """The TensorProto type of its elements."""
    batch: int | None
    """Pictures at a time, if the graph says."""
    size: int | None
    """Side of the square in pixels, if the graph says."""
    channels_last: bool


class Prepared(NamedTuple):
    """A graph made ready, and what was done to it, in words."""

    model: onnx.ModelProto
    output: str


def input_of(model: onnx.ModelProto) -> Input:
    """What the graph's one input is. Raises UsageError if it cannot be a picture."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    pictures = [value for value in inputs if len(value.type.tensor_type.shape.dim) == 4]
    if len(inputs) != 1 or not pictures or pictures[0].type.tensor_type.elem_type not in _FLOATS:
        seen = ", ".join(f"{value.name} {_shape(value)}" for value in inputs)
        raise UsageError(f"The model must have one input, float[n, 3, height, width]; it has: {seen or 'none'}.")
    sides = _shape(pictures[0])
    channels_last = sides[3] == 3 and sides[1] != 3
    height, width = (sides[1], sides[2]) if channels_last else (sides[2], sides[3])
    if height is not None and width is not None and height != width:
        raise UsageError(f"The model looks at {width} x {height} pixels; only squares are supported.")
    elements = pictures[0].type.tensor_type.elem_type
    return Input(pictures[0].name, elements, sides[0], height or width, channels_last)


def prepare(model: onnx.ModelProto, size: int, mean: Sequence[float], deviation: Sequence[float]) -> Prepared:
    """The model with its arithmetic inside and its embedding as the one output; `mean` and `deviation` in 0..255."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    wanted = input_of(result)
    output, told = _embedding(result)
    _set_output(result, output)
    drop_unused(result)
    _add_arithmetic(result, wanted, size, mean, deviation)
    return Prepared(result, told)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A prepared graph that computes in float16; pictures stay uint8, vectors float32."""
    path = list(sys.path)
    from onnxruntime.transformers.float16 import convert_float_to_float16

    sys.path[:] = path  # the package puts itself there
    halved: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return halved


# -- the output -----------------------------------------------------------------------------------------------------


def _embedding(model: onnx.ModelProto) -> tuple[str, str]:
    """The tensor that is float[n, dimension] and worth keeping, adding nodes if need be; and what it is, in words."""
    ranks = _ranks(model)
    output = _best_output(model, ranks)
    pool = None if _says_embedding(output) else _pool_before(model, output, ranks)
    if pool is not None:
        return _flattened(model, pool), f"the global pool '{pool}', before the classifier"
    rank = ranks.get(output)
    if rank == 2:
        return output, f"the output '{output}'"
    if rank == 3:
        return _first_token(model, output), f"the first token of '{output}'"
    if rank == 4:
        pooled = _append(model, "GlobalAveragePool", [output], "fanfold_pooled")
        return _flattened(model, pooled), f"the mean of '{output}' over the picture"
    raise UsageError(f"The model's output '{output}' has rank {rank}; no vector for a picture can be made of it.")


def _best_output(model: onnx.ModelProto, ranks: dict[str, int]) -> str:
    """The one whose name says embedding, else the first with one vector a picture, else the first."""
    names: list[str] = [value.name for value in model.graph.output]
    for wanted in _EMBEDDING_NAMES:
        for name in names:
            if wanted in name.lower():
                return name
    return next((name for name in names if ranks.get(name) == 2), names[0])


def _says_embedding(output: str) -> bool:
    return any(word in output.lower() for word in _EMBEDDING_NAMES)


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
        name = next((source for source in node.input if source in makers and not _constant(makers[source])), "")
    return None


def _constant(node: onnx.NodeProto) -> bool:
    return str(node.op_type) == "Constant"


def _flattened(model: onnx.ModelProto, name: str) -> str:
    return _append(model, "Flatten", [name], "fanfold_flat", axis=1)


def _first_token(model: onnx.ModelProto, name: str) -> str:
    """float[n, tokens, dimension] -> float[n, dimension]: a vision transformer's class token comes first."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "fanfold_first"))
    return _append(model, "Gather", [name, "fanfold_first"], "fanfold_token", axis=1)


def _append(model: onnx.ModelProto, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
    model.graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
    return output


def _set_output(model: onnx.ModelProto, name: str) -> None:
    """Make `name` the one output, as float32 and called `vectors`."""
    _append(model, "Cast", [name], "vectors", to=TensorProto.FLOAT)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, None]))


def drop_unused(model: onnx.ModelProto) -> None:
    """Drop nodes and weights nothing needs any more: a classifier may be a third of the file."""
    needed, kept = {"vectors"}, []
    for node in reversed(model.graph.node):  # ONNX keeps them in topological order
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input, *(_names_within(node)))
    _replace(model.graph.node, reversed(kept))
    _replace(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in needed])
    _replace(model.graph.input, [value for value in model.graph.input if value.name in needed])
    del model.graph.value_info[:]


def _names_within(node: onnx.NodeProto) -> list[set[str]]:
    """Names that the subgraphs of an If or Loop take from outside (and their own, which does no harm)."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [{name for child in graph.node for name in child.input} for graph in graphs]
    outputs = [{value.name for value in graph.output} for graph in graphs]
    deeper = [names for graph in graphs for child in graph.node for names in _names_within(child)]
    return inner + outputs + deeper


def _replace(field: "list[object]", values: "object") -> None:
    kept = list(values)  # type: ignore[call-overload]
    del field[:]
    field.extend(kept)


# -- the input ------------------------------------------------------------------------------------------------------


def _add_arithmetic(
    model: onnx.ModelProto, wanted: Input, size: int, mean: Sequence[float], deviation: Sequence[float]
) -> None:
    """`pictures` -> the order of axes the model takes -> float32 -> (x - mean) / deviation -> the type it takes.

    Planes come first: a constant a channel is then one for 50,000 values in a row. With the channels last it would be
    one for every single value, which took 12 % of EfficientNet-Lite0's time.
    """
    constants = {"fanfold_mean": np.asarray(mean), "fanfold_scale": 1 / np.asarray(deviation)}
    axes = (3,) if wanted.channels_last else (3, 1, 1)
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32).reshape(axes), name))
    nodes = []
    if not wanted.channels_last:
        nodes.append(helper.make_node("Transpose", ["pictures"], ["fanfold_planes"], perm=[0, 3, 1, 2]))
    nodes += [
        helper.make_node(
            "Cast", [nodes[-1].output[0] if nodes else "pictures"], ["fanfold_float"], to=TensorProto.FLOAT
        ),
        helper.make_node("Sub", ["fanfold_float", "fanfold_mean"], ["fanfold_centred"]),
        helper.make_node("Mul", ["fanfold_centred", "fanfold_scale"], ["fanfold_normal"]),
    ]
    nodes.append(helper.make_node("Cast", [nodes[-1].output[0]], [wanted.name], to=wanted.kind))
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
    """How many axes each tensor has, as far as ONNX can infer."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
