"""The process that drives a run, as `run.json` names it: whether it is of this machine, and whether it still lives.

Not by psutil: its start times are seconds since 1970, and change when the clock is set.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fanfold.errors import StorageError

ALIVE_EVERY = 20.0
"""Seconds between two signs of life of a driver."""


def this_process() -> dict[str, Any]:
    """What identifies this process among those of all machines."""
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_here(driver: Mapping[str, Any]) -> bool:
    """Whether a driver is, or was, a process of this machine, where process ids mean something."""
    return bool(driver.get("machine")) and driver["machine"] == _machine()


def lives(driver: Mapping[str, Any]) -> bool:
    """Whether a driver of this machine has not ended: its process id may be that of another process by now."""
    return bool(driver.get("began") == _began(driver.get("pid", 0)))


@contextmanager
def kept_alive(sign_of_life: Callable[[], None]) -> Iterator[None]:
    """Give signs of life while the block runs."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(ALIVE_EVERY):
            with suppress(StorageError):
                sign_of_life()

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _machine() -> str:
    """This machine since it was started, and this container of it. Linux only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in clock ticks since the machine was started; empty if none of this id lives."""
    try:
        # Fields 3 and 22 of /proc/PID/stat, see proc(5); counted from behind the name, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended, though nobody has waited for it
    except OSError:
        return ""
