"""For `fanfold doctor`: what runs the model on this machine, what decodes pictures, and advice."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from fanfold.images.cache import cache_dir
from fanfold.machine import Machine, free_space

_PER_WORKER = 400 << 20
"""Bytes a worker may take with pictures of 12 megapixels (benches/RESULTS.md: about 220 MB of its own)."""
_ROOM = 1 << 30
"""Bytes free in the cache below which a large model may not fit."""
_INT8 = ("AVX-VNNI", "AVX512-VNNI", "AMX-INT8", "dotprod", "i8mm")
"""Any of these multiplies eight-bit integers faster than AVX2 does."""


@dataclass(frozen=True)
class Runtime:
    """What is installed, and where the job keeps models."""

    onnxruntime: str
    """Its version."""
    providers: tuple[str, ...]
    """What runs a graph here, by the names of --provider: tried, not only built in."""
    idle: tuple[str, ...]
    """What ONNX Runtime was built with, but does not start here."""
    int8: str
    """The instruction sets by which INT8 gains, in words."""
    decoders: dict[str, str]
    """Libraries that decode pictures, with their versions; those that are not there are left out."""
    cache: str
    cache_free: int | None
    """Bytes."""


def look(machine: Machine) -> Runtime:
    """What the job would use here, now."""
    import onnxruntime

    from fanfold.images.embed import PROVIDERS, starts

    built_in = [name for name, full in PROVIDERS.items() if full in onnxruntime.get_available_providers()]
    running = tuple(filter(starts, built_in))
    folder = cache_dir()
    return Runtime(
        onnxruntime=onnxruntime.__version__,
        providers=running,
        idle=tuple(name for name in built_in if name not in running),
        int8=", ".join(_int8(machine)) or "none beyond the usual",
        decoders=_decoders(),
        cache=str(folder),
        cache_free=free_space(folder),
    )


def _int8(machine: Machine) -> list[str]:
    usable = [name for name in machine.processor.features if name in _INT8]
    return [name for name in usable if machine.amx or not name.startswith("AMX")]


def _decoders() -> dict[str, str]:
    from PIL import features

    packages = {name: _version(name) for name in ("pillow", "simplejpeg", "pillow-heif")}
    libraries = {f"Pillow's {name}": features.version(name) for name in ("libjpeg_turbo", "webp", "avif", "jpg_2000")}
    return {name: found for name, found in (packages | libraries).items() if found}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def advice(machine: Machine, runtime: Runtime) -> Iterator[str]:
    """What the user could do about it, one sentence each."""
    yield from _about_gpus(machine, runtime)
    yield from _about_int8(machine)
    if machine.memory_limit and machine.memory_limit < machine.cores * _PER_WORKER:
        fitting = max(1, machine.memory_limit // _PER_WORKER)
        yield (
            f"{machine.cores} workers may need more memory than the {machine.memory_limit / 1e9:.1f} GB "
            f"this process may use: start fewer with --workers {fitting}."
        )
    if runtime.cache_free is not None and runtime.cache_free < _ROOM:
        yield f"The cache has {runtime.cache_free / 1e9:.1f} GB left: set FANFOLD_CACHE to a folder with more room."
    if not find_spec("pillow_heif"):
        yield "HEIC pictures will fail. To read them: pip install 'fanfold[heic]'"


def _about_gpus(machine: Machine, runtime: Runtime) -> Iterator[str]:
    if machine.gpus and "cuda" in runtime.idle:
        yield (
            "There is a GPU, and this ONNX Runtime was built for CUDA, but cannot start it: the libraries of CUDA or "
            "cuDNN are not found, or of versions it does not take (https://onnxruntime.ai/docs/install/)."
        )
    elif machine.gpus and "cuda" not in runtime.providers:
        yield (
            "There is a GPU, but this ONNX Runtime cannot use it. Install one that can: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    elif machine.gpus:
        yield "There is a GPU: `--provider cuda` runs the model on it."


def _about_int8(machine: Machine) -> Iterator[str]:
    if "AMX-TILE" in machine.processor.features and not machine.amx:
        yield "The processor has AMX, but the kernel does not grant it: Linux 5.16 or later does."
    if found := _int8(machine):
        yield f"INT8 has instructions of its own here ({', '.join(found)}): `--precision int8` is worth a try."
