"""What a machine offers, from the reports of several kinds of machines."""

import os
from pathlib import Path

import pytest

from fanfold import machine
from fanfold.machine import Gpu, Processor, gpus_of, look, memory_limit, processor_of

SAPPHIRE_RAPIDS = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8488C
flags		: fpu sse4_2 avx avx2 avx512f avx512bw avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8

processor	: 1
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8488C
flags		: fpu
"""
MILAN = """\
processor	: 0
model name	: AMD EPYC 7R13 Processor
flags		: fpu fma sse4_2 avx avx2 sha_ni vaes
"""
GRAVITON3 = """\
processor	: 0
BogoMIPS	: 2100.00
Features	: fp asimd evtstrm aes asimdhp asimddp sve i8mm bf16
CPU implementer	: 0x41
CPU architecture: 8
CPU part	: 0xd40
"""


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        (
            SAPPHIRE_RAPIDS,
            "Intel(R) Xeon(R) Platinum 8488C",
            ("AVX2", "AVX-512", "AVX-VNNI", "AVX512-VNNI", "AVX512-BF16", "AMX-TILE", "AMX-INT8", "AMX-BF16"),
        ),
        (MILAN, "AMD EPYC 7R13 Processor", ("AVX2",)),
        (GRAVITON3, "Arm, part 0xd40", ("NEON", "dotprod", "i8mm", "SVE")),
    ],
    ids=["Intel with AMX", "AMD", "Arm"],
)
def test_processors(text: str, model: str, features: tuple[str, ...]) -> None:
    """A processor's name and instruction sets are read as Intel's, AMD's and Arm's kernels write them."""
    assert processor_of(text) == Processor(model, features)


def test_no_cpuinfo() -> None:
    """Without /proc/cpuinfo, as on macOS, no features are claimed."""
    assert processor_of("").features == ()


def test_an_arm_of_unknown_make() -> None:
    """An unknown maker is named by its number."""
    assert processor_of("CPU implementer\t: 0x99\nCPU part\t: 0x1").model == "Arm, maker 0x99, part 0x1"


def limits(folder: Path, **groups: str) -> Path:
    """A tree of control groups of version 2, each with its limit."""
    for name, text in groups.items():
        group = folder / name.replace("_", "/") if name != "root" else folder
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(text)
    return folder


def test_the_least_limit_counts(tmp_path: Path) -> None:
    """A limit of any group above the process's own applies to the process."""
    groups = limits(tmp_path, a="3000\n", a_b="max\n", a_b_c="8000\n")
    assert memory_limit(groups, "0::/a/b/c\n") == 3000


def test_in_a_container_its_group_is_at_the_top(tmp_path: Path) -> None:
    """The path in /proc/self/cgroup may be the host's, which the container does not see."""
    assert memory_limit(limits(tmp_path, root="4096\n"), "0::/docker/1234\n") == 4096


def test_no_limit(tmp_path: Path) -> None:
    """`max`, version 1's enormous number, and missing control groups all mean no limit."""
    assert memory_limit(limits(tmp_path / "two", root="max\n"), "0::/\n") is None
    one = tmp_path / "one" / "memory"
    one.mkdir(parents=True)
    (one / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_limit(tmp_path / "one", "4:memory:/x\n") is None
    assert memory_limit(tmp_path / "none", "") is None


def test_a_limit_of_version_1(tmp_path: Path) -> None:
    """Version 1 keeps memory apart from the rest."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("536870912\n")
    assert memory_limit(tmp_path, "4:memory:/x\n") == 512 << 20


def test_gpus() -> None:
    """Each line of nvidia-smi is a GPU, except its message without any."""
    assert (
        gpus_of("NVIDIA L4, 23034, 550.54.15\nNVIDIA L4, 23034, 550.54.15\n")
        == (Gpu("NVIDIA L4", 23034 << 20, "550.54.15"),) * 2
    )
    assert gpus_of("No devices were found\n") == ()


def test_gpus_by_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi is used if it is installed, and no GPU is found if it fails."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Tesla T4, 15360, 535.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look().gpus == (Gpu("Tesla T4", 15360 << 20, "535.1"),)
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert look().gpus == ()


def test_this_machine() -> None:
    """The test machine has cores and memory, and reports permission for AMX only if it has AMX."""
    here = look()
    assert 1 <= here.cores <= here.all_cores == os.cpu_count()
    assert here.memory is None or here.memory > 1 << 28
    assert (here.amx is None) == ("AMX-TILE" not in here.processor.features)
    assert isinstance(machine.amx_granted(), bool)
    assert here.temporary_free


def test_room_where_a_folder_would_be(tmp_path: Path) -> None:
    """The free space of a folder that does not exist yet is that of the nearest folder above it."""
    assert machine.free_space(tmp_path / "not" / "yet")
