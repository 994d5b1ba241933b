"""Measures a command as a whole: seconds, CPU seconds and memory of all the processes it starts.

    wall      from starting the process to its end
    cpu       user + system seconds of every process of the tree, as the kernel accounts them when they end
    peak      most memory in use at once: PSS (each page shared by n processes counts 1/n in each), summed over the
              tree every 50 ms. Looking takes time from the command on a small machine, so only when asked

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
"""So that no peer's ONNX Runtime reports to its maker while it is measured, either."""
_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
"""Instruction sets that decide how fast models run, as Linux and as people call them."""
SAMPLE_EVERY = 0.05
"""Seconds between two looks at the memory."""
ORPHANS_END_WITHIN = 20.0
"""Seconds that processes may outlive the command that started them."""

_PR_SET_CHILD_SUBREAPER = 36  # /usr/include/linux/prctl.h


@dataclass
class Measured:
    """What a command took, and what it said."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds."""
    peak: int
    """Bytes; 0 if it was not looked at."""
    out: str
    err: str
    code: int


def run(command: Sequence[object], env: Mapping[str, str] | None = None, memory: bool = False) -> Measured:
    """Run a command to its end. Its output is kept in files, so that nobody has to read a pipe meanwhile."""
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
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, so Popen must not wait any more
        cpu = usage.ru_utime + usage.ru_stime + _reap_orphans(before)
        out.seek(0), err.seek(0)
        return Measured(wall, cpu, watch.peak, out.read(), err.read(), process.returncode)


def checked(measured: Measured) -> Measured:
    """The same, if the command succeeded; otherwise the bench ends with what it said."""
    if measured.code:
        raise SystemExit(f"exit code {measured.code}\n{measured.out[-2000:]}\n{measured.err[-4000:]}")
    return measured


def _reap_orphans(before: set[int]) -> float:
    """CPU seconds of the processes that outlived their parent; those that do not end are killed."""
    seconds, deadline = 0.0, time.monotonic() + ORPHANS_END_WITHIN
    while orphans := descendants(os.getpid(), before):
        if time.monotonic() > deadline:
            for pid in orphans:
                os.kill(pid, 9)
        seconds += sum(_reaped(pid) for pid in orphans)
        time.sleep(0.01)
    return seconds


def _reaped(pid: int) -> float:
    """CPU seconds of a child, and of those it waited for, if it has ended."""
    try:
        ended, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:  # a grandchild: it becomes a child when its parent ends
        return 0.0
    return usage.ru_utime + usage.ru_stime if ended else 0.0


# -- memory -----------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """The most memory seen in use at once."""

    peak: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def look(self, before: set[int]) -> None:
        """Look at all of this process's descendants but those in `before`, until told to stop."""
        while not self.stop.is_set():
            self.peak = max(self.peak, sum(map(pss, descendants(os.getpid(), before))))
            self.stop.wait(SAMPLE_EVERY)


@contextmanager
def watched(before: set[int] | None) -> Iterator[Watch]:
    """Watch the memory of the processes started since `before` while the block runs; None to not watch."""
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
    """Bytes of memory a process has in use, shared pages divided among those who share; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def descendants(pid: int, without: Collection[int] = ()) -> list[int]:
    """All processes below one, those it adopted included; not those in `without`, nor what these have started."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])  # a name may hold anything, so after it
        except OSError:  # it ended meanwhile
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found = [child for child in below.get(pid, ()) if child not in without]
    for parent in found:  # grows while it is walked: breadth first
        found += [child for child in below.get(parent, ()) if child not in without]
    return found


# -- the machine ------------------------------------------------------------------------------------------------------


def machine() -> str:
    """The machine in a line: processor and what it computes with, cores, memory, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info)}
    model, flags = told.get("model name", "?"), told.get("flags", "")
    sets = [name for flag, name in _SETS.items() if flag in flags.split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model} ({', '.join(sets)}), {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {system}"


def versions(python: Path, *packages: str) -> str:
    """The packages with their versions, as the environment of `python` has them."""
    code = "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """The commit the working tree is at, with a + if it has changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", "src")
    return git("rev-parse", "--short", "HEAD") + ("+" if changes else "")


def today() -> str:
    """The time now, to the minute."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def command_line() -> str:
    """The command being run, as one would type it, less the folders it was given to work in."""
    path = Path(sys.argv[0]).resolve()
    words = re.sub(r" --(folder|work)[ =]\S+", "", " ".join(["", *sys.argv[1:]]))
    return f"python {path.relative_to(ROOT)}{words}"


def idle() -> str:
    """How busy the machine was before the bench, so that a number taken on a busy one shows."""
    return f"load average {os.getloadavg()[0]:.2f} before the start"
