"""`fanfold doctor`: what this machine offers, what will be used, and what could be done about it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import distribution
from importlib.util import find_spec
from typing import Any

import lance
import obstore
import pyarrow as pa
from rich.table import Table

import fanfold
from fanfold import machine
from fanfold.cli import Json, draw
from fanfold.errors import MissingExtra
from fanfold.machine import Gpu, Machine

Facts = list[tuple[str, str]]

_EXTRAS = {
    "images": "onnxruntime",
    "heic": "pillow_heif",
    "tiff": "imagecodecs",
    "aws": "boto3",
    "ray": "ray",
    "cdk": "aws_cdk",
}
"""Every extra, and a module that tells whether it is installed."""


def doctor(*, json: Json = False) -> int:
    """Say what this machine offers, what fanfold will use of it, and what would make it faster."""
    here = machine.look()
    try:
        images, advice = _images(here)
    except MissingExtra as missing:
        images, advice = None, [str(missing)]
    if json:
        told = {"machine": asdict(here), "software": software(), "extras": extras(), "images": images}
        draw.put_json(told | {"advice": advice})
    else:
        _draw([*_machine(here), *software().items(), _told_extras(), *(_runtime(images) if images else ())], advice)
    return 0


def _images(here: Machine) -> tuple[dict[str, Any], list[str]]:
    """What the job `images` finds, and its advice. Raises MissingExtra."""
    import fanfold.images  # noqa: F401 - it checks that all is there
    from fanfold.images import doctor as images

    runtime = images.look(here)
    return asdict(runtime), list(images.advice(here, runtime))


def software() -> dict[str, str]:
    """What fanfold stands on, with versions."""
    python = ".".join(map(str, sys.version_info[:3]))
    versions = {"Lance": lance.__version__, "PyArrow": pa.__version__, "obstore": obstore.__version__}
    return {"fanfold": fanfold.__version__, "Python": python} | versions


def extras() -> dict[str, bool]:
    """The extras this fanfold knows, and whether each is installed."""
    known = distribution("fanfold").metadata.get_all("Provides-Extra") or []
    return {name: bool(find_spec(_EXTRAS.get(name, name))) for name in known}


def _told_extras() -> tuple[str, str]:
    there = [name for name, installed in extras().items() if installed]
    return "extras", ", ".join(there) or "none"


def _machine(here: Machine) -> Facts:
    limit = f", of which {_gigabytes(here.memory_limit)} for this process" if here.memory_limit else ""
    return [
        ("system", here.system),
        ("processor", here.processor.model),
        ("instructions", _instructions(here)),
        ("cores", f"{here.cores} of {here.all_cores}: as many workers by default"),
        ("memory", f"{_gigabytes(here.memory)}{limit}"),
        ("temporary files", f"{here.temporary}, {_gigabytes(here.temporary_free)} free"),
        ("GPUs", "; ".join(map(_gpu, here.gpus)) or "none found"),
    ]


def _instructions(here: Machine) -> str:
    told = ", ".join(here.processor.features) or "none of those that matter here"
    if here.amx is None:
        return told
    return f"{told} (AMX {'granted' if here.amx else 'not granted'} by the kernel)"


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name}, {_gigabytes(gpu.memory)}, driver {gpu.driver}"


def _runtime(images: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    idle = f"; built with {', '.join(images['idle'])}, which does not start here" if images["idle"] else ""
    yield "ONNX Runtime", f"{images['onnxruntime']}, with {', '.join(images['providers'])}{idle}"
    yield "for INT8", images["int8"]
    yield "decoders", ", ".join(f"{name} {version}" for name, version in images["decoders"].items())
    yield "cache", f"{images['cache']}, {_gigabytes(images['cache_free'])} free"


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def _draw(facts: Facts, advice: list[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    draw.out.print(table)
    for sentence in advice:
        draw.out.print(f"\n{sentence}", soft_wrap=True)
