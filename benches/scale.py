"""What fanfold itself costs at a hundred thousand, a million, ten million items: seconds and memory, phase by phase.

    .venv/bin/python benches/scale.py [--items 100000 300000 1000000] [--s3 ITEMS] [--work FOLDER]
    .venv/bin/python benches/scale.py --items 100000 1000000 10000000       40 minutes, 20 GB of disk

The listing is made up, and so are the rows (vectors of 8 values): all else is the real code, on disk or on a real S3
server on loopback (SeaweedFS). Tasks are of 1,000 items. Every phase is a process of its own; its memory is the most
it ever had resident (VmHWM), the libraries included.

    list      the listing alone: what is the bench's own in `plan` and `rerun`
    plan      list, classify, cut, write the manifests: a run of all items
    write     (not fanfold's driver: workers write fragments and receipts)
    commit 1  publish the receipts one by one, as when the workers take longer over a task than a commit takes
    commit n  publish the receipts as a run does that has them all at once: `_drive` of a run whose workers are done
    at once   publish all fragments in one commit
    recover   a driver that died with everything to commit: the next one finds all receipts
    rerun     a run with nothing to do
    runs, report, optimize      the commands, on the table of `commit 1`; `rerun` again, after that
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import measure
import synthetic

import fanfold
from fanfold.driver import Run
from fanfold.executors import TaskProgress
from fanfold.ledger import Ledger
from fanfold.plan import Options
from fanfold.planner import Planner
from fanfold.runs import Outcome, RunDirectory, Task, find_run
from fanfold.worker import Worker

JOB = synthetic.MadeUp()
WRITERS = 2


def ledger_of(database: str) -> Ledger:
    return Ledger.open(database, JOB.name) or Ledger.create(database, JOB.name, JOB, "", "key")


# -- the phases: each returns what it counted, besides seconds and memory -----------------------------------------------


def listing(_database: str, items: int) -> dict[str, Any]:
    assert sum(1 for _ in synthetic.Listing(items).list(frozenset())) == items
    return {}


def plan(database: str, items: int) -> dict[str, Any]:
    """Plan a run of all items, as `Run.launch` does."""
    run = Run(JOB, synthetic.Listing(items), ledger_of(database), Idle(), Options())
    tasks = run._plan_all(None)
    assert run.tally.planned == items, run.tally
    return {"tasks": tasks}


def write(database: str, share: int) -> dict[str, Any]:
    """Perform every second task, as a worker does."""
    run = find_run(database, None)
    worker, tasks = Worker(database, run.id), (run.get("plan.json") or {})["tasks"]
    for number in range(share, tasks, WRITERS):
        outcome = worker.perform(Task(number, 0))
        assert outcome.status == "done", outcome.error
    return {}


def commit_one(database: str, _items: int) -> dict[str, Any]:
    """Publish receipt by receipt; say how long a commit takes at each tenth of the way."""
    ledger, took = ledger_of(database), list[float]()
    for outcome in find_run(database, None).receipts():
        started = time.perf_counter()
        ledger.publish([outcome])
        took.append(time.perf_counter() - started)
    tenth = max(1, len(took) // 10)
    means = [sum(took[at : at + tenth]) / len(took[at : at + tenth]) for at in range(0, len(took), tenth)]
    return {"commits": len(took), "means": means, "rows": ledger.rows.dataset.count_rows()}


def commit_run(database: str, items: int) -> dict[str, Any]:
    """Go on with a planned run whose workers have done everything."""
    run, ledger = find_run(database, None), ledger_of(database)
    version = ledger.rows.dataset.version
    done = Run(JOB, synthetic.Listing(0), ledger, Idle(run), Options(), run)
    for _ in done:
        pass
    assert ledger.rows.dataset.count_rows() == items
    return {"commits": ledger.rows.dataset.version - version}


def at_once(database: str, items: int) -> dict[str, Any]:
    ledger = ledger_of(database)
    ledger.publish(list(find_run(database, None).receipts()))
    assert ledger.rows.dataset.count_rows() == items
    return {}


def recover(database: str, items: int) -> dict[str, Any]:
    ledger = ledger_of(database)
    ledger.recover()
    assert ledger.rows.dataset.count_rows() == items
    return {"commits": ledger.rows.dataset.version - 1}


def rerun(database: str, items: int) -> dict[str, Any]:
    run = Run(JOB, synthetic.Listing(items), ledger_of(database), Idle(), Options())
    for _ in run:
        pass
    assert run.report.unchanged == items, run.report
    return {}


class Idle:
    """An executor with nothing to do, but to give the outcomes that a run's receipts tell."""

    workers = 2

    def __init__(self, run: RunDirectory | None = None) -> None:
        self.run = run

    def map(
        self, _run: RunDirectory, tasks: Iterator[Task], _progress: TaskProgress
    ) -> Generator[Outcome, None, None]:
        if self.run:
            yield from self.run.receipts()
        assert not list(tasks)


