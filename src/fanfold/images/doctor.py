"""The job's part of `fanfold doctor`: what runs the model on this machine, what decodes pictures, and advice."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from fanfold.images.models.cache import cache_dir
from fanfold.machine import Machine, free_space

_PER_WORKER = 450 << 20
"""Bytes a worker may take with pictures of 12 megapixels: about 290 MB of its own, 390 with OpenVINO."""
_ROOM = 1 << 30
"""Bytes free in the cache below which a large model may not fit."""
_INT8 = ("AVX-VNNI", "AVX512-VNNI", "AMX-INT8", "dotprod", "i8mm")
"""Any of these multiplies eight-bit integers faster than AVX2 does."""
_BF16 = ("AVX512-BF16", "AMX-BF16")
WORTH = 1.15
"""How much faster another precision has to be to be worth mentioning."""


@dataclass(frozen=True)
class Runtime:
    """What is installed, and where the job keeps models."""

    onnxruntime: str
    """Its version."""
    providers: tuple[str, ...]
    """Values of --provider that work here: tested, not only built in."""
    idle: tuple[str, ...]
    """Values of --provider that are built in, but do not start here."""
    openvino: str
    """Its version; empty if it is not installed."""
    speeds: dict[str, float]
    """Pictures per CPU second of the default model, by precision, as measured here; empty without OpenVINO."""
    int8: str
    """Instruction sets that speed INT8 up, in words."""
    decoders: dict[str, str]
    """Installed libraries that decode pictures, with their versions."""
    cache: str
    cache_free: int | None
    """Bytes."""


def look(machine: Machine) -> Runtime:
    """What the job would use here, now."""
    import onnxruntime

    from fanfold.images.models.embedder import PROVIDERS, starts
    from fanfold.images.models.engines import speeds
    from fanfold.images.models.registry import MODELS

    built_in = [name for name, full in PROVIDERS.items() if full in onnxruntime.get_available_providers()]
    running = tuple(filter(starts, built_in))
    folder = cache_dir()
    return Runtime(
        onnxruntime=onnxruntime.__version__,
        providers=running,
        idle=tuple(name for name in built_in if name not in running),
        openvino=_version("openvino") or "",
        speeds=speeds(MODELS[0].name),
        int8=", ".join(_int8(machine)) or "none",
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


def facts(runtime: Runtime) -> Iterator[tuple[str, str]]:
    """The lines that `fanfold doctor` shows, each a name and a value."""
    idle = f"; not working here: {', '.join(runtime.idle)}" if runtime.idle else ""
    yield "ONNX Runtime", f"{runtime.onnxruntime}, with {', '.join(runtime.providers)}{idle}"
    if runtime.openvino:
        speeds = ", ".join(f"{precision} {speed:,.0f}" for precision, speed in runtime.speeds.items())
        yield "OpenVINO", f"{runtime.openvino}; the default model, pictures/s on a core: {speeds}"
    yield "INT8 instructions", runtime.int8
    yield "decoders", ", ".join(f"{name} {version}" for name, version in runtime.decoders.items())
    yield "cache", f"{runtime.cache}, {_gigabytes(runtime.cache_free)} free"


def advice(machine: Machine, runtime: Runtime) -> Iterator[str]:
    """What the user could improve, one sentence each."""
    yield from _about_gpus(machine, runtime)
    yield from _about_bf16(machine, runtime)
    yield from _about_int8(machine)
    if machine.memory_limit and machine.memory_limit < machine.cores * _PER_WORKER:
        fitting = max(1, machine.memory_limit // _PER_WORKER)
        yield (
            f"{machine.cores} workers may need more memory than the {_gigabytes(machine.memory_limit)} that this "
            f"process may use. Start fewer: --workers {fitting}"
        )
    if runtime.cache_free is not None and runtime.cache_free < _ROOM:
        yield f"The cache has {_gigabytes(runtime.cache_free)} left. Set FANFOLD_CACHE to a folder with more space."
    if not find_spec("pillow_heif"):
        yield "HEIC pictures will fail. To read them: pip install 'fanfold[heic]'"


def _about_gpus(machine: Machine, runtime: Runtime) -> Iterator[str]:
    if machine.gpus and "cuda" in runtime.idle:
        yield (
            "This machine has a GPU, and this ONNX Runtime was built for CUDA but cannot start it. The libraries of "
            "CUDA or cuDNN are missing or have the wrong version. See https://onnxruntime.ai/docs/install/"
        )
    elif machine.gpus and "cuda" not in runtime.providers:
        yield (
            "This machine has a GPU, but this ONNX Runtime cannot use it. Install one that can: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    elif machine.gpus:
        yield "This machine has a GPU. To run the model on it: --provider cuda"


def _about_bf16(machine: Machine, runtime: Runtime) -> Iterator[str]:
    there = [name for name in _BF16 if name in machine.processor.features]
    usable = [name for name in there if machine.amx or not name.startswith("AMX")]
    if usable and not runtime.openvino:
        yield (
            f"The processor computes in bfloat16 ({', '.join(usable)}). To use that: pip install 'fanfold[openvino]'. "
            "`fanfold doctor` then measures how much faster --precision bf16 is."
        )
    elif (gain := gain_of_bf16(runtime.speeds)) > WORTH:
        yield f"With --precision bf16 the default model is {gain:.1f} times as fast here."


def gain_of_bf16(speeds: Mapping[str, float]) -> float:
    """How many times as fast bfloat16 is as float32; 0 where it is not known."""
    return speeds.get("bf16", 0) / speeds["fp32"] if speeds.get("fp32") else 0


def _about_int8(machine: Machine) -> Iterator[str]:
    if "AMX-TILE" in machine.processor.features and not machine.amx:
        yield "The processor has AMX, but the kernel does not allow it. Use Linux 5.16 or later."
    if found := _int8(machine):
        yield f"The processor has instructions for INT8 ({', '.join(found)}). To use them: --precision int8"


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"
