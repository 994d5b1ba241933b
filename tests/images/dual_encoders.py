"""Dual encoders of known meaning: a picture's vector is its mean colour, and a text's the sum of the colours it names.

They have the inputs and outputs of the exports of CLIP and SigLIP. What those need of their input, these need, too:
a wrong mean, order of channels, part of the picture, case, padding, mask or end moves a vector far away.

    picture ─▶ mean over all pixels, float[n, 3] ─▶ (r, g, b, 0)
    text    ─▶ sum over its tokens               ─▶ (r, g, b, 0), and far along the fourth axis if anything is wrong
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RED, BLUE, GREEN, WHITE, BLACK = (200, 30, 30), (30, 30, 200), (30, 160, 40), (250, 250, 250), (5, 5, 5)
COLOURS = {"red": RED, "blue": BLUE, "green": GREEN, "white": WHITE, "black": BLACK}
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""As in https://huggingface.co/openai/clip-vit-base-patch32/blob/main/preprocessor_config.json"""
HALF = (0.5, 0.5, 0.5)
"""SigLIP's mean and deviation."""
WRONG = (0.0, 0.0, 0.0, 50.0)
"""What a token adds that must not count."""

CENTRING = np.array([[1, 0, 0, -1], [0, 1, 0, -1], [0, 0, 1, -1]], np.float32)
"""float[3, 4]: a colour becomes a vector whose mean is 0."""

Table = Mapping[int, tuple[float, ...]]


def as_seen(
    colour: tuple[int, ...], mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
) -> np.ndarray:
    """float[4]: the vector of a picture of one colour."""
    return np.append((np.array(colour) / 255 - mean) / std, 0.0)


def picture_graph(output: str, name: str = "toy", pixels: str = "pixel_values", size: int = 224) -> bytes:
    """float[n, 3, size, size] -> float[n, 4]: the mean colour, and 0.

    The name makes two of them different files: models are known by their hash.
    """
    nodes = [
        helper.make_node("Reshape", [pixels, "flat"], ["dots"]),
        helper.make_node("ReduceMean", ["dots"], ["colour"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["colour", "into"], [output]),
        helper.make_node("Transpose", [pixels], ["last_hidden_state"]),
    ]
    outputs = [_floats("last_hidden_state", [None] * 4), _floats(output, ["batch_size", 4])]
    weights = {"into": np.eye(3, 4, dtype=np.float32), "flat": np.array([0, 3, -1], np.int64)}
    return _model(nodes, [_floats(pixels, ["batch_size", 3, size, size])], outputs, weights, name)


def nomic_picture_graph() -> bytes:
    """float[n, 3, 224, 224] `pixel_values` -> `last_hidden_state` float[n, 2, 4], as in Nomic's export.

    The first vector is (r, g, b, -(r + g + b)), whose mean is 0; the other is wrong.
    """
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("MatMul", ["colour", "into"], ["vector"]),
        helper.make_node("Unsqueeze", ["vector", "axis"], ["first"]),
        helper.make_node("Neg", ["first"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["last_hidden_state"], axis=1),
    ]
    weights = {"into": CENTRING, "axis": np.array([1], np.int64)}
    inputs = [_floats("pixel_values", ["batch_size", 3, 224, 224])]
    return _model(nodes, inputs, [_floats("last_hidden_state", ["batch_size", 2, 4])], weights)


def nomic_text_graph(rows: Table, size: int) -> bytes:
    """`input_ids`, `token_type_ids`, `attention_mask` int64[n, any] -> float[n, any, 4]: a vector for each token.

    Whatever has no mask, or another type than 0, is wrong.
    """
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["found"]),
        helper.make_node("Sub", ["attention_mask", "token_type_ids"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["masks"]),
        helper.make_node("Mul", ["found", "masks"], ["last_hidden_state"]),
    ]
    weights = _rows(rows, size) | {"last": np.array([-1], np.int64)}
    inputs = [_ids(name, "sequence_length") for name in ("input_ids", "token_type_ids", "attention_mask")]
    return _model(nodes, inputs, [_floats("last_hidden_state", ["batch_size", "sequence_length", 4])], weights)


def jina_text_graph(rows: Table, size: int) -> bytes:
    """`input_ids` int64[n, any] -> `text_embeds` float[n, 4]: the sum of the tokens."""
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axes"], ["text_embeds"], keepdims=0),
    ]
    weights = _rows(rows, size) | {"axes": np.array([1], np.int64)}
    outputs = [_floats("text_embeds", ["batch_size", 4])]
    return _model(nodes, [_ids("input_ids", "sequence_length")], outputs, weights)


