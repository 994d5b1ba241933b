"""preprocessor_config.json: what the file beside a model says about the pictures that it takes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fanfold.errors import UsageError
from fanfold.images.models.registry import Preprocessing, Rgb


def text(config: Path | None) -> str:
    return config.read_text(encoding="utf-8") if config else ""


def preprocessing(config: Path | None, size: int | None) -> tuple[Preprocessing, str]:
    """The preprocessing of a model that is not in MODELS, and where it comes from, in words."""
    if config is None:
        return Preprocessing(size=size or 224), " (assumed: ImageNet's mean and deviation)"
    try:
        return _read(json.loads(text(config)), size), f" (from its {config.name})"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{config} is not a preprocessor configuration: {error!r}.") from error


def _read(config: Mapping[str, Any], size: int | None) -> Preprocessing:
    """A configuration of Hugging Face's image processors.

    https://huggingface.co/docs/transformers/main_classes/image_processor. A model that wants the whole picture squeezed
    into a square gets the middle square instead.
    """
    resized = _side(config.get("size"))
    side = size or _side(config.get("crop_size")) or resized or 224
    crop = config.get("crop_pct")
    if crop is None:
        crop = side / resized if resized and config.get("do_center_crop", True) else 1.0
    return Preprocessing(side, min(1.0, float(crop)), *_arithmetic(config))


def _arithmetic(config: Mapping[str, Any]) -> tuple[Rgb, Rgb]:
    """Mean and deviation in 0..255: the processors multiply by rescale_factor, then normalise."""
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
