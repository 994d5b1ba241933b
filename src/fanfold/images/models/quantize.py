"""INT8: a model whose convolutions work on eight-bit integers, calibrated on a sample of the user's own pictures.

    source ──sample──▶ pictures ─┬─ a third: ranges of what flows through the model ──▶ INT8 graph ──┐
                                 └─ the rest: held back ──▶ vectors of both graphs ──▶ cosine ◀──────┘
                                                                                         └─ refused if too low

ONNX Runtime's quantiser does the surgery. By itself it leaves EfficientNet-Lite0 with a mean cosine of 0.95; three
things make that 0.996 (benches/precision.py measures each):

    weights    each output channel has the finest scale that no CPU can overflow, see `scales`
    bias       rounded weights shift a channel's mean; the bias takes that back, see `_corrected`
    first      the first convolution stays in float: it reads the picture, and is 3 % of the work
"""

import hashlib
import json
import logging
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Images
from fanfold.images.decode import View
from fanfold.images.models.embedder import Embedder, Pixels, Vectors, session_options
from fanfold.images.models.graph import PREPARED, QUANTIZED, drop_unused
from fanfold.images.models.model import MIN_COSINE, Ready, ready
from fanfold.images.work import decode_ahead, read_ahead
from fanfold.source import Source

SAMPLE = 96
"""Pictures in the sample: one of three calibrates, the others are held back."""
FEWEST = 16
"""Least number of pictures for a useful result."""
FIRST = 1
"""Convolutions at the graph's start that stay in float."""

_LISTED = 20_000  # pictures among which the sample is drawn: a listing of millions need not end first
_KINDS = ["Conv", "Clip", "Relu", "Add", "MaxPool"]  # a pool in integers would round the vectors themselves
_OPSET = 13  # the first that supports a scale per channel

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Quantized:
    """An INT8 model, and its similarity to the float32 one."""

    content: bytes
    """The ONNX file."""
    name: str
    """Name of the model that it was made from."""
    calibrated_on: int
    """Number of pictures that calibrated it."""
    held_back: int
    """Number of pictures that the cosines were measured on."""
    mean_cosine: float
    lowest_cosine: float

    @property
    def file_name(self) -> str:
        """A name that no other model has."""
        stem = re.sub(r"[^\w.-]+", "-", self.name.removesuffix(".onnx"))
        return f"{stem}-int8-{hashlib.sha256(self.content).hexdigest()[:16]}.onnx"

    def __str__(self) -> str:
        return (
            f"INT8 calibrated on {self.calibrated_on} pictures; on {self.held_back} others the cosine with float32 "
            f"is {self.mean_cosine:.4f} on average, {self.lowest_cosine:.4f} at the lowest"
        )


def quantize(job: Images, source: Source, min_cosine: float = MIN_COSINE) -> Quantized:
    """Make the INT8 form of `job.model`, calibrated on a sample of `source`.

    Raises UsageError for too few pictures, a model without convolutions, and one whose vectors come out less similar
    than `min_cosine`; StorageError for a source that cannot be listed.
    """
    base = ready(job.model)
    if base.precision != "fp32":
        raise UsageError(f"The model {job.model} is already {base.precision}. Use it without --precision int8.")
    pictures = _sample(job, source, base)
    calibration, held_back = pictures[::3], np.delete(pictures, np.s_[::3], axis=0)
    model = _with_integers(onnx.load(base.file), calibration, base.batch or 1)
    alike = cosines(*(_vectors(graph, base.batch, held_back) for graph in (base.file, model.SerializeToString())))
    mean, lowest = float(alike.mean()), float(alike.min())
    if not mean >= min_cosine:  # written so that NaN is refused
        accepted = np.floor(mean * 1000) / 1000
        raise UsageError(
            f"INT8 changes the vectors of these pictures too much: their mean cosine with float32 is {accepted:.3f}, "
            f"below {min_cosine:g}. Use --precision fp32, or accept it with --min-cosine {accepted:g}."
        )
    made = Quantized(b"", base.name, len(calibration), len(held_back), mean, lowest)
    described = asdict(replace(base, file="", precision="int8", base=base.sha256))
    facts = {name: value for name, value in asdict(made).items() if name != "content"}
    helper.set_model_props(model, {PREPARED: json.dumps(described), QUANTIZED: json.dumps(facts)})
    return replace(made, content=model.SerializeToString())