def openclip_text_graph(rows: Table, size: int) -> bytes:
    """`input` int64[n, 77] -> `output` float[n, 4], as in the export of OpenCLIP's models, which takes no mask.

    The vector is read at the first place of the highest token, which is the end, and sums up what comes before.
    """
    nodes = [
        helper.make_node("Gather", ["rows", "input"], ["found"]),
        helper.make_node("CumSum", ["found", "axis"], ["sums"]),
        helper.make_node("ArgMax", ["input"], ["end"], axis=1, keepdims=1),
        helper.make_node("Unsqueeze", ["end", "last"], ["place"]),
        helper.make_node("Expand", ["place", "wide"], ["places"]),
        helper.make_node("GatherElements", ["sums", "places"], ["there"], axis=1),
        helper.make_node("Squeeze", ["there", "axes"], ["output"]),
    ]
    weights = _rows(rows, size) | {
        "last": np.array([-1], np.int64),
        "axis": np.array(1, np.int64),
        "axes": np.array([1], np.int64),
        "wide": np.array([1, 1, 4], np.int64),
    }
    return _model(nodes, [_ids("input", 77)], [_floats("output", ["batch_size", 4])], weights)


def clip_text_graph(rows: Table, size: int) -> bytes:
    """`input_ids`, `attention_mask` int64[n, 77] -> `text_embeds` float[n, 4], as in CLIP's export.

    The vector is read at the first place of the highest token, which is the end, and sums up what comes before:
    without the end, some words do not count. What has a mask behind the end is a fault.
    """
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["masks"]),
        helper.make_node("Mul", ["found", "masks"], ["kept"]),
        helper.make_node("CumSum", ["kept", "axis"], ["sums"]),
        helper.make_node("ArgMax", ["input_ids"], ["end"], axis=1, keepdims=1),
        helper.make_node("Unsqueeze", ["end", "last"], ["place"]),
        helper.make_node("Expand", ["place", "wide"], ["places"]),
        helper.make_node("GatherElements", ["sums", "places"], ["there"], axis=1),
        helper.make_node("Squeeze", ["there", "axes"], ["before"]),
        helper.make_node("ReduceSum", ["kept", "axes"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "before"], ["after"]),
        helper.make_node("Mul", ["after", "much"], ["fault"]),
        helper.make_node("Add", ["before", "fault"], ["text_embeds"]),
    ]
    weights = _rows(rows, size) | {
        "last": np.array([-1], np.int64),
        "axis": np.array(1, np.int64),
        "axes": np.array([1], np.int64),
        "wide": np.array([1, 1, 4], np.int64),
        "much": np.array(100, np.float32),
    }
    inputs = [_ids("input_ids", 77), _ids("attention_mask", 77)]
    return _model(nodes, inputs, [_floats("text_embeds", ["batch_size", 4])], weights)


def siglip_text_graph(rows: Table, size: int, end: int) -> bytes:
    """`input_ids` int64[n, any] -> `pooler_output` float[n, 4], as in SigLIP's export.

    It is read at place 63, whatever the text, so the text must be filled up; a text without its end is wrong.
    """
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "one"], ["sum"], keepdims=0),
        helper.make_node("Gather", ["found", "place"], ["there"], axis=1),  # fails for shorter texts
        helper.make_node("Add", ["sum", "there"], ["both"]),
        helper.make_node("Equal", ["input_ids", "end"], ["ends"]),
        helper.make_node("Cast", ["ends"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["counts"], ["ended"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["unit", "ended"], ["lacking"]),
        helper.make_node("Mul", ["lacking", "wrong"], ["fault"]),
        helper.make_node("Add", ["both", "fault"], ["pooler_output"]),
        helper.make_node("Identity", ["found"], ["last_hidden_state"]),
    ]
    weights = _rows(rows, size) | {
        "one": np.array([1], np.int64),
        "place": np.array(63, np.int64),
        "end": np.array(end, np.int64),
        "unit": np.array(1, np.float32),
        "wrong": np.array([WRONG], np.float32),
    }
    outputs = [_floats("last_hidden_state", [None] * 3), _floats("pooler_output", ["batch_size", 4])]
    return _model(nodes, [_ids("input_ids", "sequence_length")], outputs, weights)


def _rows(rows: Table, size: int) -> dict[str, np.ndarray]:
    """float[size, 4]: what each token adds; nothing, for those that are not in `rows`."""
    table = np.zeros((size, 4), np.float32)
    for token, values in rows.items():
        table[token] = values
    return {"rows": table}


def _ids(name: str, length: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", length])


def _floats(name: str, shape: list[object]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray],
    name: str = "toy",
) -> bytes:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
