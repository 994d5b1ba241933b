"""Recovery: what a dead run's receipts say is done gets into the tables, and never over anything newer."""

import json
from datetime import timedelta
from pathlib import Path

import fanfold
from fanfold import detached, ledger
from fanfold.planner import Tally
from fanfold.runs import list_runs
from helpers import Here
from jobs import Scripted
from test_detached import Later

NOBODY = 2**22 + 1  # above the largest process id Linux gives


def embed(source: Path, database: str) -> fanfold.Report:
    """A whole run."""
    run = fanfold.run(Scripted(), source=str(source), database=database)
    list(run)
    return run.report


def killed(run: Path) -> Path:
    """Make an ended run look as if its driver had been killed before its last words."""
    (run / "report.json").unlink()
    asked = json.loads((run / "run.json").read_text())
    asked["driver"]["pid"] = NOBODY
    (run / "run.json").write_text(json.dumps(asked))
    return run


def rows(database: str) -> dict[str, str]:
    """The texts in the table, by key."""
    table = fanfold.open_table(database, "scripted").to_table()
    return dict(zip(table["key"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_old_receipts_never_replace_newer_rows(tmp_path: Path, database: str) -> None:
    """Receipts that turn up after the items have changed and been done again change nothing."""
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
    """A run killed between its receipts and its commits has done its work."""
    embed(texts, database)
    (run,) = list_runs(database)
    killed(Path(database) / "_runs" / run)
    for table in ("scripted", "failures"):  # back to the empty version each table began with
        dataset = fanfold.open_table(database, table)
        dataset.checkout_version(1).restore()
    report = embed(texts, database)
    assert (report.unchanged, report.ok) == (40, 0)
    assert len(rows(database)) == 40


def test_cleaning_up_fills_in_no_failures_of_items_with_rows(tmp_path: Path, database: str) -> None:
    """An item that fails at a new version, and whose old row is there, is left to its run."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.txt").write_text(f"text {number}")
    embed(source, database)
    (source / "2.txt").write_text("fail now")
    (source / "new.txt").write_text("fail as well")
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later(), task_size=1)
    run.launch()
    list(detached.perform(run.directory, 0, 1, Here(), Tally()))
    before = set(rows(database))
    ledger.optimize(database, timedelta(0))
    assert set(rows(database)) == before
    assert fanfold.open_table(database, "failures").to_table()["key"].to_pylist() == ["new.txt"]
    report = detached.commit(run.directory)
    assert (report.unchanged, report.failed, report.lost) == (3, 2, 0)
    assert set(rows(database)) == before - {"2.txt"}
    assert sorted(fanfold.open_table(database, "failures").to_table()["key"].to_pylist()) == ["2.txt", "new.txt"]