def cosines(ones: Vectors, others: Vectors) -> Array:
    """float32[n], row by row."""
    lengths = np.linalg.norm(ones, axis=1) * np.linalg.norm(others, axis=1)
    alike: Array = np.einsum("ij,ij->i", ones, others) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return alike


def _vectors(graph: str | bytes, batch: int | None, pictures: Pixels) -> Vectors:
    embed = Embedder(graph, batch)
    return np.concatenate([embed(picture[None]) for picture in pictures])


# -- the sample -----------------------------------------------------------------------------------------------------


def _sample(job: Images, source: Source, model: Ready) -> Pixels:
    """uint8[n, size, size, 3]: pictures as the model sees them. The same source gives the same sample."""
    listed = list(islice(source.list(job.suffixes), _LISTED))
    random.Random(0).shuffle(listed)
    view = View(model.size, model.crop, job.fast, "fail", job.max_pixels, model.fit, model.filter)
    found: list[Pixels] = []
    why = "none was listed"
    with closing(read_ahead(listed, source, job.max_bytes)) as reads:
        for item, result in decode_ahead(reads, view, threads=1, ahead=0):
            picture = result()
            if isinstance(picture, Exception):
                why = f"{item.key}: {picture}"
                continue
            found.append(picture.pixels)
            if len(found) == SAMPLE:
                break
    if len(found) < FEWEST:
        reason = f" ({why})" if len(found) < len(listed) or not listed else ""
        raise UsageError(
            f"INT8 needs at least {FEWEST} pictures to calibrate on, but only {len(found)} of the {len(listed)} here "
            f"could be read{reason}. Use --precision fp32, or calibrate on other pictures: "
            "fanfold images quantize SOURCE model.onnx"
        )
    return np.stack(found)


# -- the graph ------------------------------------------------------------------------------------------------------