PHASES: Mapping[str, Callable[[str, int], dict[str, Any]]] = {
    phase.__name__: phase for phase in (listing, plan, write, commit_one, commit_run, at_once, recover, rerun)
}


def peak() -> int:
    """Bytes: the most memory this process ever had resident."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def perform(phase: str, database: str, number: int) -> None:
    """Be the process of a phase."""
    started, cpu = time.perf_counter(), time.process_time()
    told = PHASES[phase](database, number)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": spent, "peak": peak(), **told}))


# -- all of them ------------------------------------------------------------------------------------------------------


def timed(phase: str, database: str, number: int) -> dict[str, Any]:
    """What the process of a phase tells."""
    command = [measure.OURS / "python", __file__, "--phase", phase, database, number]
    return json.loads(measure.checked(measure.run(command)).out.splitlines()[-1])


def commanded(*words: str) -> dict[str, Any]:
    """What a command takes."""
    done = measure.checked(measure.run([measure.OURS / "python", "-m", "fanfold", *words], memory=True))
    return {"seconds": done.wall, "cpu": done.cpu, "peak": done.peak}


def written(database: str) -> None:
    """Have the planned tasks performed by several processes."""
    command = [measure.OURS / "python", __file__, "--phase", "write", database]
    writers = [subprocess.Popen([*command, str(share)], stdout=subprocess.DEVNULL) for share in range(WRITERS)]
    if any([writer.wait() for writer in writers]):
        raise SystemExit("writing failed")


def size(folder: str, below: str = "") -> int:
    """Bytes on disk."""
    return sum(file.stat().st_size for file in (Path(folder) / below).rglob("*") if file.is_file())


def on_disk(items: int, work: Path, say: Callable[[str, dict[str, Any]], None]) -> None:
    """Every phase at this many items."""
    first, copy = str(work / "planned"), str(work / "copy")
    say("list", timed("listing", first, items))
    say("plan", timed("plan", first, items))
    written(first)
    for phase in ("commit_run", "at_once", "recover", "commit_one"):
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-al", first, copy], check=True)  # hard links: nothing is written in place
        say(phase, timed(phase, copy, items))
    say("rerun", timed("rerun", copy, items))
    say("runs", commanded("runs", copy))
    say("report", commanded("report", copy))
    run = find_run(copy, None).id
    bytes = {name: size(copy, where) for name, where in places(run).items()}
    say("optimize", commanded("optimize", copy) | {"bytes": bytes})
    say("rerun again", timed("rerun", copy, items))


def places(run: str) -> dict[str, str]:
    return {
        "data": "made_up.lance/data",
        "versions": "made_up.lance/_versions",
        "transactions": "made_up.lance/_transactions",
        "runs": "_runs",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        return perform(args.phase[0], args.phase[1], int(args.phase[2]))
    for items in args.items:
        work = Path(tempfile.mkdtemp(prefix="fanfold-scale-", dir=args.work))
        try:
            on_disk(items, work, lambda phase, told: print(items, phase, told, flush=True))
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
