"""fanfold's own cost for a hundred thousand, a million, ten million items: seconds and memory, phase by phase.

    .venv/bin/python benches/scale.py [--items 100000 300000 1000000] [--s3 100000 ...] [--work FOLDER]
    .venv/bin/python benches/scale.py --items 100000 1000000 10000000 --s3 100000 1000000 10000000     23 min, 20 GB

The listing and the rows (vectors of 8 values) are made up: everything else is the real code, on disk and on a real S3
server on loopback (SeaweedFS). Tasks have 1,000 items. Every phase is a separate process; its memory is its peak
resident memory (VmHWM; for commands: PSS), including about 110 MB of libraries.

    listing       the made-up listing alone: the bench's own part of `plan` and `rerun`
    plan          a new run of all items: list, compare, cut, write the manifests
    (then workers write fragments and receipts; that is not the driver's work, and not timed)
    commit_run    a run whose workers had done everything when it began to commit
    at_once       all receipts published by one call, half a million items per commit
    recover       a driver died before its first commit: the next one commits what the receipts say
    commit_last   all but some receipts published by one call, then those one by one: the time of a one-fragment commit
                  to a table with that many fragments
    commit_one    one commit per fragment, as if the workers took longer for a task than the driver for a commit; up
                  to a million items, since each commit lists all fragments: a run commits less often, the more
                  there are (`fanfold.core.run.PAUSE_PER_FRAGMENT`)
    rerun         a run with nothing to do, on the table that commit_one left, else commit_last
    runs, report, optimize        the commands, on the same
    rerun_joined  the run with nothing to do again, on the optimized table

With details (`--details 1000x10000`: 1,000 items of 10,000 detail rows each), the phases of `detailed`:

    write, publish    a worker writes them all, one after the other; a driver commits all receipts at once
    rerun, optimize   as above, and the rerun once more on the optimized tables
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import measure
import results
import synthetic
from planning import free_port, serving

from fanfold.core import recovery
from fanfold.core.catalog import find_run
from fanfold.core.executor import TaskProgress
from fanfold.core.ledger import Ledger
from fanfold.core.plan import Options
from fanfold.core.run import Run
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.worker import Worker
from fanfold.storage import is_url, join, open_store

JOB = synthetic.MadeUp()
WRITERS = 2
LAST = 20
"""Commits of one fragment to a nearly complete table."""
ONE_BY_ONE_UP_TO = 1_000_000
"""Limit in items up to which every fragment gets a commit."""


def ledger_of(database: str) -> Ledger:
    return Ledger.open(database, JOB.name) or Ledger.create(database, JOB.name, JOB, "", "key")


# -- the phases: each returns its counts, besides seconds and memory
# ----------------------------------------------------


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
    """Perform every second task, like a worker."""
    run = find_run(database, None)
    worker, tasks = Worker(database, run.id), (run.get("plan.json") or {})["tasks"]
    for number in range(share, tasks, WRITERS):
        outcome = worker.perform(Task(number, len(run.read_manifest(number))))
        assert outcome.status == "done", outcome.error
    return {}


def commit_one(database: str, _items: int) -> dict[str, Any]:
    """Publish one receipt at a time; return the time per commit at each tenth of the way."""
    ledger, took = ledger_of(database), list[float]()
    for outcome in find_run(database, None).receipts():
        started = time.perf_counter()
        ledger.publish([outcome])
        took.append(time.perf_counter() - started)
    tenth = max(1, len(took) // 10)
    means = [sum(took[at : at + tenth]) / len(took[at : at + tenth]) for at in range(0, len(took), tenth)]
    return {"commits": len(took), "means": means, "rows": ledger.rows.dataset.count_rows()}


def commit_last(database: str, items: int) -> dict[str, Any]:
    """Publish all but the last receipts at once, and those one by one."""
    ledger, outcomes, took = ledger_of(database), list(find_run(database, None).receipts()), list[float]()
    ledger.publish(outcomes[:-LAST])
    for outcome in outcomes[-LAST:]:
        started = time.perf_counter()
        ledger.publish([outcome])
        took.append(time.perf_counter() - started)
    assert ledger.rows.dataset.count_rows() == items
    return {"commits": len(took), "means": [sum(took) / len(took)], "fragments": len(outcomes)}


def commit_run(database: str, items: int) -> dict[str, Any]:
    """Continue a planned run whose workers have done everything."""
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
    recovery.recover(ledger)
    assert ledger.rows.dataset.count_rows() == items
    return {"commits": ledger.rows.dataset.version - 1}


def rerun(database: str, items: int) -> dict[str, Any]:
    run = Run(JOB, synthetic.Listing(items), ledger_of(database), Idle(), Options())
    for _ in run:
        pass
    assert run.report.unchanged == items, run.report
    return {}


class Idle:
    """An executor with nothing to do except to return the outcomes in a run's receipts."""

    workers = 2

    def __init__(self, run: RunDirectory | None = None) -> None:
        self.run = run

    def map(self, _run: RunDirectory, tasks: Iterator[Task], _progress: TaskProgress) -> Generator[Outcome, None, None]:
        if self.run:
            yield from self.run.receipts()
        assert not list(tasks)


