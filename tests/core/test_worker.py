"""Workers: everything that happens to a task is its outcome, and every item is answered once."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import Failure, Item, StorageError
from fanfold.core.ledger import Ledger
from fanfold.core.runs import RunDirectory, Task
from fanfold.core.table import FAILURES, Table
from fanfold.core.worker import Answers, Worker, write_failures
from fanfold.job import spec
from fanfold.source import open_source
from helpers import TXT, batch
from jobs import Scripted


def started(folder: Path, database: str, job: Any = None) -> tuple[Worker, Task]:
    """A worker of a run over a folder, and its only task."""
    job, source = job or Scripted(), open_source(str(folder))
    Ledger.open(database, job.name) or Ledger.create(database, job.name, job, source.root, "key")
    run = RunDirectory.create(
        database, job=spec(job), recipe=dict(job.recipe()), table=job.name, root=source.root, options={}
    )
    return Worker(database, run.id), run.write_manifest(0, sorted(source.list(TXT), key=lambda item: item.key))


def ignore(*_: object) -> None:
    """Ignore the progress."""


def test_a_task_done_is_a_receipt(texts: Path, database: str) -> None:
    """The outcome and the receipt say how many items, where the rows are, where the time went, and by which worker."""
    worker, task = started(texts, database)
    outcome = worker.perform(task)
    assert (outcome.status, outcome.items, outcome.ok, outcome.failed, outcome.error) == ("done", 40, 40, 0, "")
    assert outcome.started <= outcome.ended
    assert outcome.worker.endswith(f":{os.getpid()}")
    assert {"read", "write"} <= outcome.seconds.keys()
    assert len(outcome.rows) == 1
    receipt = worker.run.receipt(0)
    assert receipt is not None
    assert json.loads(json.dumps(outcome.rows)) == receipt.rows


def test_a_task_is_done_once(texts: Path, database: str) -> None:
    """A second worker with the same task returns the receipt of the first."""
    worker, task = started(texts, database)
    first = worker.perform(task)
    again = Worker(database, worker.run.id).perform(Task(0, 40, attempt=2))
    assert (again.attempt, list(again.rows)) == (1, list(first.rows))


def test_failures_are_written(texts: Path, database: str) -> None:
    """Failed items are counted, and are rows in a fragment of the failures table."""
    (texts / "a" / "00.txt").write_text("fail")
    (texts / "a" / "01.txt").write_text("forget")
    (texts / "a" / "02.txt").write_bytes(b"\xff")
    worker, task = started(texts, database)
    outcome = worker.perform(task)
    assert (outcome.ok, outcome.failed) == (37, 3)
    keys, _ = worker.failures.contents(outcome.failures)
    assert len(keys) == 3


def test_a_task_of_failures_alone_has_no_rows(tmp_path: Path, database: str) -> None:
    """A task without rows writes no fragment and is done all the same."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x.txt").write_text("fail")
    worker, task = started(tmp_path / "s", database)
    outcome = worker.perform(task)
    assert (outcome.status, list(outcome.rows), outcome.ok, outcome.failed) == ("done", [], 0, 1)


@pytest.mark.parametrize(
    ("text", "says"), [("raise", "RuntimeError: told to raise"), ("twice", "answered"), ("stranger", "stranger")]
)
def test_a_job_that_misbehaves_fails_its_task(text: str, says: str, texts: Path, database: str) -> None:
    """An exception or a wrong answer of a job is an outcome that says so, without a receipt."""
    (texts / "b" / "39.txt").write_text(text)
    worker, task = started(texts, database)
    outcome = worker.perform(task)
    assert (outcome.status, outcome.ok, outcome.items) == ("failed", 0, 40)
    assert says in outcome.error
    assert worker.run.receipt(0) is None


def test_a_worker_goes_on_after_a_failed_task(texts: Path, database: str) -> None:
    """A failed task does not harm the next one."""
    bad = texts / "a" / "00.txt"
    bad.write_text("raise")
    worker, task = started(texts, database)
    assert worker.perform(task).status == "failed"
    good = worker.run.write_manifest(1, [item for item in worker.run.read_manifest(0) if item.key != "a/00.txt"])
    assert worker.perform(good).ok == 39


def test_a_missing_manifest_is_an_outcome(texts: Path, database: str) -> None:
    """A task without a manifest cannot be done, and the outcome says so."""
    worker, _ = started(texts, database)
    outcome = worker.perform(Task(99, 5))
    assert outcome.status == "unusable"
    assert "000099" in outcome.error


