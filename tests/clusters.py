"""A small cluster of local processes: a detached executor, as realistic as possible on one machine.

As a script it is that cluster, or the command line with the cluster among its executors:

    python clusters.py serve DATABASE RUN SHARES TRIES ENDING     what `Subprocesses.submit` starts
    python clusters.py report DATABASE --follow                   fanfold
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path

import psutil

import nursery
from fanfold.core import detached
from fanfold.core.executor import Size
from fanfold.core.mirror import MIRRORS
from fanfold.core.run import Run
from fanfold.core.runs import RunDirectory
from fanfold.executors import EXECUTORS
from fanfold.job import Job
from fanfold.source import Source
from faults import wait_for
from helpers import workers_of

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE)}

EXECUTORS["processes"] = "clusters:Subprocesses"
MIRRORS["shelf"] = "shelves:FileShelf"
detached.POLL = 0.1  # seconds: processes here end sooner than machines elsewhere


class Subprocesses:
    """Performs runs in processes that continue without their caller."""

    def __init__(self, log: Path, shares: int = 2, tries: int = 2, ending: str = "commit") -> None:
        self.log, self.shares, self.tries = log, shares, tries
        self.ending = ending
        """The step after the shares: `commit`, or `nothing`, as if the committing job never started."""

    @classmethod
    def open(cls, where: str, size: Size) -> "Subprocesses":
        """See `open_executor`."""
        shares, tries, ending, log = where.split(",", 3)
        return cls(Path(log), size.workers or int(shares), int(tries), ending)

    @property
    def name(self) -> str:
        return f"processes:{self.shares},{self.tries},{self.ending},{self.log}"

    def table(self, job: Job) -> str:
        return job.name

    def mirror(self, _table: str) -> str:
        return ""

    def provide(self, mirror: str) -> None: ...

    def reach(self, _job: Job, source: Source, _database: str) -> Source:
        return source

    def submit(self, run: RunDirectory, _tasks: int) -> None:
        self._start(run, "serve", str(self.shares), str(self.tries), self.ending)

    def plan_later(self, run: RunDirectory) -> None:
        self._start(run, "plan", self.name)

    def state(self, run: RunDirectory) -> str | None:
        working = sum(1 for _ in members(run))
        return f"{working} processes" if working else None

    def cancel(self, run: RunDirectory) -> None:
        for process in members(run):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        wait_for(lambda: self.state(run) is None)

    def _start(self, run: RunDirectory, verb: str, *options: str) -> None:
        with self.log.open("a") as log:
            process = nursery.Popen(
                [sys.executable, __file__, verb, run.database, run.id, *options],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        threading.Thread(target=process.wait, daemon=True).start()  # otherwise it would stay as a zombie
        before = run.get("jobs.json") or {"jobs": []}
        run.put("jobs.json", {"executor": self.name, "jobs": [*before["jobs"], process.pid]})


def members(run: RunDirectory) -> Iterator[psutil.Process]:
    """The living processes of a cluster that do something for a run, without their worker processes."""
    for process in workers_of(run.id):
        with suppress(psutil.NoSuchProcess):
            if {"serve", "plan", "work", "commit"} & {*process.cmdline()}:
                yield process


def serve(database: str, run: str, shares: str, tries: str, ending: str) -> int:
    """Act as the cluster: perform all shares, two at a time, retry failed ones, and commit if all succeeded."""

    def perform(share: int) -> bool:
        command = ["work", database, run, "--share", str(share), "--of", shares]
        return any(fanfold(*command).wait() == 0 for _ in range(int(tries)))

    with ThreadPool(2) as pool:
        performed = pool.map(perform, range(int(shares)), chunksize=1)
    return fanfold("commit", database, run).wait() if all(performed) and ending == "commit" else 1


def plan(database: str, run: str, executor: str) -> int:
    """Plan a run and submit it, as `fanfold launch` does on AWS; not while a file called hold is beside the log."""
    processes = Subprocesses.open(executor.partition(":")[2], Size())
    wait_for(lambda: not processes.log.with_name("hold").exists())
    Run.resume(RunDirectory(database, run), processes).launch()
    return 0


def fanfold(*words: object, **options: int) -> "subprocess.Popen[str]":
    """Start the command line in a separate process."""
    return nursery.Popen([sys.executable, "-m", "fanfold", *map(str, words)], env=ENVIRONMENT, text=True, **options)


@contextlib.contextmanager
def cluster(log: Path, shares: int = 2, tries: int = 2, ending: str = "commit") -> Iterator[Subprocesses]:
    """A cluster that ends with the block; no process may have had an unexpected error."""
    processes = Subprocesses(log, shares, tries, ending)
    try:
        yield processes
        said = log.read_text() if log.exists() else ""
        assert "Traceback" not in said, said
        assert "panicked" not in said, said
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(log.parent) in " ".join(process.cmdline()) and process.pid != os.getpid():
                    process.kill()


def main(verb: str, *words: str) -> int:
    if verb in ("serve", "plan"):
        return {"serve": serve, "plan": plan}[verb](*words)
    from fanfold.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
