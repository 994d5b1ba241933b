"""A job without files: the accuracy of three integration rules. Its items are the cells of a grid in a TOML file.

    rules = ["midpoint", "trapezoid", "simpson"]
    steps = [16, 64, 256]

python examples/grid.py GRID.toml DATABASE
"""

import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import ClassVar

import lance
import pyarrow as pa
import pyarrow.compute as pc

import fanfold
from fanfold.job import key_field
from fanfold.source import Generated

RULES: dict[str, Callable[[float, float], float]] = {
    "midpoint": lambda low, high: math.exp((low + high) / 2),
    "trapezoid": lambda low, high: (math.exp(low) + math.exp(high)) / 2,
    "simpson": lambda low, high: (math.exp(low) + 4 * math.exp((low + high) / 2) + math.exp(high)) / 6,
}
"""Approximations of the mean of exp between two points."""


@dataclass(frozen=True)
class Grid:
    """The error of each rule at each number of steps, for the integral of exp from 0 to `upper`."""

    name: ClassVar[str] = "grid"

    upper: float = field(default=1.0, metadata={"help": "Upper limit of the integral."})

    def source(self, addresses: Sequence[str]) -> Generated:
        """The cells of the grids at these paths. Workers make the same cells."""
        grids = [tomllib.loads(Path(address).read_text()) for address in addresses]
        cells = dict.fromkeys(cell for grid in grids for cell in product(grid["rules"], grid["steps"]))
        keys = [f"{rule}/{steps}" for rule, steps in cells]
        return Generated([*addresses], lambda: (fanfold.Item(key, size=0, version="1", path=key) for key in keys))

    def schema(self) -> pa.Schema:
        text = pa.string()
        columns = {"version": text, "rule": text, "steps": pa.int64(), "error": pa.float64()}
        return pa.schema([key_field(), *(pa.field(*column) for column in columns.items())])

    def recipe(self) -> dict[str, str]:
        return {"upper": str(self.upper)}

    def open(self) -> "Work":
        return Work(self)

    def fold(self, tables: Mapping[str, lance.LanceDataset]) -> dict[str, pa.Table]:
        """The smallest error of each rule, and its steps. Called after the last commit."""
        rows = tables["rows"].to_table(["rule", "steps", "error"]).sort_by("error")
        best = [rows.filter(pc.equal(rows["rule"], rule)).slice(0, 1) for rule in sorted(set(rows["rule"].to_pylist()))]
        return {"summary": pa.concat_tables([rows.schema.empty_table(), *best])}


class Work:
    """Nothing to set up."""

    def __init__(self, job: Grid) -> None:
        self.job = job
        self.seconds: dict[str, float] = {}

    def __call__(
        self,
        items: Iterable[fanfold.Item],
        source: fanfold.Opener,  # noqa: ARG002 - cells have no content to read
    ) -> Iterator[pa.RecordBatch | fanfold.Failure]:
        for item in items:
            rule, _, steps = item.path.partition("/")
            try:
                error = self.error(rule, int(steps))
            except (KeyError, ValueError, ZeroDivisionError) as wrong:
                yield fanfold.Failure.of(item, "compute", wrong)
                continue
            row = {"key": item.key, "version": item.version, "rule": rule, "steps": int(steps), "error": error}
            yield pa.RecordBatch.from_pylist([row], schema=self.job.schema())

    def error(self, rule: str, steps: int) -> float:
        width = self.job.upper / steps
        found = math.fsum(RULES[rule](step * width, (step + 1) * width) for step in range(steps)) * width
        return abs(found - math.expm1(self.job.upper))


if __name__ == "__main__":
    from grid import Grid as Importable  # workers import the job's class, so not from __main__

    run = fanfold.run(Importable(), source=sys.argv[1], database=sys.argv[2])
    for outcome in run:
        print(f"task {outcome.task}: {outcome.ok} done, {outcome.failed} failed")
    print(run.report.to_json())
