"""How a job's collection is made, from its addresses alone, on the driver and on every worker."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

import fanfold
from fanfold import Item, UsageError
from fanfold.core.failures import failed
from fanfold.core.run import Run
from fanfold.core.runs import RunDirectory
from fanfold.executors.ray.node import sample, unreadable
from fanfold.source import Bucket, Folder, Generated, Listed, Source, collection, open_source, places_of, worker_source
from fanfold.source.place import Places
from fanfold.storage import open_store
from helpers import TXT, Here, failures, rows, texts_of
from jobs import SCHEMA, Scripted


@dataclass(frozen=True)
class Numbers:
    """Keep numbers as texts: `numbers://FROM/TO`."""

    name: ClassVar[str] = "scripted"

    failing: str = ""
    """The key that fails."""

    def source(self, addresses: Sequence[str]) -> Generated:
        """Called on the driver and on the workers."""
        spans = [map(int, address.removeprefix("numbers://").split("/")) for address in addresses]
        keys = [str(number) for first, last in spans for number in range(first, last)]
        return Generated([*addresses], lambda: (Item(key, 0, "1", key) for key in keys), root="numbers://")

    def schema(self) -> pa.Schema:
        return SCHEMA

    def recipe(self) -> dict[str, str]:
        return {}

    def open(self) -> "Numbers":
        return self

    @property
    def seconds(self) -> dict[str, float]:
        return {}

    def __call__(self, items: Iterable[Item], source: Source) -> Iterator[pa.RecordBatch | fanfold.Failure]:
        for item in items:
            assert isinstance(source, Generated)
            if item.key == self.failing:
                try:
                    source.read(item, 1)
                except OSError as error:
                    yield fanfold.Failure.of(item, "read", error)
                continue
            row = {"key": item.key, "version": item.version, "text": source.uri(item)}
            yield pa.RecordBatch.from_pylist([row], schema=SCHEMA)


@dataclass(frozen=True)
class Upper(Scripted):
    """Keep texts in capitals, read by the job's own source from files with absolute paths."""

    def source(self, addresses: Sequence[str]) -> "Capitals":
        return Capitals(open_source(addresses[0]))


@dataclass
class Capitals:
    """A folder whose texts are in capitals; `open_source` does not make it."""

    below: Source
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 1

    @property
    def root(self) -> str:
        return self.below.root

    @property
    def addresses(self) -> "list[str]":
        return self.below.addresses

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        return self.below.list(suffixes)

    def read(self, item: Item, limit: int) -> bytes:
        return self.below.read(item, limit).upper()

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        return self.below.read_at(item, offset, length).upper()

    def uri(self, item: Item) -> str:
        return self.below.uri(item)

    def within(self, root: str) -> "Capitals | None":
        inner = self.below.within(root)
        return Capitals(inner) if inner else None


@dataclass(frozen=True)
class Wrong(Scripted):
    """A job whose source is not a Source."""

    def source(self, _addresses: Sequence[str]) -> list[str]:
        return ["a", "b"]


def done(job: Any, source: Any, database: str, **options: Any) -> fanfold.Report:
    """Run a job to its end, by default on local worker processes."""
    run = fanfold.run(job, source=source, database=database, **options)
    list(run)
    return run.report


def test_a_job_with_its_own_source(database: str) -> None:
    """Items that are not files are done once, by processes that make the source again; the next run does new ones."""
    report = done(Numbers(), "numbers://0/40", database, workers=2)
    assert (report.listed, report.ok, report.lost) == (40, 40, 0)
    report = done(Numbers(), ["numbers://0/40", "numbers://40/50"], database, executor=Here())
    assert (report.unchanged, report.ok) == (40, 10)
    assert texts_of(database)["7"] == "numbers:///7"
    assert fanfold.preview(Numbers(), source="numbers://0/60", database=database, workers=1).todo == 10


def test_a_run_with_its_own_source_is_planned_elsewhere(database: str) -> None:
    """`run.json` has enough to make the source again when the run is planned elsewhere."""
    run = fanfold.run(Numbers(), source="numbers://0/20", database=database, executor=Here(), task_size=5)
    list(resumed := Run.resume(RunDirectory(database, run.id), Here()))
    assert (resumed.report.listed, resumed.report.lost, len(rows(database))) == (20, 0, 20)


def test_failures_of_a_job_with_its_own_source(database: str) -> None:
    """A failed item is checked in the job's own source, and one that cannot be read does not mean a missing source."""
    report = done(Numbers(failing="3"), "numbers://0/5", database, executor=Here())
    assert (report.ok, report.failed) == (4, 1)
    assert failures(database)["3"]["message"] == "3 has no content"
    assert [(row["key"], row["gone"]) for row in failed(database, check=True)] == [("3", False)]


