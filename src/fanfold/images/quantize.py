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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from fanfold.database import free_name
from fanfold.driver import addressed
from fanfold.errors import FanfoldError, RecipeMismatch, UsageError
from fanfold.images import Images
from fanfold.images.decode import DecodeError, View, decode
from fanfold.images.embed import Embedder, Pixels, Vectors, session_options
from fanfold.images.graph import PREPARED, QUANTIZED, drop_unused
from fanfold.images.model import MIN_COSINE, Ready, ready
from fanfold.images.work import read_ahead
from fanfold.source import Several, Source, open_source
from fanfold.storage import errors_of, exists, join, open_store
from fanfold.table import Table

SAMPLE = 96
"""Pictures looked at: one of three calibrates, the others are held back."""
FEWEST = 16
"""Pictures without which neither half says much."""
MODELS = "_models"
"""The folder of a database where the models lie that were made for it."""

FIRST = 1
"""Convolutions at the graph's start that stay in float."""

_LISTED = 20_000  # pictures among which the sample is drawn: a listing of millions need not end first
_KINDS = ["Conv", "Clip", "Relu", "Add", "MaxPool"]  # a pool in integers would round the vectors themselves
_OPSET = 13  # the first in which a scale a channel can be written down

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Quantized:
    """An INT8 model, and how near it comes to the float32 one."""

    content: bytes
    """The ONNX file."""
    name: str
    """What it was made of."""
    calibrated_on: int
    """Pictures."""
    held_back: int
    """Pictures the cosines are measured on."""
    mean_cosine: float
    lowest_cosine: float

    @property
    def file_name(self) -> str:
        """Unlike any other model's."""
        stem = re.sub(r"[^\w.-]+", "-", self.name.removesuffix(".onnx"))
        return f"{stem}-int8-{hashlib.sha256(self.content).hexdigest()[:16]}.onnx"

    def __str__(self) -> str:
        return (
            f"INT8 calibrated on {self.calibrated_on} pictures; on {self.held_back} others the cosine with float32 "
            f"is {self.mean_cosine:.4f} on average, {self.lowest_cosine:.4f} at the lowest"
        )


def quantize(job: Images, source: str | Sequence[str], min_cosine: float = MIN_COSINE) -> Quantized:
    """Make the INT8 form of `job.model`, calibrated on a sample of `source`.

    Raises UsageError for too few pictures, a model without convolutions, and one that comes out less alike than
    `min_cosine`; StorageError for a source that cannot be listed.
    """
    collection = open_source(source) if isinstance(source, str) else Several.of([open_source(one) for one in source])
    return _quantize(job, collection, min_cosine)


def calibrated(
    job: Images,
    source: str,
    database: str,
    table: str,
    min_cosine: float = MIN_COSINE,
    *,
    say: Callable[[str], None] = lambda _: None,
    reach: Callable[[Images, Source, str], Source] = lambda _job, source, _database: source,
    folder: str = "",
) -> Images:
    """The job that a run should do: one of INT8 with the model its table was made by, else with one calibrated now.

    That is kept in the database, where workers on other machines and later searches find it, or in `folder` instead.
    Any other job is returned as it is. `reach`, an executor's, is asked first, so that nothing is calibrated in vain.
    Raises what that and `quantize` raise, and RecipeMismatch if the table is of another model.
    """
    if job.precision != "int8" or ready(job.model).precision == "int8":
        return job
    collection, where, name = addressed(source, database, table)
    if made_by := _job_of_table(where, name):
        return _as_made(job, made_by, where, name)
    reach(replace(job, model=join(where, MODELS, "model.onnx")), collection, where)  # about where it will lie
    made = _quantize(job, collection, min_cosine)
    say(f"{made}.")
    kept = folder or join(where, MODELS)
    with errors_of(kept):
        open_store(kept, create=True).put(made.file_name, made.content)
    return replace(job, model=join(kept, made.file_name))


def _as_made(job: Images, made_by: Images, database: str, table: str) -> Images:
    """The job with the model its table was made by. Raises RecipeMismatch if that is another one's, or not INT8."""
    base, theirs = ready(job.model), ready(made_by.model)
    if theirs.precision == "int8" and theirs.base == base.sha256:
        return replace(job, model=made_by.model)
    wanted = f"precision int8, model {job.model}"
    made = f"precision {theirs.precision}, model {theirs.name}"
    raise RecipeMismatch(table, made, wanted, free_name(database, table))


