"""Running a graph: on the CPU, or on a provider that must agree with it."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Provider
from fanfold.images.embed import PROVIDERS, Embedder, check_alike, check_provider, open_embedder
from fanfold.images.model import probe, ready


def absent() -> str:
    """A provider that the installed ONNX Runtime was built without."""
    there = onnxruntime.get_available_providers()
    return next(name for name, full in PROVIDERS.items() if full not in there)


def test_list_of_providers() -> None:
    """The option's choices are the providers there are."""
    assert set(get_args(Provider)) == set(PROVIDERS)


def test_opened_on_the_cpu() -> None:
    """On the CPU, what was opened gives what the graph gives."""
    found = ready("efficientnet-lite0")
    pictures = probe(224)[None]
    opened = open_embedder(found.file, found.batch, "cpu", probe(224))
    assert np.array_equal(opened(pictures), Embedder(found.file)(pictures))


def test_absent_provider() -> None:
    """A provider that is not in this ONNX Runtime is refused, with those that are."""
    found = ready("efficientnet-lite0")
    with pytest.raises(UsageError, match=f"cannot use '{absent()}'; it has cpu"):
        open_embedder(found.file, None, absent(), probe(224))


def test_unknown_provider() -> None:
    """A provider nobody has heard of is refused with those there are."""
    with pytest.raises(UsageError, match="Use one of cpu, cuda"):
        check_provider("gpu")


def test_wheel_that_would_have_it() -> None:
    """For CUDA, the message says what to install."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        check_provider("cuda")
    else:
        with pytest.raises(UsageError, match="pip install onnxruntime-gpu"):
            check_provider("cuda")


@pytest.mark.parametrize("theirs", [[0.0, 1.0], [np.nan, 1.0], [0.0, 0.0], [1.0, 0.1]])
def test_disagreement(theirs: list[float]) -> None:
    """A provider whose vector points elsewhere, or nowhere, is refused."""
    with pytest.raises(FanfoldError, match="other vectors than the CPU"):
        check_alike(np.array(theirs, np.float32), np.array([1, 0], np.float32), "cuda")


def test_agreement() -> None:
    """Reduced precision is no disagreement."""
    check_alike(np.array([1, 0.01], np.float32), np.array([1, 0], np.float32), "cuda")


def test_no_graph() -> None:
    """What is no graph fails as an error of fanfold's."""
    with pytest.raises(FanfoldError, match="cannot run the model"):
        open_embedder("/nowhere/model.onnx", None, "cpu", probe(8))
