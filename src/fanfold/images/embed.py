"""A prepared graph in ONNX Runtime: pictures in, vectors out."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort

from fanfold.errors import FanfoldError, UsageError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
"""What may run a model, and what ONNX Runtime calls it."""

_WHEELS = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
_NEEDED = dict.fromkeys(
    ("cuda", "tensorrt"), "It needs NVIDIA's driver (`nvidia-smi` shows it), and CUDA and cuDNN where they are found. "
)
_ALIKE = 0.999
"""Cosine that a provider's vector must reach with the CPU's: reduced precision passes, a wrong kernel does not."""


class Embedder:
    """float32[n, dimension] for uint8[n, size, size, 3], on one core of the CPU or on an accelerator."""

    def __init__(self, graph: str | bytes, batch: int | None = None, provider: str = "cpu") -> None:
        self._batch = batch
        # ONNX Runtime's way with a provider that fails is to go on by the CPU, without an error.
        self._session = ort.InferenceSession(graph, session_options(), providers=chain(provider), enable_fallback=False)
        self._session.disable_fallback()  # and later: the argument before is not in its documentation
        check_running(provider, self._session)

    def __call__(self, pictures: Pixels) -> Vectors:
        if self._batch is None:
            return self._run(pictures)
        return np.concatenate(
            [self._run_fixed(pictures[i : i + self._batch]) for i in range(0, len(pictures), self._batch)]
        )

    def _run_fixed(self, pictures: Pixels) -> Vectors:
        """For a graph that takes a fixed number of pictures: fill up, then drop the surplus."""
        missing = int(self._batch or 0) - len(pictures)
        filled = np.concatenate([pictures, np.repeat(pictures[-1:], missing, axis=0)])
        return self._run(filled)[: len(pictures)]

    def _run(self, pictures: Pixels) -> Vectors:
        vectors: Vectors = self._session.run(["vectors"], {"pictures": pictures})[0]
        return vectors


def open_embedder(graph: str, batch: int | None, provider: str, probe: Pixels) -> Embedder:
    """An embedder that is known to work: off the CPU, its vector of `probe` is held against the CPU's.

    Raises UsageError for a provider this ONNX Runtime has not, FanfoldError for one that fails or gives other vectors.
    """
    check_provider(provider)
    try:
        embedder = Embedder(graph, batch, provider)
        if provider != "cpu":
            check_alike(embedder(probe[None])[0], Embedder(graph, batch)(probe[None])[0], provider)
    except FanfoldError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise FanfoldError(f"The provider '{provider}' cannot run the model: {error}") from error
    return embedder


def check_provider(provider: str) -> None:
    """Raises UsageError unless `provider` is a known one that this ONNX Runtime was built with."""
    if provider not in PROVIDERS:
        raise UsageError(f"There is no provider '{provider}'. Use one of {', '.join(PROVIDERS)}.")
    if PROVIDERS[provider] not in ort.get_available_providers():
        there = ", ".join(name for name, full in PROVIDERS.items() if full in ort.get_available_providers())
        hint = f" Install one that has it with: pip install {_WHEELS[provider]}" if provider in _WHEELS else ""
        raise UsageError(f"This ONNX Runtime cannot use '{provider}'; it has {there}.{hint}")


def check_running(provider: str, session: ort.InferenceSession) -> None:
    """Raises FanfoldError unless a session runs by `provider`: one that is built in may not start, unheard."""
    if PROVIDERS[provider] not in session.get_providers():
        raise FanfoldError(
            f"The provider '{provider}' does not start here, whatever this ONNX Runtime was built with: its libraries "
            f"or its device are missing, or of versions it does not take. {_NEEDED.get(provider, '')}"
            "`fanfold doctor` says what there is; --provider cpu does without."
        )


def starts(provider: str) -> bool:
    """Whether `provider` runs a small graph here. That ONNX Runtime was built with it does not tell."""
    try:
        return bool(Embedder(_small(), provider=provider)(np.ones((1, 2, 2, 3), np.uint8)).all())
    except Exception:  # ONNX Runtime's have no base class; whatever it is, it does not run
        return False


def _small() -> bytes:
    """A graph that takes pictures and gives their values as vectors."""
    from onnx import TensorProto, helper

    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 2, 2, 3])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 12])
    nodes = [
        helper.make_node("Cast", ["pictures"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["vectors"]),
    ]
    graph = helper.make_graph(nodes, "small", [pictures], [vectors])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def check_alike(theirs: Vectors, ours: Vectors, provider: str) -> None:
    """Raises FanfoldError unless a provider's vector points where the CPU's does."""
    lengths = float(np.linalg.norm(theirs) * np.linalg.norm(ours))
    cosine = float(theirs @ ours) / lengths if lengths else 0.0
    if not cosine >= _ALIKE:  # written so that NaN fails
        raise FanfoldError(f"The provider '{provider}' gives other vectors than the CPU (cosine {cosine:.4f}).")


def chain(provider: str) -> list[str]:
    """ONNX Runtime's names of `provider` and of those that take what it leaves over, in turn."""
    behind = ["cuda", "cpu"] if provider == "tensorrt" else ["cpu"]
    return list(dict.fromkeys(PROVIDERS[name] for name in (provider, *behind)))


def threads() -> int:
    """How many cores this worker has, as its executor says by OMP_NUM_THREADS; one if it says nothing."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdecimal() else 1


def session_options() -> ort.SessionOptions:
    """As many threads as the worker has cores, which is one where there is a worker a core.

    The memory arena stays on. It only ever grows, but to what a minibatch needs, as all are of one shape; without it
    the layers' megabytes fragment the heap among the pictures': 310 MB a worker instead of 170, and still growing.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised as well; a library does not write to the terminal
    return options
