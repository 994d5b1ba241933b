"""What this machine offers to the work: processor, memory, disks, GPUs. It looks, and changes nothing.

    /proc/cpuinfo ──┐
    cgroup limits ──┼──▶ Machine ──▶ `fanfold doctor`, and whoever chooses by it
    nvidia-smi ─────┘

What cannot be found out (another system than Linux, no rights) is None or empty, never an error.
"""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fanfold.executors.local import cores

FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "amx_tile": "AMX-TILE",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "SVE",
}
"""The instruction sets that matter to a model: the kernel's name in /proc/cpuinfo, and the one people use."""

# arch/x86/include/uapi/asm/prctl.h; https://docs.kernel.org/arch/x86/xstate.html
_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18

_ARM_MAKERS = {"0x41": "Arm", "0x61": "Apple", "0xc0": "Ampere", "0x51": "Qualcomm", "0x48": "HiSilicon"}


@dataclass(frozen=True)
class Processor:
    """What /proc/cpuinfo tells."""

    model: str
    features: tuple[str, ...]
    """Of FEATURES, in its order, by the names people use."""


@dataclass(frozen=True)
class Gpu:
    """A graphics processor, as nvidia-smi tells."""

    name: str
    memory: int
    """Bytes."""
    driver: str


@dataclass(frozen=True)
class Machine:
    """What there is, and how much of it this process may use."""

    system: str
    processor: Processor
    amx: bool | None
    """Whether the kernel lets programs use the processor's AMX; None where the processor has none."""
    cores: int
    """What this process may use: affinity and the control group's quota."""
    all_cores: int
    memory: int | None
    """Bytes, of the whole machine."""
    memory_limit: int | None
    """Bytes, of this process's control group; None without a limit."""
    temporary: str
    temporary_free: int | None
    """Bytes."""
    gpus: tuple[Gpu, ...]


def look() -> Machine:
    """This machine, now."""
    processor = processor_of(_text(Path("/proc/cpuinfo")))
    temporary = tempfile.gettempdir()
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=processor,
        amx=amx_granted() if "AMX-TILE" in processor.features else None,
        cores=cores(),
        all_cores=os.cpu_count() or 1,
        memory=_memory(),
        memory_limit=memory_limit(Path("/sys/fs/cgroup"), _text(Path("/proc/self/cgroup"))),
        temporary=temporary,
        temporary_free=free_space(Path(temporary)),
        gpus=_gpus(),
    )


def processor_of(cpuinfo: str) -> Processor:
    """The processor that a text of /proc/cpuinfo describes; x86 calls its instruction sets flags, Arm features."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    said = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}  # the first core's counts
    there = set(f"{said.get('flags', '')} {said.get('features', '')}".split())
    model = said.get("model name") or _arm_model(said) or platform.processor() or "unknown"
    return Processor(model, tuple(name for flag, name in FEATURES.items() if flag in there))


def _arm_model(said: dict[str, str]) -> str:
    """Arm kernels give numbers only: the maker's, as https://developer.arm.com lists them, and the part's."""
    if "cpu implementer" not in said:
        return ""
    maker = _ARM_MAKERS.get(said["cpu implementer"], f"Arm, maker {said['cpu implementer']}")
    return f"{maker}, part {said.get('cpu part', '?')}"


def amx_granted() -> bool:
    """Whether Linux lets this process use AMX: since 5.16 a program has to ask for the tiles' registers first.

    ONNX Runtime asks for itself. The permission is of no consequence to a process that has no use for it.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    asked = ctypes.CDLL(None, use_errno=True).syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return bool(asked == 0)


def memory_limit(groups: Path, membership: str) -> int | None:
    """Bytes: the least limit among this process's control group and those above it; None if there is none.

    `groups` is where the groups are mounted, `membership` the text of /proc/self/cgroup. In a container its own
    group is mounted at the top, so a path that is not there is no mistake.
    """
    limits = [int(text) for file in _limit_files(groups, membership) if (text := _text(file).strip()).isdecimal()]
    least = min(limits, default=None)
    return None if least is None or least >= 1 << 60 else least  # version 1 says "none" by an enormous number


def _limit_files(groups: Path, membership: str) -> Iterator[Path]:
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), "/").strip("/")
    group = groups / path
    yield from (folder / "memory.max" for folder in (group, *group.parents) if folder.is_relative_to(groups))
    yield groups / "memory" / "memory.limit_in_bytes"  # version 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def free_space(path: Path) -> int | None:
    """Bytes free for this user where `path` is, or would be."""
    there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's, as its own tool lists them."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        return gpus_of(subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout)
    except (OSError, subprocess.SubprocessError):
        return ()


def gpus_of(listing: str) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's CSV of name, MiB, driver."""
    rows = [re.split(r"\s*,\s*", line.strip()) for line in listing.splitlines()]
    return tuple(Gpu(row[0], int(row[1]) << 20, row[2]) for row in rows if len(row) == 3 and row[1].isdecimal())


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
