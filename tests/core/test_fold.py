"""Fold: after the last commit the derived tables match the rows, after any kill and by any route."""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pytest
from test_detached import Later

import fanfold
import nursery
from fanfold import FanfoldError, UsageError
from fanfold.core import detached, recovery
from fanfold.core.catalog import list_runs
from fanfold.core.optimize import optimize
from fanfold.core.progress import Tally
from fanfold.core.repair import repair
from fanfold.core.report import account
from fanfold.core.runs import RunDirectory
from folds import Folded, FoldedDetails
from helpers import Here, changed

DRIVER = "import sys, folds; folds.main(*sys.argv[1:])"


def run(source: Path, database: str, **options: Any) -> fanfold.Report:
    """A whole run in this process."""
    begun = fanfold.run(Folded(**options), source=str(source), database=database, executor=Here())
    list(begun)
    return begun.report


def summary(database: str, name: str = "scripted_summary") -> dict[str, int]:
    """The content of the derived table."""
    (row,) = fanfold.open_table(database, name).to_table().to_pylist()
    return row


def versions(database: str) -> tuple[int, int]:
    """The versions of the derived tables; each fold makes one more of both."""
    summary, lengths = (fanfold.open_table(database, f"scripted_{name}").version for name in ("summary", "lengths"))
    return summary, lengths


def killed(source: Path, database: str, options: dict[str, str]) -> None:
    """Run a driver that is killed while it folds."""
    command = [sys.executable, "-c", DRIVER, source, database, json.dumps(options)]
    assert nursery.run(command, cwd=Path(__file__).parents[1]).returncode == -9


def test_a_run_derives_its_tables(texts: Path, database: str) -> None:
    """A run derives its tables from the newest versions, and a rerun without work keeps them."""
    (texts / "a" / "bad.txt").write_text("fail")
    run(texts, database)
    assert summary(database) == {"rows": 40, "failed": 1}
    assert fanfold.open_table(database, "scripted_lengths").count_rows() == 40
    before = versions(database)
    run(texts, database)
    assert versions(database) == before
    changed(texts / "a" / "bad.txt", "good at last")
    run(texts, database)
    assert summary(database) == {"rows": 41, "failed": 0}
    assert versions(database) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("moment", ["kill", "half"])
def test_a_fold_that_is_killed_is_done_by_the_next_run(moment: str, texts: Path, tmp_path: Path, database: str) -> None:
    """The next run does a fold that was killed before its first table or between two, in first and later runs."""
    trouble = tmp_path / "trouble"
    for rows in (40, 41):
        trouble.write_text(moment)
        killed(texts, database, {"trouble": str(trouble)})
        trouble.unlink()
        assert fanfold.open_table(database, "scripted").count_rows() == rows
        report = run(texts, database, trouble=str(trouble))
        assert (report.ok, report.unchanged) == (0, rows)
        assert summary(database)["rows"] == fanfold.open_table(database, "scripted_lengths").count_rows() == rows
        (texts / "a" / "more.txt").write_text("more")


def test_a_fold_that_fails_keeps_the_rows(texts: Path, tmp_path: Path, database: str) -> None:
    """An error in a fold says that the rows are safe and what to type; the report is written, and a retry can work."""
    trouble = tmp_path / "trouble"
    trouble.write_text("raise")
    with pytest.raises(FanfoldError) as failed:
        run(texts, database, trouble=str(trouble))
    assert "rows of table 'scripted' are safe" in str(failed.value)
    assert "RuntimeError: told to raise" in str(failed.value)
    assert f"fanfold fold {database} --table scripted" in str(failed.value)
    (id,) = list_runs(database)
    report, ended = account(RunDirectory(database, id))
    assert (ended, report.ok, report.lost) == ("complete", 40, 0)
    trouble.unlink()
    assert fanfold.fold(database) == {"scripted_summary": 1, "scripted_lengths": 40}
    assert summary(database)["rows"] == 40


def test_a_detached_run_folds_when_it_is_finished(texts: Path, database: str) -> None:
    """The container that commits a detached run derives the tables before it writes the report."""
    begun = fanfold.run(Folded(), source=str(texts), database=database, executor=Later(), task_size=10)
    begun.launch()
    list(detached.work(begun.directory, 0, 1, Here(), Tally()))
    assert recovery.finish(begun.directory).ok == 40
    assert summary(database)["rows"] == 40
    before = versions(database)
    recovery.finish(begun.directory)
    assert versions(database) == before


def test_fold_by_itself(texts: Path, database: str) -> None:
    """A fold can be repeated at any time with the same result; without a table, or a fold, the error says so."""
    with pytest.raises(UsageError, match="There is no table in"):
        fanfold.fold(database)
    run(texts, database)
    lance.dataset(f"{database}/scripted_summary.lance").delete("true")
    assert fanfold.fold(database, "scripted") == {"scripted_summary": 1, "scripted_lengths": 40}
    assert summary(database)["rows"] == 40
    with pytest.raises(UsageError, match=r"'scripted_summary' .* is not filled by runs"):
        fanfold.fold(database, "scripted_summary")


def test_a_fold_takes_no_others_table(texts: Path, database: str) -> None:
    """A fold never overwrites a table that it did not make, and a run does not write to a derived table."""
    begun = fanfold.run(Folded(), source=str(texts), database=database, table="other_summary", executor=Here())
    list(begun)
    with pytest.raises(FanfoldError, match="there is already a table called 'other_summary'"):
        list(fanfold.run(Folded(), source=str(texts), database=database, table="other", executor=Here()))
    assert fanfold.open_table(database, "other_summary").count_rows() == 40
    with pytest.raises(UsageError, match="not made by fanfold"):
        fanfold.run(Folded(), source=str(texts), database=database, table="other_summary_lengths", executor=Here())


def test_upkeep_keeps_derived_tables(texts: Path, database: str) -> None:
    """Optimize and repair know derived tables: they stay readable, and damaged ones are derived again."""
    run(texts, database)
    fanfold.fold(database)
    done = optimize(database, timedelta(0))
    assert set(done) == {"scripted", "failures", "scripted_summary", "scripted_lengths"}
    assert done["scripted_summary"]["old_versions"] > 0
    assert set(repair(database)) == set(done)
    assert summary(database)["rows"] == 40
    run(texts, database)
    assert summary(database)["rows"] == 40
    for file in Path(database, "scripted_lengths.lance", "data").iterdir():
        file.write_bytes(b"")
    assert repair(database)["scripted_lengths"].rows == 40
    run(texts, database)
    assert fanfold.open_table(database, "scripted_lengths").count_rows() == 40


def test_a_fold_sees_the_detail_tables(texts: Path, database: str) -> None:
    """A fold gets the job's table, each detail table by its short name, and the failures."""
    list(fanfold.run(FoldedDetails(), source=str(texts), database=database, executor=Here()))
    (row,) = fanfold.open_table(database, "scripted_counts").to_table().to_pylist()
    words, letters = (fanfold.open_table(database, f"scripted_{name}").count_rows() for name in ("words", "letters"))
    assert row == {"rows": 40, "failures": 0, "words": words, "letters": letters}
    assert words == 80
