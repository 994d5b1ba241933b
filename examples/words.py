"""A job with a detail table: the words of text files, each with its place.

fanfold run examples.words:Words FOLDER DATABASE

Two tables: `words` has a row per file, `words_occurrences` a row per word. They share the columns key and version.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

import pyarrow as pa

import fanfold
from fanfold.job import detail_key_field, key_field

VERSION = pa.field("version", pa.string(), nullable=False)
FILES = pa.schema([key_field(), VERSION, pa.field("lines", pa.int64()), pa.field("longest", pa.string())])
PLACE = [pa.field("line", pa.int64()), pa.field("place", pa.int32()), pa.field("word", pa.string())]
OCCURRENCES = pa.schema([detail_key_field(), VERSION, *PLACE])
AT_ONCE = 10_000  # words a batch


@dataclass(frozen=True)
class Words:
    """The words of each text file."""

    name: ClassVar[str] = "words"
    suffixes: ClassVar[frozenset[str]] = frozenset({".txt", ".md"})

    shortest: int = field(default=1, metadata={"help": "Least number of letters in a word."})
    max_bytes: int = field(default=1 << 30, metadata={"help": "Largest file to read."})

    def schema(self) -> pa.Schema:
        return FILES

    def details(self) -> dict[str, pa.Schema]:
        return {"occurrences": OCCURRENCES}

    def recipe(self) -> dict[str, str]:
        return {"shortest": str(self.shortest)}

    def open(self) -> "Work":
        return Work(self)


class Work:
    """Finds the words."""

    def __init__(self, job: Words) -> None:
        self.job = job
        self.word = re.compile(rf"\w{{{job.shortest},}}")
        self.seconds: dict[str, float] = {}

    def __call__(
        self, items: Iterable[fanfold.Item], source: fanfold.Opener
    ) -> Iterator[pa.RecordBatch | fanfold.Failure | fanfold.Detail]:
        for item in items:
            try:
                lines = source.read(item, limit=self.job.max_bytes).decode().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                yield fanfold.Failure.of(item, "read", error)
                continue
            longest = ""
            for rows in batched(self.words(item, lines)):
                longest = max([longest, *(str(row["word"]) for row in rows)], key=len)
                yield fanfold.Detail("occurrences", pa.RecordBatch.from_pylist(rows, schema=OCCURRENCES))
            row = {"key": item.key, "version": item.version, "lines": len(lines), "longest": longest}
            yield pa.RecordBatch.from_pylist([row], schema=FILES)  # closes the item

    def words(self, item: fanfold.Item, lines: list[str]) -> Iterator[dict[str, str | int]]:
        """The rows of an item's words."""
        for number, line in enumerate(lines, 1):
            for place, found in enumerate(self.word.finditer(line)):
                yield {
                    "key": item.key,
                    "version": item.version,
                    "line": number,
                    "place": place,
                    "word": found.group().lower(),
                }


def batched(rows: Iterator[dict[str, str | int]]) -> Iterator[list[dict[str, str | int]]]:
    """Lists of at most `AT_ONCE` rows, so that memory stays bounded for any file."""
    while some := list(islice(rows, AT_ONCE)):
        yield some


if __name__ == "__main__":
    from words import Words as Importable  # workers import the job's class, so not from __main__

    run = fanfold.run(Importable(), source=sys.argv[1], database=sys.argv[2])
    for outcome in run:
        print(f"task {outcome.task}: {outcome.ok} done, {outcome.failed} failed")
    print(run.report.to_json())
