"""Shared helpers of the fault tests: drivers as processes, moments to break them, and what must hold afterwards.

As a script it is such a driver: `python faults.py SOURCE DATABASE OPTIONS`, with the options as JSON.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import psutil

import fanfold
import fanfold.core.run
import helpers
import nursery
from fanfold import FanfoldError, Report
from fanfold.core.executor import Size
from fanfold.core.optimize import optimize
from fanfold.executors import open_executor
from fanfold.source import open_source
from fanfold.storage import join, open_store
from helpers import Here
from jobs import Detailed, Scripted, detail_rows

JOBS: dict[str, type[Scripted]] = {"plain": Scripted, "details": Detailed}
"""The jobs under test."""
kind = "plain"
"""The job of drivers and reruns now."""

TABLE = "scripted"
SCRIPTED = ("pause", "memory", "open_error", "failing", "recipe_name")


def main(source: str, database: str, options: dict[str, Any]) -> int:
    """Act as a driver and exit as the command line does."""
    job = JOBS[options.pop("kind", "plain")]
    script = {name: options.pop(name) for name in SCRIPTED if name in options}
    fanfold.core.run.COMMIT_EVERY = options.pop("commit_every", fanfold.core.run.COMMIT_EVERY)
    try:
        if on := options.pop("on", ""):
            options["executor"] = open_executor(on, Size(options.pop("workers"), options.pop("worker_cpus", 1)))
        run = fanfold.run(job(**script), source=source, database=database, **options)
        for outcome in run:
            sys.stderr.write(f"task {outcome.task}: {outcome.ok} ok, {outcome.failed} failed\n")
    except FanfoldError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(run.report.to_json()))
    return run.report.exit_code


@dataclass
class Driver:
    """A driver in a separate process."""

    database: str
    process: "subprocess.Popen[str]"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def children(self) -> list[psutil.Process]:
        return [*workers_of(self.database)]

    def kill_worker(self, rng: random.Random) -> None:
        if workers := self.children():
            with suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()

    def end(self, timeout: float = 300) -> tuple[int, str, str]:
        """Wait for the end and return exit code, stdout and stderr; there must never be a traceback."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        finally:
            self.process.kill()
        assert "Traceback" not in err, err
        assert "panicked" not in err, err
        return self.process.returncode, out, err


def drive(source: Path | str, database: str, powerless: bool = False, **options: Any) -> Driver:
    """Start a driver; a powerless one is bound by file permissions even as root."""
    options = {"kind": kind, "workers": 2, "task_size": 6, **options}
    powers = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if powerless else []
    command += [sys.executable, __file__, str(source), database, json.dumps(options)]
    pipe = subprocess.PIPE
    start = subprocess.Popen if powerless else nursery.Popen
    return Driver(database, start(command, stdout=pipe, stderr=pipe, text=True))


