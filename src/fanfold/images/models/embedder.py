"""A prepared graph in ONNX Runtime: pictures in, vectors out."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from fanfold.errors import FanfoldError, UsageError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]
Embed = Callable[[Pixels], Vectors]
"""float32[n, dimension] for uint8[n, size, size, 3]."""

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
"""Names of --provider, and ONNX Runtime's names for them."""

_WHEELS = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
_NVIDIA = "It needs NVIDIA's driver (`nvidia-smi` shows it), CUDA and cuDNN. "
_NEEDED = {"cuda": _NVIDIA, "tensorrt": _NVIDIA}
_ALIKE = 0.999
"""Least cosine of a provider's vector with the CPU's: reduced precision passes, a wrong kernel does not."""


class Embedder:
    """float32[n, dimension] for uint8[n, size, size, 3], on one core of the CPU or on an accelerator."""

    def __init__(self, graph: str | bytes, batch: int | None = None, provider: str = "cpu") -> None:
        self._batch = batch
        # By default, ONNX Runtime falls back to the CPU without an error when a provider fails.
        self._session = ort.InferenceSession(graph, session_options(), providers=chain(provider), enable_fallback=False)
        self._session.disable_fallback()  # the argument is not documented, this method is
        check_running(provider, self._session)

    def __call__(self, pictures: Pixels) -> Vectors:
        return self._run(pictures) if self._batch is None else in_minibatches(self._run, self._batch, pictures)

    def _run(self, pictures: Pixels) -> Vectors:
        vectors: Vectors = self._session.run(["vectors"], {"pictures": pictures})[0]
        return vectors


def in_minibatches(run: Embed, batch: int, pictures: Pixels) -> Vectors:
    """The vectors of any number of pictures, by something that takes `batch` of them at a time."""
    if len(pictures) == batch:
        return run(pictures)
    filled = np.concatenate([pictures, np.repeat(pictures[-1:], -len(pictures) % batch, axis=0)])
    starts = range(0, len(filled), batch)
    return np.concatenate([run(filled[at : at + batch]) for at in starts])[: len(pictures)]  # without the repeated one


def open_embedder(graph: str, batch: int | None, provider: str, probe: Pixels) -> Embedder:
    """An embedder that works: the vector of `probe` by another provider is compared with the CPU's.

    Raises UsageError for a provider that this ONNX Runtime lacks, FanfoldError for one that fails or gives different
    vectors.
    """
    check_provider(provider)
    try:
        embedder = Embedder(graph, batch, provider)
        if provider != "cpu":
            ours = Embedder(graph, batch)(probe[None])[0]
            check_alike(
                embedder(probe[None])[0], ours, f"The provider '{provider}'", "the CPU", _ALIKE, "--provider cpu"
            )
    except FanfoldError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise FanfoldError(f"The provider '{provider}' cannot run the model: {error}") from error
    return embedder


def check_provider(provider: str) -> None:
    """Raises UsageError for an unknown provider, and for one that this ONNX Runtime was not built with."""
    if provider not in PROVIDERS:
        raise UsageError(f"'{provider}' is not a known provider. Use one of {', '.join(PROVIDERS)}.")
    if PROVIDERS[provider] not in (available := ort.get_available_providers()):
        names = ", ".join(name for name, full in PROVIDERS.items() if full in available)
        hint = f" Install one that has it with: pip install {_WHEELS[provider]}" if provider in _WHEELS else ""
        raise UsageError(f"This ONNX Runtime was not built with the provider '{provider}'; it has {names}.{hint}")


def check_running(provider: str, session: ort.InferenceSession) -> None:
    """Raises FanfoldError unless a session uses `provider`: ONNX Runtime is silent about one that does not start."""
    if PROVIDERS[provider] not in session.get_providers():
        raise FanfoldError(
            f"The provider '{provider}' does not start here: its libraries or its device are missing, or have versions "
            f"that do not fit this ONNX Runtime. {_NEEDED.get(provider, '')}"
            "`fanfold doctor` shows the providers that work; --provider cpu always works."
        )


def starts(provider: str) -> bool:
    """Whether `provider` runs a small graph here; a provider that is built in may still not start."""
    try:
        return bool(Embedder(_small(), provider=provider)(np.ones((1, 2, 2, 3), np.uint8)).all())
    except Exception:  # ONNX Runtime's errors have no base class of their own
        return False


def _small() -> bytes:
    """A graph from pictures to vectors of their values."""
    from onnx import parser

    content: bytes = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> small (uint8[n, 2, 2, 3] pictures) => (float[n, 12] vectors) {
            values = Cast <to = 1> (pictures)
            vectors = Flatten (values)
        }"""
    ).SerializeToString()
    return content


def check_alike(theirs: Vectors, ours: Vectors, name: str, other: str, least: float, instead: str) -> None:
    """Raises FanfoldError unless the vector by what is called `name` has the direction of that by `other`.

    `least` is the lowest cosine of the two that passes, `instead` the flag to use otherwise.
    """
    lengths = float(np.linalg.norm(theirs) * np.linalg.norm(ours))
    cosine = float(theirs @ ours) / lengths if lengths else 0.0
    if not cosine >= least:  # written so that NaN fails
        raise FanfoldError(
            f"{name} gives different vectors than {other}: their cosine is {cosine:.4f}, below {least}. Use {instead}."
        )


def chain(provider: str) -> list[str]:
    """ONNX Runtime's names of `provider` and of its fallbacks for what it cannot compute, in order."""
    behind = ["cuda", "cpu"] if provider == "tensorrt" else ["cpu"]
    return list(dict.fromkeys(PROVIDERS[name] for name in (provider, *behind)))


def threads() -> int:
    """This worker's cores, from OMP_NUM_THREADS, which its executor sets; one by default."""
    number = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(number)) if number.isdecimal() else 1


def session_options() -> ort.SessionOptions:
    """As many threads as the worker has cores; by default one.

    The memory arena stays on. It grows only to the need of a minibatch, since all have one shape. Without it, the
    memory of layers and pictures fragments the heap: 310 MB per worker instead of 170, and growing.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised as well; a library does not write to the terminal
    return options