def test_a_table_that_is_gone_is_an_outcome(texts: Path, database: str) -> None:
    """A database that takes no fragment has another status than a job that fails."""
    worker, task = started(texts, database)
    data = Path(database) / "scripted.lance" / "data"
    data.write_text("a file where the fragments should go")
    outcome = worker.perform(task)
    assert outcome.status == "unusable"
    assert "scripted.lance" in outcome.error


def test_an_unknown_run_is_an_error(database: str, texts: Path) -> None:
    """A worker of an unknown run raises an error that says so."""
    started(texts, database)
    with pytest.raises(StorageError, match="no run nothing"):
        Worker(database, "nothing")


def test_progress_is_told(texts: Path, database: str) -> None:
    """After each answer the worker reports how many items are done and failed so far."""
    (texts / "a" / "00.txt").write_text("fail")
    worker, task = started(texts, database)
    told: list[tuple[int, int]] = []
    worker.perform(task, lambda ok, failed: told.append((ok, failed)))
    assert told[-1] == (39, 1)
    assert told == sorted(told)


def test_a_manifest_survives(texts: Path, database: str) -> None:
    """A task's items are read as they were written, odd names included."""
    worker, _ = started(texts, database)
    items = [Item("a b\n😀\\xFF", 2**40, "v", "elsewhere"), Item("", 0, "", "")]
    assert worker.run.read_manifest(worker.run.write_manifest(7, items).number) == items


@given(st.sets(st.text(max_size=5), max_size=12), st.data())
def test_every_item_is_answered_once(keys: set[str], data: st.DataObject) -> None:
    """Rows, failures and forgotten items together are all items, each once."""
    listed = [Item(key, 1, "1", key) for key in sorted(keys)]
    fates = data.draw(
        st.lists(st.sampled_from(["row", "failure", "forgotten"]), min_size=len(keys), max_size=len(keys))
    )
    answers = Answers(listed, ignore)
    given_out = [
        batch({item.key: "x"}) if fate == "row" else Failure(item.key, "1", "decode", "E", "m")
        for item, fate in zip(listed, fates, strict=True)
        if fate != "forgotten"
    ]
    rows = [str(key) for part in answers.batches(iter(given_out)) for key in part["key"].to_pylist()]
    failed = [failure.key for failure in answers.all_failures()]
    assert sorted(rows + failed) == sorted(keys)
    assert answers.ok == len(rows) == fates.count("row")
    assert sum(failure.stage == "job" for failure in answers.all_failures()) == fates.count("forgotten")


def test_a_second_answer_is_refused() -> None:
    """An item that failed cannot have a row as well, and an item with a row cannot fail."""
    failure = Failure("x", "1", "decode", "E", "m")
    for pair in ([batch({"x": ""}), failure], [failure, batch({"x": ""})], [batch({"x": ""}), batch({"x": ""})]):
        with pytest.raises(ValueError, match="answered before"):
            list(Answers([Item("x", 1, "1", "x")], ignore).batches(iter(pair)))


@given(st.text(), st.sampled_from([ValueError, OSError, KeyError, RuntimeError]))
def test_a_failure_is_one_line(text: str, kind: type[Exception]) -> None:
    """For any error text, the message is one bounded, non-empty line that the table can hold."""
    failure = Failure.of(Item("x", 1, "1", "x"), "read", kind(text))
    assert failure.error == kind.__name__
    assert 0 < len(failure.message) <= 1000
    assert failure.message.splitlines() == [failure.message]
    row = dict.fromkeys(FAILURES.names, "") | {"message": failure.message, "when": 0}
    pa.Table.from_pylist([row], schema=FAILURES)


def test_an_error_that_is_not_text_is_kept(texts: Path, database: str) -> None:
    """A failure whose message has a surrogate, as names of files may, is stored, with an escape."""
    failure = Failure("a/00.txt", "1", "read", "OSError", "cannot read caf\udce9")
    Ledger.create(database, "scripted", Scripted(), str(texts), "key")
    table = Table.open(database, "failures", "scripted")
    assert table
    fragments = write_failures(table, "scripted", "run", [failure])
    table.commit(fragments)
    assert table.dataset.to_table(["message"])["message"].to_pylist() == ["cannot read caf\\udce9"]
