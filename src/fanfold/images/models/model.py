"""How a model's name becomes a graph on this disk that is ready to run.

    name ──▶ source: the weights package, the hub, a file ──▶ graph ──prepare──▶ CACHE/models/<key>.<sha256>.onnx
                                                                                                        └ .json

`key` is the hash of what went in (the source's SHA-256, the arithmetic), `sha256` that of what came out. So a damaged
file is noticed and made again, and two processes can prepare the same model at once.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.models import configuration, efficientnet_lite, hub
from fanfold.images.models.cache import cache_dir, digest, find, keep, write_whole
from fanfold.images.models.registry import MODELS, Model, Preprocessing, named
from fanfold.source.objects import read_url
from fanfold.storage import is_url

if TYPE_CHECKING:
    import onnx

    from fanfold.images.decode.view import Filter, Fit

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_PREPARATION = "3"
"""Version of the preparation, in the keys of the cache. Raise it when the preparation changes."""

MIN_COSINE = 0.99
"""Least mean cosine of an INT8 model's vectors with those of float32, by default."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A graph from uint8[n, size, size, 3] to float32[n, dimension], and its origin."""

    file: str
    name: str
    sha256: str
    """SHA-256 of the file that it was made from: the identity of the weights in the recipe."""
    dimension: int
    size: int
    crop: float
    batch: int | None
    """Pictures at a time, if the graph takes only that number."""
    preprocessing: str
    output: str
    """The tensor of the graph that is the vector, in words."""
    revision: str
    """Commit on the hub; empty for other models."""
    precision: str = "fp32"
    """Precision of its arithmetic: fp32, bf16, fp16 or int8."""
    base: str = ""
    """SHA-256 of the weights that it was quantised from."""
    fit: "Fit" = "crop"
    filter: "Filter" = "bicubic"


@dataclass(frozen=True, slots=True)
class _Source:
    """A model before it is prepared: its identity, and a function that loads its graph."""

    name: str
    sha256: str
    graph: "Callable[[], onnx.ModelProto]"
    preprocessing: Preprocessing | None = None
    """None if the graph and the file beside it define it."""
    revision: str = ""
    config: Path | None = None
    """Its preprocessor_config.json, if there is one."""


def ready(name: str, precision: str = "fp32") -> Ready:
    """The model called `name` (one of MODELS, `hf://org/repo/path.onnx@revision`, a file's path or URL), ready to run.

    Prepared on first use, then kept. A quantised file has its precision already; `precision` may repeat it.
    Raises UsageError for an unknown model, FanfoldError for one that cannot be fetched or prepared.
    """
    found = _ready(_source(name), half=precision == "fp16")
    if precision == "bf16":  # the graph is that of float32
        if found.precision != "fp32":
            raise UsageError(f"The model '{name}' is already {found.precision}. Use it without --precision bf16.")
        return replace(found, precision="bf16")
    if precision == "int8" and found.precision != "int8":
        raise UsageError(
            f"The model '{name}' is not INT8 yet: that needs pictures to calibrate it. Embed with "
            "`fanfold images embed SOURCE DATABASE --precision int8`, or make a model for --model with "
            "`fanfold images quantize SOURCE model.onnx`."
        )
    return found


def _ready(source: "_Source", half: bool) -> Ready:
    identity = (
        _PREPARATION,
        source.sha256,
        source.preprocessing,
        configuration.text(source.config),
        *(["fp16"] if half else []),
    )
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    folder = cache_dir() / "models"
    return _kept(folder, key) or _prepare(source, folder, key, half)


def _kept(folder: Path, key: str) -> Ready | None:
    """The model that an earlier run prepared, if it is unharmed; else it is removed."""
    while (file := find(folder, key)) is not None:
        try:
            return Ready(**(json.loads(file.with_suffix(".json").read_bytes()) | {"file": str(file)}))
        except (OSError, ValueError, TypeError):
            file.unlink(missing_ok=True)
    return None


# -- sources --------------------------------------------------------------------------------------------------------


def _source(name: str) -> _Source:
    known = named(name)
    if lite := next((one for one in efficientnet_lite.FAMILY if one.name == name), None):
        return _Source(name, digest(lite.weights_file()), lite.build, known.preprocessing if known else None)
    if known is not None:
        return _from_hub(name, hub.Address.parse(known.source), known)
    if name.startswith(hub.SCHEME):
        return _from_hub(name, hub.Address.parse(name), None)
    if is_url(name):
        return _from_url(name)
    if name.lower().endswith(".onnx"):
        return _from_file(Path(name).expanduser())
    names = ", ".join(model.name for model in MODELS)
    raise UsageError(f"There is no model '{name}'. Use one of {names}, a file.onnx, or hf://org/repo/path.onnx.")


def _from_file(path: Path) -> _Source:
    try:
        sha256 = digest(path)
    except OSError as error:
        raise UsageError(f"Cannot read the model {path}: {error.strerror}.") from error
    config = path.with_name(hub.CONFIG)
    return _Source(path.name, sha256, lambda: _parse(path), config=config if config.is_file() else None)