def details_write(database: str, items: int) -> dict[str, Any]:
    """Plan all items and perform every task, like one worker."""
    job, listing = _detailed(database), synthetic.Listing(items)
    ledger = Ledger.open(database, job.name) or Ledger.create(database, job.name, job, "", "key")
    run = Run(job, listing, ledger, Idle(), Options(task_size=100))
    worker = Worker(database, run.id)
    for number in range(run._plan_all(None) or 0):
        outcome = worker.perform(Task(number, len(run.directory.read_manifest(number))))
        assert outcome.status == "done", outcome.error
    return {}


def details_publish(database: str, items: int) -> dict[str, Any]:
    """Commit everything at once."""
    ledger = Ledger.open(database, _detailed(database).name)
    assert ledger
    ledger.publish(list(find_run(database, None).receipts()))
    assert ledger.rows.dataset.count_rows() == items
    return {"rows": ledger.details.tables["records"].dataset.count_rows()}


def details_rerun(database: str, items: int) -> dict[str, Any]:
    """A run with nothing to do."""
    job = _detailed(database)
    ledger = Ledger.open(database, job.name)
    assert ledger
    run = Run(job, synthetic.Listing(items), ledger, Idle(), Options())
    for _ in run:
        pass
    assert run.report.unchanged == items, run.report
    return {}


def _detailed(database: str) -> synthetic.MadeUpDetails:
    """The job with the number of rows per item that is in the database's name."""
    return synthetic.MadeUpDetails(rows=int(database.rpartition("x")[2]))


_PHASES = (
    *(listing, plan, write, commit_one, commit_last, commit_run, at_once, recover, rerun),
    *(details_write, details_publish, details_rerun),
)
PHASES: Mapping[str, Callable[[str, int], dict[str, Any]]] = {phase.__name__: phase for phase in _PHASES}


def peak() -> int:
    """This process's peak resident memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def perform(phase: str, database: str, number: int) -> None:
    """Act as the process of a phase."""
    started, cpu = time.perf_counter(), time.process_time()
    told = PHASES[phase](database, number)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": spent, "peak": peak(), **told}))


# -- all of them ------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """The results of the phases, by phase and column."""

    columns: list[str] = field(default_factory=list)
    cells: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)

    def say(self, column: str, phase: str, told: dict[str, Any]) -> None:
        """Keep and print a phase's result."""
        self.cells[phase, column] = told
        print(f"{column}  {phase:<13}{json.dumps(told)}", flush=True)

    def table(self) -> str:
        """Seconds, CPU microseconds per item and memory of every phase, and how the seconds grow with the items."""
        phases = list(dict.fromkeys(phase for phase, _ in self.cells))
        head = ["seconds; CPU \u00b5s an item; peak MB", *self.columns, "grows as"]
        rows = ([phase, *(self._cell(phase, at) for at in self.columns), self._slope(phase)] for phase in phases)
        return results.markdown(head, rows)

    def _slope(self, phase: str) -> str:
        """The power of the number of items with which the seconds grow, between neighbouring columns of a kind."""
        kinds = {"": [at for at in self.columns if "S3" not in at], "S3 ": [at for at in self.columns if "S3" in at]}
        powers = []
        for kind, columns in kinds.items():
            there = [(self.items[at], self.cells[phase, at]["seconds"]) for at in columns if (phase, at) in self.cells]
            grown = (log(after[1] / before[1]) / log(after[0] / before[0]) for before, after in pairwise(there))
            powers += [f"{kind}n^{power:.2f}" for power in grown]
        return ", ".join(powers)

    def _cell(self, phase: str, column: str) -> str:
        if (told := self.cells.get((phase, column))) is None:
            return ""
        each = told["cpu"] / self.items[column] * 1e6
        return f"{told['seconds']:,.1f}; {each:,.1f}; {told['peak'] / 1e6:,.0f}"

    def commits(self) -> str:
        """Milliseconds per commit at each tenth of the way, and the size of the versions on disk."""
        lines = []
        for column in self.columns:
            if last := self.cells.get(("commit_last", column)):
                lines.append(
                    f"- {column}: one fragment more, beside {last['fragments']:,}: {last['means'][0] * 1000:.0f} ms."
                )
            if (told := self.cells.get(("commit_one", column))) is None:
                continue
            means = ", ".join(f"{mean * 1000:.0f}" for mean in told["means"])
            sizes = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in told["bytes"].items())
            lines.append(
                f"- {column}: {told['commits']:,} commits of one fragment, ms at each tenth: {means}; {sizes}."
            )
        return "\n".join(lines)


def timed(phase: str, database: str, number: int) -> dict[str, Any]:
    """The result of a phase's process."""
    command = [measure.OURS / "python", __file__, "--phase", phase, database, number]
    told: dict[str, Any] = json.loads(measure.checked(measure.run(command)).out.splitlines()[-1])
    return told


def commanded(*words: str) -> dict[str, Any]:
    """The time and memory of a command."""
    done = measure.checked(measure.run([measure.OURS / "python", "-m", "fanfold", *words], memory=True))
    return {"seconds": done.wall, "cpu": done.cpu, "peak": done.peak}


