"""A job whose fold scripts its own faults, and a driver to kill."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from lance import LanceDataset

import fanfold
from helpers import Here
from jobs import Detailed, Scripted


@dataclass(frozen=True)
class Folded(Scripted):
    """Keeps each file's text; derives the number of texts and their lengths."""

    recipe_name: str = "folded"
    trouble: str = ""
    """A file that names the fold's fault: `raise`; `kill`: before a table is written; `half`: between two."""
    short: str = "summary"
    """The name of the first derived table."""

    def fold(self, tables: Mapping[str, LanceDataset]) -> Mapping[str, pa.Table]:
        told = Path(self.trouble).read_text() if self.trouble and Path(self.trouble).exists() else ""
        if told == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if told == "raise":
            raise RuntimeError("told to raise")
        texts = tables["rows"].to_table(["text"])["text"].to_pylist()
        summary = pa.table({"rows": [len(texts)], "failed": [tables["failures"].count_rows()]})
        return {self.short: summary, "lengths": pa.table({"length": sorted(map(len, texts))})}


@dataclass(frozen=True)
class FoldedDetails(Detailed):
    """A job with detail tables, which derives the number of rows of each table."""

    def fold(self, tables: Mapping[str, LanceDataset]) -> Mapping[str, pa.Table]:
        return {"counts": pa.table({name: [table.count_rows()] for name, table in tables.items()})}


def main(source: str, database: str, options: str) -> None:
    """Run the job in this process; `half` kills it between the writes of the two derived tables."""
    job = Folded(**json.loads(options))
    if job.trouble and Path(job.trouble).read_text() == "half":
        import lance

        write, written = lance.write_dataset, list[str]()

        def half(data: pa.Table, uri: str, **more: object) -> LanceDataset:
            if written:
                os.kill(os.getpid(), signal.SIGKILL)
            written.append(uri)
            return write(data, uri, **more)  # type: ignore[arg-type]

        lance.write_dataset = half
    for _ in fanfold.run(job, source=source, database=database, executor=Here()):
        pass
