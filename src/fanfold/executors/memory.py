"""The memory of a Ray node, and who has too much of it when it is nearly used up.

    used  0 ───────────────────────────────── 0.9 T ── T ──── all        T: Ray's threshold, 0.95 of all
                                                │      └ Ray ends some of its processes there, or all
                                                └ a worker that has more than its share is ended

Ray cannot tell who it was: it looks at its own processes, and the memory is in those that they hold by the hand. So it
ends the ones that began last, often all of the node, and performs their tasks again, and again. A worker that is ended
in time has crashed like any other: its task is halved until the culprit is alone.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

NEARLY = 0.9
"""Of Ray's threshold."""
MOST = 0.5
"""Of what may be used: the share of a worker that has a node to itself, too."""
EVERY = 0.1
"""Seconds between two looks."""


def threshold() -> float:
    """The share of the memory from which Ray ends processes: a variable of the node's, as Ray reads it."""
    return float(os.environ.get("RAY_memory_usage_threshold", 0.95))  # noqa: SIM112 - its name


def in_use(groups: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Bytes in use and bytes there are: of the container if it has a limit, else of the machine.

    As Ray counts, less what few set: https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html.
    Raises OSError, KeyError or ValueError where the system does not tell.
    """
    machine = _sizes(meminfo, r"(\w+): +(\d+) kB")
    total = machine["MemTotal"] << 10
    for used, limit in _containers(groups):
        if limit < total:  # no limit is an enormous one in version 1
            return used, limit
    return total - (machine["MemAvailable"] << 10), total


def _containers(groups: Path) -> Iterator[tuple[int, int]]:
    """Bytes in use and the limit, as control groups of version 2 and of version 1 tell; a container sees its own."""
    for current, limit, prefix in (
        ("memory.current", "memory.max", ""),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "total_"),
    ):
        if (groups / limit).exists() and (most := (groups / limit).read_text().strip()).isdecimal():
            kept = _sizes((groups / limit).parent / "memory.stat", r"(\w+) (\d+)")
            files = kept[f"{prefix}inactive_file"] + kept[f"{prefix}active_file"]  # a cache, which is given up
            yield int((groups / current).read_text()) - files, int(most)


def _sizes(file: Path, pattern: str) -> dict[str, int]:
    return {name: int(size) for name, size in re.findall(pattern, file.read_text())}


def resident(pid: int) -> int:
    """Bytes that a process has in memory. Raises OSError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def too_much(has: int, used: int, limit: int, share: float) -> str:
    """Why a process that `has` so many bytes shall end, if it shall; `share` is its part of the node."""
    line = threshold() * limit
    if used < NEARLY * line or has < min(share, MOST) * line:
        return ""
    return f"it had {has / 1e9:.1f} GB when {used / 1e9:.1f} of its node's {limit / 1e9:.1f} GB were in use"


def complaint(pid: int, share: float) -> str:
    """Why a process that has this part of the node to itself shall end now, if it shall."""
    try:
        return too_much(resident(pid), *in_use(), share)
    except (OSError, KeyError, ValueError):  # not Linux, or the process is gone
        return ""