def write_all(database: str) -> None:
    """Perform the planned tasks with several processes."""
    command = [measure.OURS / "python", __file__, "--phase", "write", database]
    writers = [subprocess.Popen([*command, str(share)], stdout=subprocess.DEVNULL) for share in range(WRITERS)]
    if any(code for code in [writer.wait() for writer in writers]):
        raise SystemExit("writing failed")


def sizes(database: str) -> dict[str, int]:
    """Bytes of the table's data, of its versions, and of the run's manifests and receipts."""
    parts = {"data": "made_up.lance/data", "versions": "made_up.lance/_versions", "runs": "_runs"}
    store = open_store(database)
    return {name: sum(meta["size"] for chunk in store.list(folder) for meta in chunk) for name, folder in parts.items()}


def every_phase(items: int, work: str, column: str, told: Told) -> None:
    """Measure this many items with databases below `work`; on disk each is a copy of the first one."""
    told.columns.append(column)
    told.items[column] = items
    remote = is_url(work)
    first = join(work, "planned")
    told.say(column, "listing", timed("listing", first, items))
    told.say(column, "plan", timed("plan", first, items))
    write_all(first)
    database = first
    phases = ["recover", "commit_last"] if remote else ["commit_run", "at_once", "recover", "commit_last"]
    phases += ["commit_one"] if items <= ONE_BY_ONE_UP_TO else []
    for phase in phases:
        database = join(work, phase)
        if remote:
            timed("plan", database, items)
            write_all(database)
        else:
            subprocess.run(["cp", "-al", first, database], check=True)  # hard links: no file is changed in place
        told.say(column, phase, timed(phase, database, items))
        if phase != phases[-1] and not remote:
            shutil.rmtree(database)
    told.cells[phases[-1], column]["bytes"] = sizes(database)
    told.say(column, "rerun", timed("rerun", database, items))
    for command in ("runs", "report", "optimize"):
        told.say(column, command, commanded(command, database))
    told.say(column, "rerun_joined", timed("rerun", database, items))


def detailed(items: int, rows: int, work: str) -> str:
    """Measure a job with details; return a table of results."""
    database = join(work, f"x{rows}")
    lines = [["phase", "seconds", "rows/s", "peak MB"]]
    for phase in ("details_write", "details_publish", "details_rerun", "optimize", "details_rerun"):
        told = commanded("optimize", database) if phase == "optimize" else timed(phase, database, items)
        rate = items * rows / told["seconds"]
        lines.append([phase, f"{told['seconds']:,.1f}", f"{rate:,.0f}", f"{told['peak'] / 1e6:,.0f}"])
        print(f"{items:,} x {rows:,}  {phase:<16}{json.dumps(told)}", flush=True)
    return results.markdown(lines[0], lines[1:])


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The URL of a bucket on a SeaweedFS server, whose address is in the environment during the block."""
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    options += [f"-{name}.port.grpc={free_port()}" for name in ports]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=500"]
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}", "AWS_ALLOW_HTTP": "true"}
    os.environ |= address | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    with serving(measure.OURS / "weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", *options):
        for _ in range(240):
            try:
                open_store("s3://scale").put("ready", b"yes")
                break
            except Exception:
                time.sleep(0.5)
        yield "s3://scale"


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--s3", type=int, nargs="*", default=[100_000])
    parser.add_argument("--details", metavar="ITEMSxROWS", help="Measure these detail rows instead.")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        perform(args.phase[0], args.phase[1], int(args.phase[2]))
        return
    if args.details:
        items, rows = map(int, args.details.split("x"))
        with tempfile.TemporaryDirectory(prefix="fanfold-scale-", dir=args.work) as work:
            print(detailed(items, rows, work))
        return
    busy, told = measure.idle(), Told()
    for items in args.items:
        with tempfile.TemporaryDirectory(prefix="fanfold-scale-", dir=args.work) as work:
            every_phase(items, work, f"{items:,}", told)
    for items in args.s3:
        with tempfile.TemporaryDirectory(prefix="fanfold-scale-", dir=args.work) as work, s3_server(Path(work)) as url:
            every_phase(items, url, f"{items:,} on S3", told)
    most = max(args.items)
    plan, again = told.cells["plan", f"{most:,}"], told.cells["rerun", f"{most:,}"]
    peak = max(cell["peak"] for (phase, column), cell in told.cells.items() if told.items[column] == most)
    readme = (
        f"{most:,} items are planned in {plan['seconds']:,.0f} s and {plan['peak'] / 1e6:,.0f} MB; a run that finds "
        f"nothing to do among them takes {again['seconds']:,.0f} s"
    )
    if remote := told.cells.get(("rerun", f"{most:,} on S3")):
        readme += f" ({remote['seconds']:,.0f} s with the table on an S3 server on the same two cores)"
    readme += f"; no phase takes more than {peak / 1e6:,.0f} MB."
    busy += f", {os.getloadavg()[1]:.2f} in the end"
    print(results.record("scale", readme, f"{told.table()}\n\n{told.commits()}", busy))


if __name__ == "__main__":
    main()
