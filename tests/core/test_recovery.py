"""Recovery: the work in a dead run's receipts gets into the tables, and never replaces anything newer."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from test_detached import Later

import fanfold
from fanfold.core import detached, recovery
from fanfold.core.catalog import list_runs, unended
from fanfold.core.optimize import optimize
from fanfold.core.progress import Tally
from fanfold.core.runs import RunDirectory
from helpers import Here
from jobs import Scripted

NOBODY = 2**22 + 1  # above the largest process id of Linux


def embed(source: Path, database: str) -> fanfold.Report:
    """A whole run."""
    run = fanfold.run(Scripted(), source=str(source), database=database)
    list(run)
    return run.report


def killed(run: Path) -> Path:
    """Make an ended run look as if its driver had been killed just before it recorded the end."""
    (run / "report.json").unlink()
    (run.parents[1] / "_ended" / run.name).unlink()
    asked = json.loads((run / "run.json").read_text())
    asked["driver"]["pid"] = NOBODY
    (run / "run.json").write_text(json.dumps(asked))
    return run


def rows(database: str) -> dict[str, str]:
    """The texts in the table, by key."""
    table = fanfold.open_table(database, "scripted").to_table()
    return dict(zip(table["key"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_old_receipts_never_replace_newer_rows(tmp_path: Path, database: str) -> None:
    """Old receipts that turn up after the items have changed and been done again change nothing."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.txt").write_text("old")
    (source / "bad.txt").write_text("fail old")
    embed(source, database)
    (old,) = list_runs(database)
    hidden = killed(Path(database) / "_runs" / old).rename(tmp_path / "hidden")
    (source / "good.txt").write_text("new, longer")
    (source / "bad.txt").write_text("good at last")
    assert embed(source, database).ok == 2
    hidden.rename(Path(database) / "_runs" / old)
    assert embed(source, database).unchanged == 2
    assert rows(database) == {"good.txt": "new, longer", "bad.txt": "good at last"}
    assert fanfold.open_table(database, "failures").count_rows() == 0
    assert json.loads((Path(database) / "_runs" / old / "report.json").read_text())["ended"] == "interrupted"


def test_receipts_that_were_not_committed_are(texts: Path, database: str) -> None:
    """The work of a run that was killed between its receipts and its commits is kept."""
    embed(texts, database)
    (run,) = list_runs(database)
    killed(Path(database) / "_runs" / run)
    for table in ("scripted", "failures"):  # back to the empty version that each table began with
        dataset = fanfold.open_table(database, table)
        dataset.checkout_version(1).restore()
    report = embed(texts, database)
    assert (report.unchanged, report.ok) == (40, 0)
    assert len(rows(database)) == 40


def test_cleaning_up_fills_in_no_failures_of_items_with_rows(tmp_path: Path, database: str) -> None:
    """Cleaning up leaves an item that fails at a new version, and has an old row, to its run."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.txt").write_text(f"text {number}")
    embed(source, database)
    (source / "2.txt").write_text("fail now")
    (source / "new.txt").write_text("fail as well")
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later(), task_size=1)
    run.launch()
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    before = set(rows(database))
    optimize(database, timedelta(0))
    assert set(rows(database)) == before
    assert fanfold.open_table(database, "failures").to_table()["key"].to_pylist() == ["new.txt"]
    report = recovery.finish(run.directory)
    assert (report.unchanged, report.failed, report.lost) == (3, 2, 0)
    assert set(rows(database)) == before - {"2.txt"}
    assert sorted(fanfold.open_table(database, "failures").to_table()["key"].to_pylist()) == ["2.txt", "new.txt"]


def test_runs_that_ended_are_not_looked_up(texts: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery reads nothing of runs that have ended; it reads unmarked runs of older versions once."""
    for _ in range(4):
        embed(texts, database)
    first, dead, *_ = list_runs(database)
    (Path(database) / "_ended" / first).unlink()
    killed(Path(database) / "_runs" / dead)
    asked: Counter[str] = Counter()
    get = RunDirectory.get

    def counted(self: RunDirectory, name: str) -> Any:
        asked[self.id] += 1
        return get(self, name)

    monkeypatch.setattr(RunDirectory, "get", counted)
    assert [run.id for run in unended(database)] == [dead]
    assert asked == {first: 1, dead: 1}
    assert [run.id for run in unended(database)] == [dead]
    assert asked == {first: 1, dead: 2}
    assert unended(database, but=dead) == []
    assert asked == {first: 1, dead: 2}


def test_what_a_run_was_asked_is_read_once(texts: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's request is read once; missing fields have empty values, and a torn file is read again."""
    embed(texts, database)
    (id,) = list_runs(database)
    run, file = RunDirectory(database, id), Path(database, "_runs", id, "run.json")
    content = file.read_text()
    file.write_text(content[:-9])
    assert (run.asked.id, run.asked.table) == ("", "")
    file.write_text(content)
    assert (run.asked.id, run.asked.table, run.asked.sources, run.asked.mirror) == (id, "scripted", [str(texts)], "")
    assert run.asked.load_job() == Scripted()
    monkeypatch.setattr(RunDirectory, "get", None)
    assert run.asked.options["task_size"] == 1000
    monkeypatch.undo()
    run.put("run.json", {"table": "other"})
    assert (run.asked.id, run.asked.table, run.asked.root, run.asked.fold) == (id, "other", "", False)


def test_rows_that_could_not_be_replaced_are_not_called_ok(tmp_path: Path, database: str) -> None:
    """A run that ends after a later one on its table replaces nothing, and reports its changed items as lost."""
    for name, text in (("a/1.txt", "old"), ("a/2.txt", "old"), ("b/1.txt", "other")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert embed(tmp_path, database).ok == 3
    (tmp_path / "a" / "1.txt").write_text("new, longer")
    (tmp_path / "a" / "3.txt").write_text("added")
    begun = fanfold.run(Scripted(), source=str(tmp_path / "a"), database=database, executor=Later(), task_size=1)
    begun.launch()
    assert len(list(detached.work(begun.directory, 0, 1, Here(), Tally()))) == 2
    (tmp_path / "b" / "2.txt").write_text("a later run has something to do")
    assert embed(tmp_path / "b", database).ok == 1
    report = recovery.finish(begun.directory)
    assert (report.listed, report.unchanged, report.ok, report.lost, report.exit_code) == (3, 1, 1, 1, 1)
    assert list(report.reasons) == ["a later run was at work on this table; run again"]
    assert rows(database)["a/1.txt"] == "old"
    assert embed(tmp_path / "a", database).ok == 1
    assert rows(database) == {
        "a/1.txt": "new, longer",
        "a/2.txt": "old",
        "a/3.txt": "added",
        "b/1.txt": "other",
        "b/2.txt": "a later run has something to do",
    }
