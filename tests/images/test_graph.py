"""Changes to ONNX graphs: what is kept of a model, and its input and output."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fanfold.errors import UsageError
from fanfold.images.models.graph import input_of, prepare

Node = tuple[str, list[str], str, dict[str, Any]]

RANDOM = np.random.default_rng(5)
WEIGHTS = {
    "kernel": RANDOM.normal(size=(6, 3, 3, 3)),
    "dense": RANDOM.normal(size=(6, 4)),
    "bias": RANDOM.normal(size=(4,)),
    "tokens": np.array([0, 6, -1]),
    "flat": np.array([0, -1]),
    "shift": RANDOM.normal(size=(6,)),
}
TRUNK: list[Node] = [("Conv", ["x", "kernel"], "map", {"pads": [1, 1, 1, 1]}), ("Relu", ["map"], "active", {})]
POOL: Node = ("GlobalAveragePool", ["active"], "pool", {})
MEAN: Node = ("ReduceMean", ["active"], "pool", {"axes": [2, 3], "keepdims": 0})
FLAT: Node = ("Flatten", ["pool"], "vector", {})
DENSE: Node = ("Gemm", ["vector", "dense", "bias"], "logits", {})

MEANS, DEVIATIONS = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def network(
    *nodes: Node,
    outputs: tuple[str, ...],
    shape: list[Any] | None = None,
    kind: int = TensorProto.FLOAT,
    others: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A small network with one picture `x` as its input."""
    used = {name for node in nodes for name in node[1]}
    tensors = [_tensor(name, value, kind) for name, value in WEIGHTS.items() if name in used]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8] if shape is None else shape)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in others]
    made = [helper.make_node(op, sources, [output], **attributes) for op, sources, output, attributes in nodes]
    found = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(made, "small", inputs, found, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _tensor(name: str, value: np.ndarray, kind: int) -> onnx.TensorProto:
    dtype = helper.tensor_dtype_to_np_dtype(kind) if value.dtype.kind == "f" else np.int64
    return numpy_helper.from_array(value.astype(dtype), name)


def embedded(model: onnx.ModelProto, pictures: np.ndarray) -> np.ndarray:
    """The prepared model's vectors."""
    ready = prepare(model, 8, MEANS, DEVIATIONS).model
    onnx.checker.check_model(ready)
    return onnxruntime.InferenceSession(ready.SerializeToString()).run(["vectors"], {"pictures": pictures})[0]


@pytest.fixture(name="pictures")
def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(name="features")
def _features(pictures: np.ndarray) -> np.ndarray:
    """float32[3, 6, 8, 8]: the trunk's last feature map, from ONNX Runtime with preprocessing done here."""
    x = ((pictures - np.array(MEANS)) / np.array(DEVIATIONS)).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(network(*TRUNK, outputs=("active",)).SerializeToString())
    return session.run(["active"], {"x": x})[0]


def a_map(features: np.ndarray) -> np.ndarray:
    """The mean of the feature map over the picture."""
    return features.mean(axis=(2, 3))


def a_token(features: np.ndarray) -> np.ndarray:
    """The feature map's first position, like a transformer's first token."""
    return features.reshape(len(features), 6, 64)[:, :, 0]


def projected(features: np.ndarray) -> np.ndarray:
    """The mean after the dense layer."""
    return a_map(features) @ WEIGHTS["dense"] + WEIGHTS["bias"]


SHAPES: dict[str, tuple[onnx.ModelProto, Callable[[np.ndarray], np.ndarray], str]] = {
    "classifier": (network(*TRUNK, POOL, FLAT, DENSE, outputs=("logits",)), a_map, "before the classifier"),
    "mean and softmax": (
        network(
            *TRUNK, MEAN, ("Gemm", ["pool", "dense", "bias"], "l", {}), ("Softmax", ["l"], "p", {}), outputs=("p",)
        ),
        a_map,
        "before the classifier",
    ),
    "reshape, matmul, add": (
        network(
            *TRUNK,
            POOL,
            ("Reshape", ["pool", "flat"], "vector", {}),
            ("MatMul", ["vector", "dense"], "product", {}),
            ("Add", ["bias", "product"], "logits", {}),
            outputs=("logits",),
        ),
        a_map,
        "before the classifier",
    ),
    "pooled already": (network(*TRUNK, POOL, FLAT, outputs=("vector",)), a_map, "the output 'vector'"),
    "feature map": (network(*TRUNK, outputs=("active",)), a_map, "mean of 'active' over the picture"),
    "named embedding": (
        network(
            *TRUNK, POOL, FLAT, ("Gemm", ["vector", "dense", "bias"], "image_embeds", {}), outputs=("image_embeds",)
        ),
        projected,
        "the output 'image_embeds'",
    ),
    "the one of several": (
        network(
            *TRUNK,
            POOL,
            FLAT,
            ("Gemm", ["vector", "dense", "bias"], "text_probs", {}),
            ("Identity", ["vector"], "pooler_output", {}),
            outputs=("text_probs", "pooler_output"),
        ),
        a_map,
        "the output 'pooler_output'",
    ),
    "tokens": (
        network(
            *TRUNK,
            ("Reshape", ["active", "tokens"], "rows", {}),
            ("Transpose", ["rows"], "last_hidden_state", {"perm": [0, 2, 1]}),
            outputs=("last_hidden_state",),
        ),
        a_token,
        "first token",
    ),
}


@pytest.mark.parametrize(("model", "expected", "told"), SHAPES.values(), ids=SHAPES)
def test_embedding(
    model: onnx.ModelProto,
    expected: Callable[[np.ndarray], np.ndarray],
    told: str,
    pictures: np.ndarray,
    features: np.ndarray,
) -> None:
    """For each kind of model, the useful vector is kept, and pixels are converted to the model's input."""
    assert np.abs(embedded(model, pictures) - expected(features)).max() < 1e-4
    assert told in prepare(model, 8, MEANS, DEVIATIONS).output


def test_what_is_cut_off_is_gone() -> None:
    """The classifier's weights are removed from the file."""
    model = prepare(SHAPES["classifier"][0], 8, MEANS, DEVIATIONS).model
    assert {tensor.name for tensor in model.graph.initializer} == {"kernel", "fanfold_mean", "fanfold_scale"}


def test_the_given_graph_stays() -> None:
    """Preparing works on a copy."""
    model = SHAPES["classifier"][0]
    before = model.SerializeToString()
    prepare(model, 8, MEANS, DEVIATIONS)
    assert model.SerializeToString() == before


def test_channels_last(pictures: np.ndarray) -> None:
    """A model with channels last gets its channels last."""
    model = network(
        ("ReduceMean", ["x"], "vector", {"axes": [1, 2], "keepdims": 0}), outputs=("vector",), shape=["n", 8, 8, 3]
    )
    expected = ((pictures - np.array(MEANS)) / np.array(DEVIATIONS)).mean(axis=(1, 2))
    assert np.abs(embedded(model, pictures) - expected).max() < 1e-4


def test_half_precision(pictures: np.ndarray, features: np.ndarray) -> None:
    """A float16 model gets float16, and its vectors come out as float32."""
    found = embedded(network(*TRUNK, POOL, FLAT, outputs=("vector",), kind=TensorProto.FLOAT16), pictures)
    assert found.dtype == np.float32
    assert np.abs(found - a_map(features)).max() < 0.05


def test_input_of() -> None:
    """The input is read from the graph."""
    found = input_of(network(*TRUNK, outputs=("active",), shape=[2, 3, 96, 96]))
    assert (found.name, found.batch, found.size, found.channels_last) == ("x", 2, 96, False)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (network(*TRUNK, outputs=("active",), shape=["n", 3, 8, 16]), "16 x 8 pixels, but only squares"),
        (network(*TRUNK, outputs=("active",), others=("caption",)), "must have one input"),
        (network(("Identity", ["x"], "y", {}), outputs=("y",), shape=["n", 10]), "must have one input"),
    ],
    ids=["not square", "two inputs", "no picture"],
)
def test_refused(model: onnx.ModelProto, said: str) -> None:
    """A model that does not take one picture is refused."""
    with pytest.raises(UsageError, match=said):
        input_of(model)
