"""`fanfold doctor`: its findings and its advice."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import nursery
from fanfold.images import doctor
from fanfold.images.doctor import Runtime, advice
from fanfold.machine import Gpu, Machine, Processor, look

PLAIN = Machine("Linux 6.1 x86_64", Processor("a processor", ("AVX2",)), None, 4, 4, 8 << 30, None, "/tmp", 1 << 33, ())
RUNTIME = Runtime("1.32.0", ("cpu",), (), "", {}, "none", {}, "/cache", 1 << 33)
BOTH = replace(RUNTIME, openvino="2026.4.1", speeds={"fp32": 100.0, "bf16": 230.0})


def said(machine: Machine, runtime: Runtime = RUNTIME) -> str:
    """All advice except about HEIC, which depends on the installed packages."""
    return " ".join(sentence for sentence in advice(machine, runtime) if "HEIC" not in sentence)


def test_nothing_to_say() -> None:
    """An ordinary machine needs no advice."""
    assert said(PLAIN) == ""


@pytest.mark.parametrize(
    ("machine", "runtime", "words"),
    [
        (replace(PLAIN, gpus=(Gpu("L4", 1 << 34, "550"),)), RUNTIME, "pip install onnxruntime-gpu"),
        (replace(PLAIN, gpus=(Gpu("L4", 1 << 34, "550"),)), replace(RUNTIME, providers=("cpu", "cuda")), "--provider"),
        (replace(PLAIN, gpus=(Gpu("L4", 1 << 34, "550"),)), replace(RUNTIME, idle=("cuda",)), "cannot start it"),
        (replace(PLAIN, processor=Processor("x", ("AVX2", "AVX512-VNNI"))), RUNTIME, "--precision int8"),
        (replace(PLAIN, processor=Processor("x", ("AMX-TILE", "AMX-INT8")), amx=False), RUNTIME, "Linux 5.16"),
        (replace(PLAIN, processor=Processor("x", ("AVX512-BF16",))), RUNTIME, "pip install 'fanfold[openvino]'"),
        (
            replace(PLAIN, processor=Processor("x", ("AVX512-BF16",))),
            BOTH,
            "bf16 the default model is 2.3 times as fast",
        ),
        (replace(PLAIN, memory_limit=1 << 30), RUNTIME, "--workers 2"),
        (PLAIN, replace(RUNTIME, cache_free=1 << 20), "FANFOLD_CACHE"),
    ],
    ids=[
        "GPU unused",
        "GPU",
        "GPU without CUDA",
        "VNNI",
        "AMX not granted",
        "BF16 unused",
        "BF16 measured",
        "little memory",
        "full cache",
    ],
)
def test_advice(machine: Machine, runtime: Runtime, words: str) -> None:
    """Each problem comes with what to do about it."""
    assert words in said(machine, runtime)


def test_amx_counts_only_where_it_is_granted() -> None:
    """AMX that the kernel has not granted is not a reason for INT8."""
    amx = Processor("x", ("AMX-TILE", "AMX-INT8"))
    assert "--precision int8" not in said(replace(PLAIN, processor=amx, amx=False))
    assert "--precision int8" in said(replace(PLAIN, processor=amx, amx=True))


def test_bfloat16_that_does_not_pay() -> None:
    """A gain that is hardly there is not mentioned, nor is AMX that the kernel has not granted."""
    assert said(PLAIN, replace(BOTH, speeds={"fp32": 100.0, "bf16": 110.0})) == ""
    amx = Processor("x", ("AMX-TILE", "AMX-BF16"))
    assert "bfloat16" not in said(replace(PLAIN, processor=amx, amx=False))


def test_here() -> None:
    """The real machine has the CPU provider and the decoders."""
    found = doctor.look(look())
    assert "cpu" in found.providers
    assert not set(found.providers) & set(found.idle)
    assert {"pillow", "simplejpeg"} <= found.decoders.keys()
    assert found.cache_free
    assert found.openvino
    assert found.speeds["fp32"] > 0


def fanfold(*words: str, prelude: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line after a line of Python, in a separate process."""
    code = f"import sys; sys.argv = ['fanfold', *{words!r}]; {prelude}\nfrom fanfold.cli import main; main()"
    if not prelude:
        return nursery.run([sys.executable, "-c", code])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_command() -> None:
    """The command prints a table for people, or one JSON object for scripts."""
    shown = fanfold("doctor")
    assert shown.returncode == 0, shown.stderr
    assert "ONNX Runtime" in shown.stdout
    told = json.loads(fanfold("doctor", "--json").stdout)
    assert told["machine"]["cores"] >= 1
    assert told["extras"]["images"]
    assert told["images"]["onnxruntime"]


def test_without_the_extra() -> None:
    """The command works without the job's dependencies and says how to install them."""
    absent = (
        "import importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'onnxruntime' else f(name, *rest)"
    )
    told = json.loads(fanfold("doctor", "--json", prelude=absent).stdout)
    assert told["images"] is None
    assert not told["extras"]["images"]
    assert "pip install 'fanfold[images]'" in told["advice"][0]
