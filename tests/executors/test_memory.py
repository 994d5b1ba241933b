"""A node's memory: what is in use as Ray counts it, and whose worker has too much."""

import subprocess
import sys
from pathlib import Path

import pytest

from fanfold.executors import memory
from fanfold.executors.hand import Hand
from helpers import begun, ignore, tasks_of
from jobs import Scripted

GB = 10**9


def container(folder: Path, limit: str) -> Path:
    """The files of a control group."""
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("7000\n")
    (folder / "memory.stat").write_text("anon 4000\ninactive_file 1000\nactive_file 500\n")
    return folder


def test_a_container_with_a_limit(tmp_path: Path) -> None:
    """What files are cached in does not count: the kernel gives it up."""
    assert memory.in_use(container(tmp_path, "9000")) == (5500, 9000)


def test_a_container_without_a_limit(tmp_path: Path) -> None:
    """The machine's memory counts, as where there is no container."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16 kB\nMemFree:        1 kB\nMemAvailable:   10 kB\nHugePages_Total:    0\n")
    assert memory.in_use(container(tmp_path, "max"), meminfo) == (6 << 10, 16 << 10)
    assert memory.in_use(tmp_path / "none", meminfo) == (6 << 10, 16 << 10)


@pytest.mark.parametrize(
    ("has", "used", "threshold", "ends"),
    [
        (2.0, 9.0, "", True),
        (2.0, 8.5, "", False),  # there is room
        (1.1, 9.0, "", False),  # it has no more than its share of what may be used
        (2.0, 8.5, "0.9", True),
        (2.0, 9.0, "1.0", True),
        (2.0, 8.9, "1.0", False),
    ],
)
def test_who_has_too_much(has: float, used: float, threshold: str, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is ended when memory is nearly used up and it has more than its share, as the node's threshold is."""
    if threshold:
        monkeypatch.setenv("RAY_memory_usage_threshold", threshold)
    told = memory.too_much(int(has * GB), int(used * GB), 10 * GB, share=1 / 8)
    assert told == (f"it had {has} GB when {used} of its node's 10.0 GB were in use" if ends else "")


def test_this_machine() -> None:
    """There is more in use than a process has, and less than there is; of one that is gone nothing is said."""
    used, limit = memory.in_use()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert 0 < memory.resident(process.pid) < used < limit
        assert memory.complaint(process.pid, 1) == ""
        process.communicate(b"\n")
    assert memory.complaint(process.pid, 1) == ""


def test_a_worker_that_is_ended_has_crashed(tmp_path: Path, database: str) -> None:
    """Its task has crashed for the reason given, and the next one is performed by another."""
    tasks = [["text", f"wait {tmp_path}/never"], ["text"]]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.3))
    hand = Hand(run.database, run.id)
    first, second = tasks_of(tasks)
    outcome = hand.perform(first, lambda *_: hand.abort("it was too large"))
    assert (outcome.status, outcome.error) == ("crashed", "it was too large")
    assert hand.perform(second, ignore).status == "done"
    hand.stop()