def test_a_source_that_wraps_another(texts: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job may read files in its own way, and a local path reaches workers as an absolute path."""
    monkeypatch.chdir(texts.parent)
    assert done(Upper(), texts.name, database, workers=1).ok == 40
    assert texts_of(database)["a/01.txt"] == "TEXT 1"
    assert worker_source(Upper(), str(texts.parent), [f"{texts}/a"]).root == str(texts.parent)
    report = done(Upper(), f"{texts}/a", database, executor=Here())
    assert (report.unchanged, report.ok) == (20, 0)


@pytest.mark.parametrize("source", [None, 7, [1, 2], b"photos", {"a": 1}, ["photos", None]])
def test_what_is_not_a_source(source: Any, database: str) -> None:
    """A source of a wrong type is a UsageError that lists the valid types, for a run and a preview."""
    for ask in (fanfold.run, fanfold.preview):
        with pytest.raises(UsageError, match="an address, a list of addresses, or a Source object, not"):
            ask(Scripted(), source=source, database=database)


def test_paths_are_addresses(texts: Path, database: str) -> None:
    """A `pathlib.Path` is an address, alone or in a list."""
    assert done(Scripted(), texts, database, executor=Here()).ok == 40
    assert done(Scripted(), [texts / "a", texts / "b"], database, executor=Here()).unchanged == 40


def test_a_source_object(texts: Path, database: str, bucket: str) -> None:
    """A Source object is equivalent to its addresses, if these make it again."""
    assert done(Scripted(), Folder(str(texts), "a"), database, workers=1).ok == 20
    assert done(Scripted(), str(texts), database, executor=Here()).unchanged == 20
    open_store(bucket).put("p/x.txt", b"x")
    source = Bucket(bucket, "p")
    for unchanged in (0, 1):  # an object's counts do not carry over from one run to the next
        report = done(Scripted(), source, database, executor=Here(), table="other")
        assert (report.listed, report.unchanged) == (1, unchanged)
    assert done(Numbers(), Numbers().source(["numbers://0/3"]), database, executor=Here(), table="numbers").ok == 3
    assert fanfold.preview(Scripted(), source=Folder(str(texts)), database=database, workers=1).unchanged == 40


def test_a_source_object_that_workers_cannot_make(texts: Path, database: str) -> None:
    """A Source object whose addresses make another one, or none, is refused with what to do."""
    for source, why in (
        (Capitals(Folder(str(texts))), "they make a Folder"),
        (Generated(["grid://x"], list), "not grid://"),
        (Generated([], list), "There is no source"),
    ):
        with pytest.raises(UsageError, match="Workers cannot make this") as caught:
            fanfold.run(Scripted(), source=source, database=database)
        assert why in str(caught.value)
        assert "method source(addresses)" in str(caught.value)
    assert not os.path.exists(database)  # noqa: PTH110


def test_a_job_whose_source_is_wrong(database: str) -> None:
    """A job's `source` that returns no Source, or raises for its addresses, is a UsageError that names the job."""
    with pytest.raises(UsageError, match=r"source\(\) of the job 'scripted' must return a Source"):
        fanfold.run(Wrong(), source="x", database=database)
    with pytest.raises(UsageError, match="The job 'scripted' cannot use numbers://x: invalid literal"):
        fanfold.run(Numbers(), source="numbers://x", database=database)


def test_addresses_that_only_a_job_knows(texts: Path) -> None:
    """An address of an unknown scheme is refused for a job without its own source, and has no place that can vanish."""
    with pytest.raises(UsageError, match="not numbers://"):
        collection(Scripted(), "numbers://0/3")
    assert Places(["numbers://0/3", "cells.toml", f"{texts}"]).places == Places([str(texts)]).places != []
    addresses = ["numbers://0/3", "/a/b", "s3://bucket/x", "table:s3://bucket/db/files"]
    assert [*places_of(Numbers(), addresses)] == ["/a/b", "s3://bucket/x", "s3://bucket/db/files"]
    assert [*places_of(Scripted(), ["photos"])] == ["photos"]


def test_a_job_without_suffixes(texts: Path) -> None:
    """A job with neither `suffixes` nor `source` gets every file."""

    class Plain:
        name = "scripted"

    assert isinstance(collection(Plain(), str(texts)), Folder)  # type: ignore[arg-type]
    assert isinstance(worker_source(Plain(), "", []), Listed)  # type: ignore[arg-type]
    assert fanfold.job.suffixes_of(Plain()) == frozenset()  # type: ignore[arg-type]
    assert fanfold.job.suffixes_of(Scripted()) == TXT | {".md"}


def test_what_ray_nodes_are_to_read(texts: Path, bucket: str) -> None:
    """The sample has a few items that this process can read, and is empty for a source without content."""
    assert list(sample(Numbers(), collection(Numbers(), "numbers://0/3"))) == []
    open_store(bucket).put("x.txt", b"x")
    for job in (Scripted(), Upper()):
        assert 0 < len(list(sample(job, collection(job, str(texts))))) <= 4
        source = collection(job, bucket)
        (item,) = sample(job, source)
        assert (item.path, unreadable(source, item)) == ("x.txt", "")
        assert "not found" in unreadable(source, replace(item, path="y.txt"))
