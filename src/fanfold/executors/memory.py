"""The memory of a Ray node, and who has too much of it when it is nearly used up.

    used  0 ───────────────────────────────── 0.9 T ── T ──── all        T: Ray's threshold, 0.95 of all
                                                │      └ Ray ends its processes, all that are at a task
                                                └ a hand that has more than its share is ended

Ray cannot tell who it was: it looks at its own processes, and the memory is in those that they hold by the hand. So
everybody on the node would have to begin again, and again. A hand that is ended in time has crashed like any other:
its task is halved until the culprit is alone.
"""

import os
import re
from pathlib import Path

from fanfold.executors.local import cores

NEARLY = 0.9
"""Of Ray's threshold."""
EVERY = 0.1
"""Seconds between two looks."""


def threshold() -> float:
    """The share of the memory from which Ray ends processes: a variable of the node's, as Ray reads it."""
    return float(os.environ.get("RAY_memory_usage_threshold", 0.95))  # noqa: SIM112 - its name


def in_use(groups: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Bytes in use and bytes there are, as Ray counts: of the container if it has a limit, else of the machine.

    Raises OSError, KeyError or ValueError where the system does not tell.
    """
    try:
        limit = int((groups / "memory.max").read_text())
    except (OSError, ValueError):  # ValueError: `max`
        said = {name: int(kib) << 10 for name, kib in re.findall(r"(\w+): +(\d+) kB", meminfo.read_text())}
        return said["MemTotal"] - said["MemAvailable"], said["MemTotal"]
    said = {name: int(size) for name, size in map(str.split, (groups / "memory.stat").read_text().splitlines())}
    current = int((groups / "memory.current").read_text())
    return current - said["inactive_file"] - said["active_file"], limit  # the cache of files can be given up


def resident(pid: int) -> int:
    """Bytes that a process has in memory. Raises OSError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def too_much(has: int, used: int, limit: int, share: float) -> str:
    """Why a process that `has` so many bytes shall end, if it shall; `share` is its part of the node."""
    line = threshold() * limit
    if used < NEARLY * line or has < share * line:
        return ""
    return f"it had {has / 1e9:.1f} GB when {used / 1e9:.1f} of its node's {limit / 1e9:.1f} GB were in use"


def complaint(pid: int, cpus: int) -> str:
    """Why a process with so many of this node's cores shall end now, if it shall."""
    try:
        return too_much(resident(pid), *in_use(), cpus / cores())
    except (OSError, KeyError, ValueError):  # not Linux, or the process is gone
        return ""
