"""A job in thirty lines: the SHA-256 of every file of a folder. Run it again to update the table.

python examples/checksums.py FOLDER DATABASE
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

import fanfold
from fanfold.job import key_field


@dataclass(frozen=True)
class Checksums:
    """The digest of each file."""

    name: ClassVar[str] = "checksums"
    suffixes: ClassVar[frozenset[str]] = frozenset()  # every file is an item

    algorithm: str = field(default="sha256", metadata={"help": "A name that hashlib knows."})

    def schema(self) -> pa.Schema:
        text = pa.string()
        return pa.schema([key_field(), pa.field("version", text, nullable=False), pa.field("digest", text)])

    def recipe(self) -> dict[str, str]:
        return {"algorithm": self.algorithm}  # digests by different algorithms cannot be compared

    def open(self) -> "Work":
        return Work(self)


class Work:
    """Nothing to set up here; a job with a model would load it in `__init__`."""

    def __init__(self, job: Checksums) -> None:
        self.job = job
        self.seconds: dict[str, float] = {}

    def __call__(
        self, items: Iterable[fanfold.Item], source: fanfold.Opener
    ) -> Iterator[pa.RecordBatch | fanfold.Failure]:
        for item in items:
            try:
                data = source.read(item, limit=1 << 30)
            except OSError as error:
                yield fanfold.Failure.of(item, "read", error)
                continue
            digest = hashlib.new(self.job.algorithm, data).hexdigest()
            row = {"key": item.key, "version": item.version, "digest": digest}
            yield pa.RecordBatch.from_pylist([row], schema=self.job.schema())


if __name__ == "__main__":
    from checksums import Checksums as Importable  # workers import the job's class, so not from __main__

    run = fanfold.run(Importable(), source=sys.argv[1], database=sys.argv[2])
    for outcome in run:
        print(f"task {outcome.task}: {outcome.ok} done, {outcome.failed} failed")
    print(run.report.to_json())