def _from_url(url: str) -> _Source:
    """A file of an object store or web server, fetched once. Raises UsageError, FanfoldError."""
    if not url.lower().endswith(".onnx"):
        raise UsageError(f"The model {url} is not an ONNX file: its address must end in .onnx.")
    key, folder = hashlib.sha256(url.encode()).hexdigest()[:32], cache_dir() / "models" / "fetched"
    if (file := find(folder, key)) is None:
        try:
            file = keep(folder, key, read_url(url))
        except FileNotFoundError as error:
            raise UsageError(f"There is no model at {url}.") from error
        except OSError as error:
            raise FanfoldError(f"Cannot fetch the model {url}: {error}") from error
    return _Source(url.rpartition("/")[2], file.suffixes[-2][1:], partial(_parse, file))


def _from_hub(name: str, address: hub.Address, known: Model | None) -> _Source:
    fetched = hub.fetch(address, known.sha256 if known else "")
    file = Path(fetched.file)
    preprocessing = known.preprocessing if known else None
    config = Path(fetched.config) if fetched.config and not preprocessing else None
    return _Source(name, fetched.sha256, lambda: _parse(file), preprocessing, fetched.revision, config)


def _parse(path: Path) -> "onnx.ModelProto":
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's DecodeError, or OSError for weights kept in a second file
        raise UsageError(f"The model {path} is not a valid ONNX file: {error}") from error
    if not model.graph.node:  # protobuf accepts an empty file
        raise UsageError(f"The model {path} is not a valid ONNX file: it holds no graph.")
    return model


# -- preparing ------------------------------------------------------------------------------------------------------


def _prepare(source: _Source, folder: Path, key: str, half: bool) -> Ready:
    from fanfold.images.models import graph

    model = source.graph()
    facts = {one.key: one.value for one in model.metadata_props}.get(graph.PREPARED)
    content, made = _as_written(model, facts, source) if facts else _by_surgery(model, source, half)
    file = folder / f"{key}.{hashlib.sha256(content).hexdigest()}.onnx"
    write_whole(file.with_suffix(".json"), json.dumps(asdict(made), indent=1).encode())
    keep(folder, key, content)  # last: the pair counts once this file is there
    if (kept := _kept(folder, key)) is None:
        raise FanfoldError(
            f"The cache {folder} loses files that are written to it. Set FANFOLD_CACHE to another folder."
        )
    return kept


def _as_written(model: "onnx.ModelProto", facts: str, source: _Source) -> tuple[bytes, Ready]:
    """A graph that fanfold prepared and wrote to a file, with the facts in its metadata."""
    try:
        return model.SerializeToString(), replace(Ready(**json.loads(facts)), sha256=source.sha256)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"The model {source.name} was made by another version of fanfold: {error}. "
            "Make it again with `fanfold images quantize`."
        ) from error


def _by_surgery(model: "onnx.ModelProto", source: _Source, half: bool) -> tuple[bytes, Ready]:
    from fanfold.images.models import graph

    wanted = graph.input_of(model)
    shown, origin = (
        (source.preprocessing, "") if source.preprocessing else configuration.preprocessing(source.config, wanted.size)
    )
    if wanted.size is not None and wanted.size != shown.size:
        raise UsageError(f"The model takes {wanted.size} px, but its preprocessor_config.json says {shown.size} px.")
    prepared = graph.prepare(model, shown.size, shown.mean, shown.deviation)
    content = (graph.to_half(prepared.model) if half else prepared.model).SerializeToString()
    return content, Ready(
        file="",
        name=source.name,
        sha256=source.sha256,
        dimension=_dimension(content, shown.size, wanted.batch, source.name, 2e-2 if half else 1e-3),
        size=shown.size,
        crop=shown.crop,
        batch=wanted.batch,
        preprocessing=f"{shown}{origin}",
        output=prepared.output,
        revision=source.revision,
        precision="fp16" if half else "fp32",
        fit=shown.fit,
        filter=shown.filter,
    )


def _dimension(content: bytes, size: int, batch: int | None, name: str, tolerance: float) -> int:
    """The length of the graph's vectors, found by a run on a probe. Raises FanfoldError if it does not run."""
    from fanfold.images.models.embedder import Embedder

    vectors = Embedder(content, batch)(probe(size)[None])
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise FanfoldError(
            f"The model '{name}' does not give a vector for a picture: its output has the shape {vectors.shape}, or "
            "values that are not finite."
        )
    golden = next((lite.golden for lite in efficientnet_lite.FAMILY if lite.name == name), None)
    if golden and not np.allclose(vectors[0, 7::160], golden, atol=tolerance):
        raise FanfoldError(f"{name} gives a wrong vector for the test picture. `fanfold doctor` shows versions.")
    return int(vectors.shape[1])


def probe(size: int) -> Pixels:
    """A test picture of exact integers, uint8[size, size, 3], to compare two ways to run a model."""
    row, column, channel = np.indices((size, size, 3), dtype=np.int64)
    picture: Pixels = ((row * 7 + column * 3 + channel * 29 + (row * column) // 97) % 256).astype(np.uint8)
    return picture