def in_database(job: Images, database: str) -> Images:
    """The job of a table in `database`, its model looked for there first: databases are moved and copied."""
    folder, _, name = job.model.rpartition("/")
    if not folder.endswith(f"/{MODELS}"):
        return job
    here = join(database, MODELS, name)
    return replace(job, model=here) if exists(here) else job


def _job_of_table(database: str, name: str) -> Images | None:
    rows = Table.open(database, name) if exists(database) else None
    if rows is None:
        return None
    if rows.metadata.get("fanfold.job") != Images.name:
        raise UsageError(f"Table '{name}' was not made by `fanfold images`. Write to another one with: --table NAME")
    return in_database(Images(**json.loads(rows.metadata["fanfold.options"])), database)


def _quantize(job: Images, source: Source, min_cosine: float) -> Quantized:
    base = ready(job.model)
    if base.precision != "fp32":
        raise UsageError(f"The model {job.model} is {base.precision} already.")
    pictures = _sample(job, source, base)
    calibration, held_back = pictures[::3], np.delete(pictures, np.s_[::3], axis=0)
    model = _with_integers(onnx.load(base.file), calibration, base.batch or 1)
    alike = cosines(*(_vectors(graph, base.batch, held_back) for graph in (base.file, model.SerializeToString())))
    mean, lowest = float(alike.mean()), float(alike.min())
    if not mean >= min_cosine:  # written so that NaN is refused
        accepted = np.floor(mean * 1000) / 1000
        raise UsageError(
            f"INT8 makes other vectors of these pictures: their mean cosine with float32 is {accepted:.3f}, below "
            f"{min_cosine:g}. Use --precision fp32, or accept it with --min-cosine {accepted:g}."
        )
    made = Quantized(b"", base.name, len(calibration), len(held_back), mean, lowest)
    told = asdict(replace(base, file="", precision="int8", base=base.sha256))
    facts = {name: value for name, value in asdict(made).items() if name != "content"}
    helper.set_model_props(model, {PREPARED: json.dumps(told), QUANTIZED: json.dumps(facts)})
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
    """uint8[n, size, size, 3]: pictures as the model is shown them, drawn the same way every time."""
    listed = list(islice(source.list(job.suffixes), _LISTED))
    random.Random(0).shuffle(listed)
    view = View(model.size, model.crop, job.fast, "fail", job.max_pixels)
    found: list[Pixels] = []
    why = "none was listed"
    with closing(read_ahead(listed, source, job.max_bytes)) as reads:
        for item, data in reads:
            picture = np.empty((model.size, model.size, 3), np.uint8)
            try:
                if isinstance(data, Exception):
                    raise data
                decode(data, picture, view)
            except (OSError, DecodeError) as error:
                why = f"{item.key}: {error}"
                continue
            found.append(picture)
            if len(found) == SAMPLE:
                break
    if len(found) < FEWEST:
        told = f" ({why})" if len(found) < len(listed) or not listed else ""
        raise UsageError(
            f"INT8 is calibrated on at least {FEWEST} pictures, and of the {len(listed)} here {len(found)} could be "
            f"read{told}. Use --precision fp32, or calibrate on others: fanfold images quantize SOURCE model.onnx"
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
        raise UsageError("INT8 is for models made of convolutions; this one has none beyond the first.")
    fed = [{"pictures": np.repeat(picture[None], batch, axis=0)} for picture in pictures]
    found = {node.input[1]: scales(numpy_helper.to_array(weights[node.input[1]])) for node in chosen}
    _correct(model, chosen, found, _means(model, [node.input[0] for node in chosen], fed))
    names = {node.name for node in chosen}
    return _quantized(model, found, [node.name for node in convolutions if node.name not in names], fed)


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with constants folded and batch norms in the convolutions, every node named, of a fit opset."""
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
    """float32[channels]: what tensors of the graph are on average over the pictures, channel by channel."""
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
        except Exception as error:  # of an operator it does not know, say
            raise FanfoldError(f"ONNX Runtime's quantiser fails on this model: {error}") from error
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
