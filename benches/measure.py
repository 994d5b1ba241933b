"""Measure a whole command: seconds, CPU seconds and memory of all the processes it starts.

    wall      from starting the process to its end
    cpu       user + system seconds of every process of the tree, as the kernel accounts them when they end
    peak      peak memory: PSS (each page shared by n processes counts 1/n in each), summed over the
              tree every 50 ms. Only on request, since it slows the command down on a small machine

Linux only: it reads /proc, and adopts orphans (PR_SET_CHILD_SUBREAPER) so that no process's CPU time is missed.
"""

import ctypes
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / ".venv" / "bin"
PEERS = ROOT / ".venv-bench" / "bin"
SILENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""Stops every peer's ONNX Runtime from reporting to its maker while it is measured."""
_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
"""Instruction sets that determine how fast models run, by Linux's names and the usual ones."""
SAMPLE_EVERY = 0.05
"""Seconds between two readings of the memory."""
ORPHANS_END_WITHIN = 20.0
"""Seconds that processes may outlive the command that started them."""

_PR_SET_CHILD_SUBREAPER = 36  # /usr/include/linux/prctl.h


@dataclass
class Measured:
    """A command's time, memory and output."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds."""
    peak: int
    """Bytes; 0 if not measured."""
    out: str
    err: str
    code: int


def run(command: Sequence[object], env: Mapping[str, str] | None = None, memory: bool = False) -> Measured:
    """Run a command to its end. Its output goes to files, so that no pipe has to be read meanwhile."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(descendants(os.getpid()))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=err, env=os.environ | SILENT | (env or {})
        )
        with watched(before if memory else None) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, so Popen must not wait again
        cpu = usage.ru_utime + usage.ru_stime + _reap_orphans(before)
        out.seek(0), err.seek(0)
        return Measured(wall, cpu, watch.peak, out.read(), err.read(), process.returncode)


def checked(measured: Measured) -> Measured:
    """Return the result if the command succeeded; otherwise end the bench with the command's output."""
    if measured.code:
        raise SystemExit(f"exit code {measured.code}\n{measured.out[-2000:]}\n{measured.err[-4000:]}")
    return measured


def _reap_orphans(before: set[int]) -> float:
    """CPU seconds of the processes that outlived their parent; processes that do not end are killed."""
    seconds, deadline = 0.0, time.monotonic() + ORPHANS_END_WITHIN
    while orphans := descendants(os.getpid(), before):
        if time.monotonic() > deadline:
            for pid in orphans:
                os.kill(pid, 9)
        seconds += sum(_reaped(pid) for pid in orphans)
        time.sleep(0.01)
    return seconds


def _reaped(pid: int) -> float:
    """CPU seconds of a child, and of those it waited for, once it has ended."""
    try:
        ended, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:  # a grandchild: it becomes a child when its parent ends
        return 0.0
    return usage.ru_utime + usage.ru_stime if ended else 0.0


# -- memory -----------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """The peak memory in use."""

    peak: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def look(self, before: set[int]) -> None:
        """Sum up the memory of this process's descendants, except those in `before`, until stopped."""
        while not self.stop.is_set():
            self.peak = max(self.peak, sum(map(pss, descendants(os.getpid(), before))))
            self.stop.wait(SAMPLE_EVERY)


@contextmanager
def watched(before: set[int] | None) -> Iterator[Watch]:
    """Watch the memory of the processes started since `before` while the block runs; None disables it."""
    watch = Watch()
    thread = threading.Thread(target=watch.look, args=(before,), daemon=True)
    if before is not None:
        thread.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        if before is not None:
            thread.join()


def pss(pid: int) -> int:
    """Bytes of memory that a process uses, with shared pages divided among their users; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def descendants(pid: int, without: Collection[int] = ()) -> list[int]:
    """All processes below one, including adopted ones, except those in `without` and their children."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])  # a name may contain anything: split after it
        except OSError:  # it has ended meanwhile
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found = [child for child in below.get(pid, ()) if child not in without]
    for parent in found:  # grows during the loop: breadth first
        found += [child for child in below.get(parent, ()) if child not in without]
    return found


# -- the machine ------------------------------------------------------------------------------------------------------


def machine() -> str:
    """The machine in a line: processor and instruction sets, cores, memory, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info)}
    model, flags = told.get("model name", "?"), told.get("flags", "")
    sets = [name for flag, name in _SETS.items() if flag in flags.split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model} ({', '.join(sets)}), {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {system}"


def versions(python: Path, *packages: str) -> str:
    """The packages' versions in the environment of `python`."""
    code = "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """The working tree's commit, with a + if there are changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", "src")
    return git("rev-parse", "--short", "HEAD") + ("+" if changes else "")


def today() -> str:
    """The current time, to the minute."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def command_line() -> str:
    """The running command as a user would type it, without the folders to work in."""
    path = Path(sys.argv[0]).resolve()
    words = re.sub(r" --(folder|work)[ =]\S+", "", " ".join(["", *sys.argv[1:]]))
    return f"python {path.relative_to(ROOT)}{words}"


def idle() -> str:
    """The machine's load before the bench, so that numbers from a busy machine can be recognised."""
    return f"load average {os.getloadavg()[0]:.2f} before the start"
