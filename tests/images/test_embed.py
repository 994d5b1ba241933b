"""Running a graph on the CPU, or on a provider that must agree with it."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Provider
from fanfold.images.models.embedder import (
    PROVIDERS,
    Embedder,
    chain,
    check_alike,
    check_provider,
    check_running,
    open_embedder,
    starts,
)
from fanfold.images.models.model import probe, ready

CUDA = ("The provider 'cuda'", "the CPU", 0.999, "--provider cpu")


def absent() -> str:
    """A provider that the installed ONNX Runtime does not include."""
    there = onnxruntime.get_available_providers()
    return next(name for name, full in PROVIDERS.items() if full not in there)


def test_list_of_providers() -> None:
    """The option's choices are the known providers."""
    assert set(get_args(Provider)) == set(PROVIDERS)


def test_opened_on_the_cpu() -> None:
    """On the CPU, the opened embedder gives the graph's vectors."""
    found = ready("efficientnet-lite0")
    pictures = probe(224)[None]
    opened = open_embedder(found.file, found.batch, "cpu", probe(224))
    assert np.array_equal(opened(pictures), Embedder(found.file)(pictures))


def test_absent_provider() -> None:
    """A provider that this ONNX Runtime lacks is refused, with a list of those it has."""
    found = ready("efficientnet-lite0")
    with pytest.raises(UsageError, match=f"not built with the provider '{absent()}'; it has cpu"):
        open_embedder(found.file, None, absent(), probe(224))


def test_unknown_provider() -> None:
    """An unknown provider is refused with a list of the known ones."""
    with pytest.raises(UsageError, match="Use one of cpu, cuda"):
        check_provider("gpu")


def test_wheel_that_would_have_it() -> None:
    """For CUDA, the message says what to install."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        check_provider("cuda")
    else:
        with pytest.raises(UsageError, match="pip install onnxruntime-gpu"):
            check_provider("cuda")


def test_a_session_that_went_over_to_the_cpu() -> None:
    """A session that ONNX Runtime made without the requested provider is refused, not used."""
    file = ready("efficientnet-lite0").file
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(FanfoldError, match=f"'{absent()}' does not start here.*--provider cpu"),
    ):
        Embedder(file, provider=absent())


def test_what_a_session_runs_by() -> None:
    """A session on the CPU passes only as a CPU session; for CUDA, the message says what is needed."""
    session = onnxruntime.InferenceSession(ready("efficientnet-lite0").file, providers=["CPUExecutionProvider"])
    check_running("cpu", session)
    with pytest.raises(FanfoldError, match=r"cuDNN.*fanfold doctor"):
        check_running("cuda", session)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_starts() -> None:
    """The CPU runs a graph here; a provider that this ONNX Runtime lacks does not."""
    assert starts("cpu")
    assert not starts(absent())


@pytest.mark.parametrize(
    ("provider", "names"), [("cpu", "CPU"), ("cuda", "CUDA CPU"), ("tensorrt", "Tensorrt CUDA CPU")]
)
def test_what_takes_over(provider: str, names: str) -> None:
    """A provider's unsupported operators go to the next one: from TensorRT to CUDA, and last to the CPU."""
    assert chain(provider) == [f"{name}ExecutionProvider" for name in names.split()]


@pytest.mark.parametrize("theirs", [[0.0, 1.0], [np.nan, 1.0], [0.0, 0.0], [1.0, 0.1]])
def test_disagreement(theirs: list[float]) -> None:
    """A provider whose vector points elsewhere, or nowhere, is refused."""
    with pytest.raises(FanfoldError, match="different vectors than the CPU"):
        check_alike(np.array(theirs, np.float32), np.array([1, 0], np.float32), *CUDA)


def test_agreement() -> None:
    """Reduced precision is not a disagreement."""
    check_alike(np.array([1, 0.01], np.float32), np.array([1, 0], np.float32), *CUDA)


def test_no_graph() -> None:
    """A file that is not a graph fails with an error of fanfold."""
    with pytest.raises(FanfoldError, match="cannot run the model"):
        open_embedder("/nowhere/model.onnx", None, "cpu", probe(8))
