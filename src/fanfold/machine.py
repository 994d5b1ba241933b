"""The hardware of this machine: processor, memory, disks, GPUs.

    /proc/cpuinfo ──┐
    cgroup limits ──┼──▶ Machine ──▶ `fanfold doctor`
    nvidia-smi ─────┘

A fact that cannot be found out (another system than Linux, no rights) is None or empty, never an error.
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

FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_tile": "AMX-TILE",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "SVE",
}
"""The instruction sets that matter to a model: the name in /proc/cpuinfo, and the common name."""

# arch/x86/include/uapi/asm/prctl.h; https://docs.kernel.org/arch/x86/xstate.html
_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18

_ARM_MAKERS = {"0x41": "Arm", "0x61": "Apple", "0xc0": "Ampere", "0x51": "Qualcomm", "0x48": "HiSilicon"}


@dataclass(frozen=True)
class Processor:
    """The processor, from /proc/cpuinfo."""

    model: str
    features: tuple[str, ...]
    """Its instruction sets among FEATURES, by their common names."""


@dataclass(frozen=True)
class Gpu:
    """A graphics processor, from nvidia-smi."""

    name: str
    memory: int
    """Bytes."""
    driver: str


@dataclass(frozen=True)
class Machine:
    """A machine, and the part of it that this process may use."""

    system: str
    processor: Processor
    amx: bool | None
    """Whether the kernel lets programs use the processor's AMX; None where the processor has none."""
    cores: int
    """Cores that this process may use, by its affinity and its control group's quota."""
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


def cores() -> int:
    """The number of cores that this process may use: its affinity, limited by its control group's quota (Linux)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


def load_average() -> float | None:
    """How many processes want a core, in the mean of the last minute; None where the system does not say (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor_of(cpuinfo: str) -> Processor:
    """The processor that the text of /proc/cpuinfo describes. x86 calls its instruction sets flags, Arm features."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    values = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}  # of the first core
    there = set(f"{values.get('flags', '')} {values.get('features', '')}".split())
    model = values.get("model name") or _arm_model(values) or platform.processor() or "unknown"
    return Processor(model, tuple(name for flag, name in FEATURES.items() if flag in there))


def _arm_model(values: dict[str, str]) -> str:
    """Arm kernels give only two numbers: the maker's, as https://developer.arm.com lists them, and the part's."""
    if "cpu implementer" not in values:
        return ""
    maker = _ARM_MAKERS.get(values["cpu implementer"], f"Arm, maker {values['cpu implementer']}")
    return f"{maker}, part {values.get('cpu part', '?')}"


def amx_granted() -> bool:
    """Whether Linux lets this process use AMX: since 5.16 a program has to ask for the tiles' registers first.

    ONNX Runtime asks by itself. The permission does not affect processes that do not use AMX.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    asked = ctypes.CDLL(None, use_errno=True).syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return bool(asked == 0)


def memory_limit(groups: Path, membership: str) -> int | None:
    """Bytes: the lowest limit of this process's control group and those above it; None without a limit.

    `groups` is where the groups are mounted, `membership` the text of /proc/self/cgroup. In a container its own
    group is mounted at the top, so a missing path is not an error.
    """
    limits = [int(text) for file in _limit_files(groups, membership) if (text := _text(file).strip()).isdecimal()]
    least = min(limits, default=None)
    return None if least is None or least >= 1 << 60 else least  # in version 1 an enormous number means none


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