def fill(folder: Path, count: int, salt: str = "", failing: int = 7) -> None:
    """Make `count` small files in two folders; every `failing`-th of them fails."""
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number:03d}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{'fail' if number % failing == failing // 2 else 'text'} {number} {salt}")


def upload(folder: Path, prefix: str) -> None:
    """Put a folder's files below a URL."""
    store = open_store(prefix)
    for file in folder.rglob("*.txt"):
        store.put(str(file.relative_to(folder)), file.read_bytes())


# --- moments --------------------------------------------------------------------------------------------------

MOMENTS = {
    "start": "",
    "run": "_runs/*/run.json",
    "manifest": "_runs/*/tasks/*.parquet",
    "fragment": "*.lance/data/*",
    "receipt": "_runs/*/receipts/*.json",
    "details": f"{TABLE}_words.lance/_versions/*.manifest",
    "commit": f"{TABLE}.lance/_versions/*.manifest",
    "deletion": "*.lance/_deletions/*",
    "failures": "failures.lance/_versions/*.manifest",
    "report": "_runs/*/report.json",
}
"""The moments of a driver's work, and the files that show them."""


@dataclass(frozen=True)
class Kill:
    """The victim and the time of a kill: `delay` seconds after the `nth` sign of a moment."""

    victim: str
    moment: str
    nth: int
    delay: float


def kills(seed: int) -> list[Kill]:
    """The kills of a seed, one driver each; every moment and every kind of victim has its turn."""
    rng = random.Random(seed)
    moments, victims = list(MOMENTS), ["driver", "both", "worker"]
    return [
        Kill(
            victims[(seed + turn) % 3],
            moments[(seed + 4 * turn) % len(moments)],
            rng.choice([1, 1, 2, 4]),
            rng.choice([0, 0.003, 0.02, 0.1]) * rng.random() if (seed + turn) % len(moments) else 2 * rng.random(),
        )
        for turn in range(1 + seed % 2)
    ]


def strike(driver: Driver, kill: Kill, before: set[Path], rng: random.Random) -> None:
    """Wait for the moment, or for the driver's end, and then kill."""
    pattern = MOMENTS[kill.moment]
    while pattern and driver.process.poll() is None and len(signs(driver.database, pattern) - before) < kill.nth:
        time.sleep(0.002)
    time.sleep(kill.delay)
    if kill.victim != "driver":
        driver.kill_worker(rng)
    if kill.victim != "worker":
        driver.kill()


def signs(database: str, pattern: str) -> set[Path]:
    """The files that show what has been done."""
    return {path for path in Path(database).glob(pattern) if "#" not in path.name}


# --- what must hold -------------------------------------------------------------------------------------------


def settle(source: Path | str, database: str, **options: Any) -> Report:
    """Do a clean rerun, in this process unless `workers` are asked for.

    After it every listed item must be in exactly one table, exactly once.
    """
    options = {"executor": None if "workers" in options else Here(), "task_size": 20, **options}
    run = fanfold.run(JOBS[kind](), source=str(source), database=database, **options)
    for _ in run:
        pass
    report = run.report
    listed = listed_of(source)
    assert (report.lost, report.complete, report.listed) == (0, True, len(listed))
    rows, failures = held(database, listed)
    assert (report.unchanged + report.ok, report.failed) == (len(rows), len(failures))
    if kind == "details":
        agree(database)
    return report


def agree(database: str) -> None:
    """Check that every row has all its details, once, and that there are no others."""
    rows = lance.dataset(join(database, f"{TABLE}.lance")).to_table(["key", "version", "text"]).to_pylist()
    expected = [detail_rows(row["key"], row["version"], row["text"]) for row in rows]
    for place, name in enumerate(("words", "letters")):
        found = lance.dataset(join(database, f"{TABLE}_{name}.lance")).to_table().to_pylist()
        wanted = [detail for details in expected for detail in details[place]]
        assert Counter(tuple(row.items()) for row in found) == Counter(tuple(row.items()) for row in wanted)


def listed_of(source: Path | str) -> dict[str, str]:
    """Key -> version of a source's current items."""
    return {item.key: item.version for item in open_source(str(source)).list(Scripted.suffixes)}


def held(database: str, listed: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The listed items in the two tables, key -> version; each item must be there, and none twice."""
    rows = once(database, TABLE)
    failures = once(database, "failures")
    assert not rows.keys() & failures.keys()
    rows, failures = ({key: has[key] for key in has.keys() & listed.keys()} for has in (rows, failures))
    assert rows | failures == listed
    return rows, failures


def once(database: str, table: str) -> dict[str, str]:
    """Key -> version of a table's rows; no key may be there twice."""
    found = lance.dataset(join(database, f"{table}.lance")).to_table(["key", "version"]).to_pylist()
    twice = {key: n for key, n in Counter(row["key"] for row in found).items() if n > 1}
    assert not twice
    return {row["key"]: row["version"] for row in found}


def texts_of(database: str) -> dict[str, str]:
    """Key -> text of the rows."""
    found = lance.dataset(join(database, f"{TABLE}.lance")).to_table(["key", "text"]).to_pylist()
    return {row["key"]: row["text"] for row in found}


def assert_clean(database: str) -> None:
    """Check that after a cleanup every data file belongs to its table's current version, and none is missing."""
    optimize(database, keep=timedelta(0))
    for table in (TABLE, "failures", *([f"{TABLE}_words", f"{TABLE}_letters"] if kind == "details" else [])):
        fragments = lance.dataset(join(database, f"{table}.lance")).get_fragments()
        current = {file.path for fragment in fragments for file in fragment.metadata.files}
        assert data_files(database, table) == current


def data_files(database: str, table: str) -> set[str]:
    """The names of the files below a table's `data`."""
    found = open_store(join(database, f"{table}.lance")).list("data")
    return {meta["path"].removeprefix("data/") for chunk in found for meta in chunk}


def workers_of(database: str) -> Iterator[psutil.Process]:
    """The worker processes of a database's runs."""
    for process in helpers.workers_of(database):
        with suppress(psutil.Error):
            if "fanfold.executors.process" in process.cmdline():
                yield process


def assert_no_workers(database: str, within: float = 60) -> None:
    """Check that workers of dead drivers end by themselves."""
    wait_for(lambda: not any(workers_of(database)), within)


def hold(source: Path, free: int, until: Path) -> None:
    """Make all but the first items of a listing wait for a file, so that the test is never too late."""
    for key in [*listed_of(source)][free:]:
        (source / key).write_text(f"wait {until}")


def wait_for(ready: Callable[[], object], within: float = 240) -> None:
    """Wait until a condition holds. The limit is generous, since a busy machine may take long for anything."""
    deadline, pause = time.monotonic() + within, 0.005
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
        pause = min(0.1, 1.05 * pause)  # the longer it takes, the less does it matter when


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
