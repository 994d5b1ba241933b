"""The known models: their names, where their weights are, and how a picture becomes their input."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fanfold.images.models import efficientnet_lite

if TYPE_CHECKING:
    from fanfold.images.decode.view import Filter, Fit

Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_DEVIATION: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)
CLIP_MEAN: Rgb = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
CLIP_DEVIATION: Rgb = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a model's input: a square of pixels, then (rgb - mean) / deviation."""

    size: int = 224
    """Side of the square that the model sees, in pixels."""
    crop: float = 0.875
    """Side of the square, as a fraction of the picture's short side; with `squash`, of each of its sides."""
    mean: Rgb = IMAGENET_MEAN
    """Mean of red, green and blue, in 0..255."""
    deviation: Rgb = IMAGENET_DEVIATION
    """Standard deviation of red, green and blue, in 0..255."""
    fit: "Fit" = "crop"
    """Whether the model sees the middle square, or the whole picture squeezed into a square."""
    filter: "Filter" = "bicubic"
    """How the picture is resized; always antialiased."""

    def __str__(self) -> str:
        mean, deviation = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.deviation))
        part = "the short side to" if self.fit == "crop" else "both sides squeezed to a square of"
        return f"middle {self.crop:g} of {part} {self.size} px, (rgb - [{mean}]) / [{deviation}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model with a name."""

    name: str
    dimension: int
    licence: str
    """SPDX identifier."""
    download_bytes: int
    """Bytes of the download before the first use; 0 if it comes with the packages."""
    source: str
    """A Python package, or an address on the Hugging Face hub with its commit."""
    preprocessing: Preprocessing = Preprocessing()
    sha256: str = ""
    """SHA-256 of the file at `source`, if it is known."""
    extra: str = "images"
    """The extra of fanfold that it needs."""

    @property
    def needs_download(self) -> bool:
        """Whether it is fetched before its first use."""
        return self.download_bytes > 0

    @property
    def is_installed(self) -> bool:
        """Whether its Python package is here; a model that is fetched has none."""
        return self.needs_download or find_spec(self.source.replace("-", "_")) is not None


_CLIP = Preprocessing(crop=1.0, mean=CLIP_MEAN, deviation=CLIP_DEVIATION)
_RESNET18 = "hf://Xenova/resnet-18/onnx/model.onnx@957422cff86e0c0a2807a472a90cc0e4daf44b18"
_RESNET50 = "hf://Xenova/resnet-50/onnx/model.onnx@6c3e3831c3ad5c76f4e2326efeed6044586aad21"
_DINO = "hf://Xenova/dinov2-small/onnx/model.onnx@c2bb04a51fab207c420665f1946016107bffc701"
_DINO_HASH = "83141175ec78b4ff9a2bb58a4c7c264ba0054d1c2e122e5a8114b79a8d4179ea"
_CLIP_VISION = "hf://Qdrant/clip-ViT-B-32-vision/model.onnx@e0c24ed0fa57fa3e4f97f30de74c51d944036ace"
_CLIP_HASH = "c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63"


def _lite(lite: efficientnet_lite.Lite) -> Model:
    mean, deviation = (efficientnet_lite.MEAN,) * 3, (efficientnet_lite.DEVIATION,) * 3
    shown = Preprocessing(lite.size, lite.crop, mean, deviation)
    return Model(lite.name, efficientnet_lite.DIMENSION, "Apache-2.0", 0, lite.package, shown, lite.sha256, lite.extra)


MODELS: tuple[Model, ...] = (
    _lite(efficientnet_lite.LITE0),
    _lite(efficientnet_lite.LITE2),
    Model("resnet18", 512, "Apache-2.0", 46_800_000, _RESNET18),
    Model("resnet50", 2048, "Apache-2.0", 102_000_000, _RESNET50),
    Model("dinov2-small", 384, "Apache-2.0", 88_500_000, _DINO, sha256=_DINO_HASH),
    Model("clip-vit-b32", 512, "MIT", 351_686_194, _CLIP_VISION, _CLIP, _CLIP_HASH),
)
"""The names that `--model` accepts; the first is the default."""
