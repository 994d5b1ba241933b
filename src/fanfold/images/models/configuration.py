"""preprocessor_config.json: what the file beside a model says about the pictures that it takes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanfold.errors import UsageError
from fanfold.images.models.registry import Preprocessing, Rgb

if TYPE_CHECKING:
    from fanfold.images.decode.view import Fit

_BILINEAR = 2  # in Pillow's numbers
_WARPED = 384  # pixels: ConvNextImageProcessor squeezes from here on


def text(config: Path | None) -> str:
    """What the file says; empty without one. Raises UsageError if it cannot be read."""
    try:
        return config.read_text(encoding="utf-8", errors="replace") if config else ""
    except OSError as error:
        raise UsageError(f"Cannot read {config}: {error.strerror}.") from error


def preprocessing(config: Path | None, size: int | None) -> tuple[Preprocessing, str]:
    """The preprocessing of a model that is not in MODELS, and where it comes from, in words."""
    if config is None:
        return Preprocessing(size=size or 224), " (assumed: ImageNet's mean and deviation)"
    try:
        return _read(json.loads(text(config)), size), f" (from its {config.name})"
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"{config} is not a preprocessor configuration: {error}.") from error


def _read(config: Mapping[str, Any], size: int | None) -> Preprocessing:
    """A configuration of Hugging Face's image processors.

    https://huggingface.co/docs/transformers/main_classes/image_processor
    """
    if not isinstance(config, Mapping):
        raise TypeError("it must be an object")
    cropped = config.get("do_center_crop", True)
    resized = _side(config.get("size"))
    side = size or (_side(config.get("crop_size")) if cropped else None) or resized or 224
    fit: Fit = "squash" if _is_squeezed(config) else "crop"
    crop = config.get("crop_pct") if fit == "crop" else None
    if crop is None:
        crop = side / resized if resized and cropped else 1.0
    if side < 1 or not crop > 0:
        raise ValueError("a model must see some pixels")
    smooth = config.get("resample", config.get("interpolation")) in (_BILINEAR, "bilinear")
    return Preprocessing(side, min(1.0, float(crop)), *_arithmetic(config), fit, "bilinear" if smooth else "bicubic")


def _is_squeezed(config: Mapping[str, Any]) -> bool:
    """Whether both sides are resized to one length, whatever the picture's shape.

    {"height": 224, "width": 224} says so. In old files a bare number does, unless the processor crops afterwards.
    ConvNeXT's processor crops small squares and squeezes large ones.
    """
    size = config.get("size")
    if isinstance(size, Mapping):
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        warped = kind.startswith("ConvNext") and (_side(size) or 0) >= _WARPED
        return warped or not size.get("shortest_edge")
    return bool(size) and not {"crop_size", "crop_pct"} & set(config)


def _arithmetic(config: Mapping[str, Any]) -> tuple[Rgb, Rgb]:
    """Mean and deviation in 0..255: the processors multiply by rescale_factor, then normalise."""
    unit = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if not config.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / unit,) * 3
    mean, deviation = (
        tuple(float(value) / unit for value in config.get(name, default))
        for name, default in (("image_mean", (0.485, 0.456, 0.406)), ("image_std", (0.229, 0.224, 0.225)))
    )
    if len(mean) != 3 or len(deviation) != 3 or not all(map(math.isfinite, mean + deviation)) or min(deviation) <= 0:
        raise ValueError("image_mean and image_std must have three values each, finite, and image_std above 0")
    return mean, deviation


def _side(value: Any) -> int | None:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or value.get("height")
    return int(value) if value else None
