"""A second run over a large folder without changes: the time until fanfold knows that.

    .venv/bin/python benches/rerun.py [--items 100000] [--rounds 3]

The folder has hard links to real pictures, spread over directories. The library itself fills the first run's table,
with tasks, receipts and commits, but its worker makes up vectors instead of computing them.
"""

import argparse
import json
import shutil
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
import pictures
import pyarrow as pa
import results

import fanfold
from fanfold.core.executor import TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.worker import Worker
from fanfold.images import Images
from fanfold.source import Source


class MadeUp:
    """The job's work without the pictures: rows of random vectors. It is a `fanfold.job.Work`."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.seconds: dict[str, float] = {}
        self.random = np.random.default_rng(0)

    def __call__(self, items: Iterable[fanfold.Item], source: fanfold.Opener) -> Iterator[pa.RecordBatch]:
        """One batch with a row for every item."""
        found = list(items)
        values = {
            "key": [item.key for item in found],
            "version": [item.version for item in found],
            "uri": [source.uri(item) for item in found],
            "bytes": [item.size for item in found],
            "vector": self._vectors(len(found)),
        }
        columns = [values.get(field.name, pa.nulls(len(found))) for field in self.schema]
        arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, self.schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _vectors(self, count: int) -> pa.Array:
        dimension = self.schema.field("vector").type.list_size
        return pa.FixedSizeListArray.from_arrays(self.random.random(count * dimension, np.float32), dimension)


class Pretending:
    """An executor whose only worker makes up its rows."""

    workers = 2

    def reach(self, job: Images, source: Source, database: str) -> Source:  # noqa: ARG002
        """Accept any source."""
        return source

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """Perform every task at once, in this process."""
        worker = Worker(run.database, run.id)
        worker.work = MadeUp(worker.rows.dataset.schema)
        for task in tasks:
            yield worker.perform(task, lambda ok, failed, task=task: progress(task.number, ok, failed))


def filled(folder: Path, database: Path) -> None:
    """A database that holds every item of the folder."""
    shutil.rmtree(database, ignore_errors=True)
    run = fanfold.run(Images(), source=str(folder), database=str(database), executor=Pretending())
    for _ in run:
        pass
    assert not run.report.exit_code, run.report


def rerun(folder: Path, database: Path, items: int, memory: bool) -> tuple[measure.Measured, dict[str, Any]]:
    """Run the command line again."""
    command = [measure.OURS / "fanfold", "images", "embed", folder, database, "--json"]
    took = measure.checked(measure.run(command, memory=memory))
    report = json.loads(took.out)
    assert (report["unchanged"], report["ok"], report["lost"]) == (items, 0, 0), report
    return took, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    busy = measure.idle()
    folder, database = pictures.many(args.items), pictures.DATA / "work" / "rerun.db"
    filled(folder, database)
    size = sum(file.stat().st_size for file in database.rglob("*") if file.is_file())
    peak = rerun(folder, database, args.items, memory=True)[0].peak
    took = [rerun(folder, database, args.items, memory=False)[0] for _ in range(args.rounds)]
    shutil.rmtree(database)
    seconds, cpu = median(one.wall for one in took), median(one.cpu for one in took)
    spread = f"{min(one.wall for one in took):.1f} to {max(one.wall for one in took):.1f} s"
    readme = f"A second run over {args.items:,} unchanged pictures takes {seconds:.1f} s and {peak / 1e6:,.0f} MB."
    rest = f"{cpu:.1f} s of CPU; {args.rounds} rounds of {spread}; a database of {size / 1e6:,.0f} MB."
    print(results.record("rerun", readme, rest, busy))


if __name__ == "__main__":
    main()
