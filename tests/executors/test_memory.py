"""A node's memory: what is in use as Ray counts it, and whose worker has too much."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fanfold.executors import memory

GB = 10**9


def machine(folder: Path) -> Path:
    """What Linux tells of a machine's memory: 10 of 16 KiB are available."""
    meminfo = folder / "meminfo"
    meminfo.write_text("MemTotal:       16 kB\nMemFree:        1 kB\nMemAvailable:   10 kB\nHugePages_Total:    0\n")
    return meminfo


def container(groups: Path, limit: str) -> Path:
    """The files of a control group."""
    (groups / "memory.max").write_text(f"{limit}\n")
    (groups / "memory.current").write_text("7000\n")
    (groups / "memory.stat").write_text("anon 4000\ninactive_file 1000\nactive_file 500\n")
    return groups


def older_container(groups: Path, limit: str) -> Path:
    """The same, of version 1."""
    (groups / "memory").mkdir()
    (groups / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (groups / "memory" / "memory.usage_in_bytes").write_text("7000\n")
    kept = "inactive_file 9\nactive_file 9\ntotal_inactive_file 1000\ntotal_active_file 500\n"
    (groups / "memory" / "memory.stat").write_text(kept)
    return groups


@pytest.mark.parametrize("kind", [container, older_container])
def test_a_container_with_a_limit(kind: Callable[[Path, str], Path], tmp_path: Path) -> None:
    """What files are cached in does not count: the kernel gives it up."""
    assert memory.in_use(kind(tmp_path, "9000"), machine(tmp_path)) == (5500, 9000)


@pytest.mark.parametrize("kind", [container, older_container])
@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "16384"])
def test_a_container_without_a_limit(kind: Callable[[Path, str], Path], limit: str, tmp_path: Path) -> None:
    """The machine's memory counts, as where there is no container."""
    assert memory.in_use(kind(tmp_path, limit), machine(tmp_path)) == (6 << 10, 16 << 10)
    assert memory.in_use(tmp_path / "none", machine(tmp_path)) == (6 << 10, 16 << 10)


@pytest.mark.parametrize(
    ("has", "used", "share", "threshold", "ends"),
    [
        (2.0, 9.0, 1 / 8, "", True),
        (2.0, 8.5, 1 / 8, "", False),  # there is room
        (1.1, 9.0, 1 / 8, "", False),  # it has no more than its share of what may be used
        (2.0, 8.5, 1 / 8, "0.9", True),
        (2.0, 9.0, 1 / 8, "1.0", True),
        (2.0, 8.9, 1 / 8, "1.0", False),
        (4.8, 9.0, 1.0, "", True),  # half of it is too much even where there is one worker
        (4.7, 9.0, 1.0, "", False),
    ],
)
def test_who_has_too_much(
    has: float, used: float, share: float, threshold: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is ended when memory is nearly used up and it has more than its share, as the node's threshold is."""
    if threshold:
        monkeypatch.setenv("RAY_memory_usage_threshold", threshold)
    told = memory.too_much(int(has * GB), int(used * GB), 10 * GB, share)
    assert told == (f"it had {has} GB when {used} of its node's 10.0 GB were in use" if ends else "")


def test_this_machine() -> None:
    """There is more in use than a process has, and less than there is; of one that is gone nothing is said."""
    used, limit = memory.in_use()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert 0 < memory.resident(process.pid) < used < limit
        assert memory.complaint(process.pid, 1) == ""
        process.communicate(b"\n")
    assert memory.complaint(process.pid, 1) == ""
