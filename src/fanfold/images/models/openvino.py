"""A prepared graph in OpenVINO, on a CPU: pictures in, vectors out. For the extra `openvino`."""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from fanfold.errors import FanfoldError, MissingExtra
from fanfold.images.models.embedder import Pixels, Vectors, in_minibatches, threads
from fanfold.storage import first_line

_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
"""What the arithmetic in floating point is done in. By itself, OpenVINO takes bfloat16 where the processor has it."""
_REPORTING = "openvino_telemetry"


def is_installed() -> bool:
    """Whether the extra is there, without importing it."""
    return find_spec("openvino") is not None


def library() -> Any:
    """The package `openvino`. Raises MissingExtra.

    When it is imported, it reports that to its maker and keeps an identifier in the home folder, unless the module
    that does so cannot be imported.
    """
    if not is_installed():
        raise MissingExtra("openvino", "OpenVINO")
    modules: dict[str, Any] = sys.modules
    before = modules.get(_REPORTING)
    modules[_REPORTING] = None  # for Python, a module that is not there
    try:
        return import_module("openvino")
    finally:
        del modules[_REPORTING]
        if before:
            modules[_REPORTING] = before


@cache
def core() -> Any:
    """The one core of this process. Raises MissingExtra.

    Each has a stack for signals, and puts back that of the one before it when it is freed. If that one was freed first,
    its stack is gone, and the next signal (Ctrl-C, for one) would be a segmentation fault.
    """
    return library().Core()


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVino:
    """float32[n, dimension] for uint8[n, size, size, 3], `batch` pictures at a time.

    Raises MissingExtra without OpenVINO, FanfoldError for a graph that it cannot run, and for bfloat16 on a processor
    that would compute it by way of float32.
    """

    def __init__(self, graph: str, size: int, batch: int, precision: str) -> None:
        if precision == "bf16" and not has_bf16():
            raise FanfoldError(
                "--precision bf16 needs a processor with AVX512-BF16 or AMX-BF16, which this one does not have. Use "
                "--precision fp32 or int8."
            )
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all workers would be pinned to the first core
        }
        try:
            model = core().read_model(graph)
            model.reshape({"pictures": [batch, size, size, 3]})  # it is faster when it knows the shape
            self._request = core().compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise FanfoldError(
                f"OpenVINO cannot run the model: {first_line(error)} Use --engine onnxruntime."
            ) from error
        self._batch = batch

    def __call__(self, pictures: Pixels) -> Vectors:
        return in_minibatches(self._run, self._batch, pictures)

    def _run(self, pictures: Pixels) -> Vectors:
        self._request.infer([pictures], share_inputs=True)
        return np.array(self._request.get_output_tensor().data)  # a copy: the next call writes over it