def _with_integers(model: onnx.ModelProto, pictures: Pixels, batch: int) -> onnx.ModelProto:
    """The prepared graph with its convolutions, but the first, in INT8."""
    model = _simplified(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    chosen = [
        node for node in convolutions[FIRST:] if node.input[1] in weights and len(weights[node.input[1]].dims) == 4
    ]
    if not chosen:
        raise UsageError("INT8 is for models with convolutions; this one has none beyond the first.")
    fed = [{"pictures": np.repeat(picture[None], batch, axis=0)} for picture in pictures]
    found = {node.input[1]: scales(numpy_helper.to_array(weights[node.input[1]])) for node in chosen}
    _correct(model, chosen, found, _means(model, [node.input[0] for node in chosen], fed))
    names = {node.name for node in chosen}
    return _quantized(model, found, [node.name for node in convolutions if node.name not in names], fed)


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with a suitable opset, folded constants, batch norms in the convolutions, and named nodes."""
    if max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")) < _OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simple.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simple: onnx.ModelProto = onnx.load(options.optimized_model_filepath)
    for number, node in enumerate(simple.graph.node):
        node.name = f"{node.op_type}_{number}"
    return simple


def scales(weight: Array) -> Array:
    """float32[out]: what one step of an INT8 weight stands for, for float32[out, in / groups, kernel, kernel].

    AVX2 has no instruction for INT8 convolutions. Its kernels use VPMADDUBSW, which multiplies unsigned bytes by
    signed ones and adds neighbours in sixteen bits, where 255 * 127 + 255 * 127 does not fit:

        u0 * s0 + u1 * s1 <= 255 * (s0 + s1) <= 32767        as long as s0 + s1 <= 128

    Halving all weights would prevent it (ONNX Runtime's `reduce_range`) at the price of a bit. But few channels hold
    two large neighbours of one sign, so the largest sum of neighbours decides. One file then gives the same vectors
    on every machine. Neighbours are input channels or kernel columns, depending on the kernel: both are looked at.
    Depthwise kernels add in 32 bits.
    """
    limit = np.abs(weight).max(axis=(1, 2, 3))
    if weight.shape[1] > 1:
        limit = np.maximum(limit, np.maximum(_pairs(weight), _pairs(weight.transpose(0, 2, 3, 1))))
    steps = 127  # not 128: rounding may add half a step to each of two neighbours
    found: Array = (np.where(limit > 0, limit, 1) / steps).astype(np.float32)
    return found


def _pairs(weight: Array) -> Array:
    """float32[out]: the largest sum of two neighbours of one sign."""
    rows = weight.reshape(len(weight), -1)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    signed = [np.maximum(sign * rows, 0).reshape(len(rows), -1, 2).sum(axis=2).max(axis=1) for sign in (1, -1)]
    found: Array = np.maximum(*signed)
    return found


def _means(model: onnx.ModelProto, names: list[str], fed: list[dict[str, Pixels]]) -> dict[str, Array]:
    """float32[channels]: the means of tensors of the graph over the pictures, by channel."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    names = list(dict.fromkeys(names))
    for name in names:
        asked.graph.node.append(helper.make_node("GlobalAveragePool", [name], [f"{name}_mean"]))
        asked.graph.output.append(helper.make_empty_tensor_value_info(f"{name}_mean"))
    session = ort.InferenceSession(asked.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    sums = [np.zeros(1, np.float32) for _ in names]
    for inputs in fed:
        found = session.run([f"{name}_mean" for name in names], inputs)
        sums = [total + one.mean(axis=(0, 2, 3)) for total, one in zip(sums, found, strict=True)]
    return {name: total / np.float32(len(fed)) for name, total in zip(names, sums, strict=True)}


def _correct(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], found: dict[str, Array], means: dict[str, Array]
) -> None:
    """Give every convolution a bias that keeps its channels' means where they were before the weights were rounded.

    Section 4.2 of https://arxiv.org/abs/1906.04721 (bias correction), by measured means.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes:
        weight = numpy_helper.to_array(tensors[node.input[1]])
        step = found[node.input[1]].reshape(-1, 1, 1, 1)
        error = (np.rint(weight / step) * step - weight).sum(axis=(2, 3))  # float32[out, in / groups]
        groups = means[node.input[0]].size // error.shape[1]
        seen = np.repeat(means[node.input[0]].reshape(groups, -1), len(error) // groups, axis=0)  # float32[out, ...]
        shift = (error * seen).sum(axis=1)
        named = len(node.input) > 2 and node.input[2]
        bias = numpy_helper.to_array(tensors[node.input[2]]) if named else np.zeros_like(shift)
        name = f"{node.name}_bias"
        model.graph.initializer.append(numpy_helper.from_array((bias - shift).astype(np.float32), name))
        del node.input[2:]
        node.input.append(name)
    drop_unused(model)


def _quantized(
    model: onnx.ModelProto, found: dict[str, Array], kept: list[str], fed: list[dict[str, Pixels]]
) -> onnx.ModelProto:
    """By ONNX Runtime's quantiser, with our scales. Raises FanfoldError if it cannot."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(fed)

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self.left, None)

    int8 = {"quant_type": QuantType.QInt8, "zero_point": np.array(0, np.int8), "axis": 0}
    overrides = {name: [int8 | {"scale": np.array(step)} for step in steps] for name, steps in found.items()}
    with _quiet(), tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        file = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                model,
                file,
                Reader(),
                activation_type=QuantType.QUInt8,  # with weights of QInt8: what `scales` is about
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=_KINDS,
                nodes_to_exclude=kept,
                extra_options={"TensorQuantOverrides": overrides},
            )
        except Exception as error:  # for an unknown operator, for example
            raise FanfoldError(f"ONNX Runtime cannot quantize this model: {error}") from error
        made: onnx.ModelProto = onnx.load(file)
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger, which would configure logging for the whole program."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
