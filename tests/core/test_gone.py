"""Unreadable data: a source that vanishes during a run, and items that may be back in the next run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_detached import Later

import fanfold
from commands import fanfold as command
from fanfold.cli.planned import show_plan
from fanfold.core import detached, recovery
from fanfold.core.catalog import list_runs
from fanfold.core.failures import failed
from fanfold.core.progress import Tally
from fanfold.core.report import account
from fanfold.core.runs import RunDirectory
from fanfold.errors import SourceGone
from fanfold.source.place import Places
from fanfold.storage import open_store
from faults import MOMENTS, drive, fill, hold, listed_of, settle, signs, upload, wait_for
from helpers import Here, embed, failures, rows
from jobs import Scripted

# --- a source that vanishes -----------------------------------------------------------------------------------


def moved(source: Path) -> None:
    source.rename(source.with_name("elsewhere"))


def unmounted(source: Path) -> None:
    """Leave what a network disk leaves behind: the folder it was mounted on."""
    moved(source)
    source.mkdir()


def exchanged(source: Path) -> None:
    """Put another disk in the same place."""
    moved(source)
    source.mkdir()
    (source / "other.txt").write_text("other")


@pytest.mark.parametrize("vanish", [moved, unmounted, exchanged])
def test_a_folder_that_vanishes_ends_the_run(vanish: Callable[[Path], None], tmp_path: Path, database: str) -> None:
    """The run exits with 1 and says so; no item fails because of it, and finished work is kept for the next run."""
    source = tmp_path / "source"
    fill(source, 60, failing=999)
    hold(source, 50, until=tmp_path / "vanished")
    workers = 1 if vanish is exchanged else 2  # one that starts later would take the other disk for the source
    driver = drive(source, database, workers=workers, task_size=5)
    wait_for(lambda: len(signs(database, MOMENTS["receipt"])) >= 3)
    vanish(source)
    (tmp_path / "vanished").touch()
    code, _, err = driver.end()
    assert code == 1
    assert f"The source {source} is not there any more" in err
    assert "Run the same command again" in err
    done = len(rows(database))
    assert 15 <= done < 60
    assert not failures(database)
    (id,) = list_runs(database)
    report, ended = account(RunDirectory(database, id))
    assert (ended, report.ok, report.exit_code) == ("interrupted", done, 1)
    assert sum(report.reasons.values()) == report.lost == 60 - done
    assert all("is not there any more" in why for why in report.reasons)
    shutil.rmtree(source, ignore_errors=True)
    source.with_name("elsewhere").rename(source)
    report = settle(source, database)
    assert (report.unchanged, report.ok) == (done, 60 - done)


def test_a_bucket_that_vanishes_ends_the_run(bucket: str, tmp_path: Path, database: str) -> None:
    """The same for a prefix of an object store, after all its objects are deleted."""
    fill(tmp_path / "source", 40, failing=99)
    hold(tmp_path / "source", 32, until=tmp_path / "vanished")
    upload(tmp_path / "source", f"{bucket}/source")
    driver = drive(f"{bucket}/source", database, task_size=4)
    wait_for(lambda: len(signs(database, MOMENTS["receipt"])) >= 2)
    store = open_store(f"{bucket}/source")
    store.delete([meta["path"] for chunk in store.list() for meta in chunk])
    (tmp_path / "vanished").touch()
    code, _, err = driver.end()
    assert (code, f"The source {bucket}/source is not there any more" in err) == (1, True), err
    assert not failures(database)
    upload(tmp_path / "source", f"{bucket}/source")
    assert set(rows(database)) < set(listed_of(f"{bucket}/source"))
    report = embed(f"{bucket}/source", database)
    assert (report.lost, report.failed, len(rows(database))) == (0, 0, 40)


def test_a_detached_share_whose_source_vanishes_ends(tmp_path: Path, database: str) -> None:
    """A share ends with the error, and the run's commit finds the reason for the lost items."""
    source = tmp_path / "source"
    fill(source, 20, failing=99)
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later(), task_size=5)
    run.launch()
    outcomes = detached.work(run.directory, 0, 1, Here(), Tally())
    next(outcomes)
    moved(source)
    with pytest.raises(fanfold.StorageError, match="not there any more"):
        list(outcomes)
    report = recovery.finish(run.directory)
    assert (report.ok, report.failed, report.lost) == (5, 0, 15)
    assert any("not there any more" in why for why in report.reasons)
    code, out, _ = command("report", database)
    assert (code, "5 lost: The source" in out) == (1, True), out
    code, out, _ = command("report", database, "--json")
    assert json.loads(out)["reasons"] == dict(report.reasons)


def test_a_single_file_that_is_gone_is_its_own_fault(tmp_path: Path, database: str) -> None:
    """An item that is removed between listing and reading fails alone, and the run continues."""
    source = tmp_path / "source"
    fill(source, 10, failing=99)
    (source / "a" / "gate.txt").write_text(f"wait {tmp_path / 'go'}")
    driver = drive(source, database, workers=1, task_size=50)
    wait_for(lambda: signs(database, MOMENTS["manifest"]))
    (source / "b" / "009.txt").unlink(missing_ok=True)
    (tmp_path / "go").touch()
    code, out, err = driver.end()
    assert code in (0, 3), err
    assert json.loads(out)["lost"] == 0


@pytest.mark.parametrize("vanish", [moved, unmounted, exchanged])
def test_a_place_knows_that_it_is_gone(vanish: Callable[[Path], None], tmp_path: Path) -> None:
    """A folder that was replaced is an error; a folder that gains and loses files is not."""
    source = tmp_path / "source"
    fill(source, 4)
    places = Places([str(source)])
    places.check()
    (source / "a" / "000.txt").unlink()
    (source / "more.txt").write_text("more")
    places.check()
    vanish(source)
    with pytest.raises(SourceGone, match="not there any more"):
        places.check()


def test_lists_and_pages_have_no_place(tmp_path: Path) -> None:
    """The items of a list are in many places, each of which may be down, so they fail one by one."""
    (tmp_path / "list.txt").write_text("https://127.0.0.1:9/x.jpg\n")
    assert not Places([str(tmp_path / "list.txt"), "https://127.0.0.1:9/x.jpg", "s3://bucket/list.txt"]).places
    addresses = ["s3://bucket/a/x.jpg", "s3://bucket/a", "s3://bucket", str(tmp_path)]
    assert [place.address for place in Places(addresses).places] == ["s3://bucket/a", "s3://bucket", str(tmp_path)]


# --- items that cannot be read --------------------------------------------------------------------------------


def sick(source: Path) -> None:
    """Five good texts, two that cannot be decoded, one over the job's size limit, and three that will be away."""
    source.mkdir()
    for number in range(5):
        (source / f"good{number}.txt").write_text("text")
    for number in range(2):
        (source / f"bad{number}.txt").write_text("fail")
    (source / "large.txt").write_bytes(bytes((1 << 20) + 1))
    for number in range(3):
        (source / f"shy{number}.txt").write_text("text")


def with_files_away(source: Path, database: str) -> fanfold.Report:
    """Run while three files are away during reading; they are back, unchanged, when the run has ended."""
    away = source.with_name("away")
    away.mkdir()
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later())
    run.launch()
    for file in sorted(source.glob("shy*")):
        file.rename(away / file.name)
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    for file in away.iterdir():
        file.rename(source / file.name)
    return recovery.finish(run.directory)


def test_what_could_not_be_read_is_tried_again_by_every_run(tmp_path: Path, database: str) -> None:
    """A plain rerun reads them again; only --retry-failed retries items that cannot be decoded or are too large."""
    source = tmp_path / "source"
    sick(source)
    report = with_files_away(source, database)
    assert (report.listed, report.ok, report.failed, report.unread, report.lost) == (11, 5, 6, 3, 0)
    assert {key for key, row in failures(database).items() if row["stage"] == "read"} == {
        *("large.txt", "shy0.txt", "shy1.txt", "shy2.txt")
    }
    plan = fanfold.preview(Scripted(), source=str(source), database=database, workers=1)
    assert (plan.unchanged, plan.unread, plan.failed_before, plan.new, plan.todo) == (5, 3, 3, 0, 3)
    report = embed(source, database)
    assert (report.listed, report.unchanged, report.ok, report.failed, report.unread, report.lost) == (
        11,
        5,
        3,
        3,
        0,
        0,
    )
    report = embed(source, database)
    assert (report.unchanged, report.ok, report.failed, report.lost) == (8, 0, 3, 0)
    report = embed(source, database, retry_failed=True)
    assert (report.unchanged, report.ok, report.failed, report.unread, report.lost) == (8, 0, 3, 0, 0)
    assert set(failures(database)) == {"bad0.txt", "bad1.txt", "large.txt"}


def test_what_still_cannot_be_read_has_its_newest_reason(tmp_path: Path, database: str) -> None:
    """A missing address of a list fails once in every run, and is done once it is there."""
    (tmp_path / "here.txt").write_text("text")
    listing = tmp_path / "all.list"
    listing.write_text("here.txt\nthere.txt\n")
    for number in range(3):
        report = embed(listing, database)
        assert (report.unchanged, report.ok, report.failed, report.unread) == (min(number, 1), int(not number), 1, 1)
        assert [row["run"] for row in failures(database).values()] == [report.run]
    (tmp_path / "there.txt").write_text("text")
    report = embed(listing, database)
    assert (report.unchanged, report.ok, report.failed, report.exit_code) == (1, 1, 0, 0)
    assert not failures(database)


def test_retry_failed_is_named_where_it_would_help(tmp_path: Path, database: str) -> None:
    """Reports, lists of failures and plans say what retries failed items: the next run alone, or the flag."""
    source = tmp_path / "source"
    sick(source)
    with_files_away(source, database)
    _, told, _ = command("report", database)
    assert "the next run retries 3 of them; `--retry-failed` retries all of them" in told
    _, _, told = command("failures", database)
    assert "The next run retries 3 of them. `--retry-failed` retries all of them." in told
    embed(source, database)
    _, told, _ = command("report", database)
    assert "next run" not in told
    assert "`--retry-failed` retries all of them" in told
    for file in (*source.glob("bad*"), source / "large.txt"):
        file.unlink()
    (source / "shy.txt").write_text("text")
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later())
    run.launch()
    (source / "shy.txt").unlink()
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    recovery.finish(run.directory)
    _, told, _ = command("report", database)
    assert "the next run retries them" in told
    assert "--retry-failed" not in told


# --- failures of items that are gone --------------------------------------------------------------------------


def gone_by_key(database: str, table: str | None = None) -> dict[str, bool | None]:
    return {row["key"]: row["gone"] for row in failed(database, table, check=True)}


@pytest.mark.parametrize("ids", ["key", "stem"])
def test_failures_of_items_that_are_gone_are_marked(ids: str, tmp_path: Path, database: str) -> None:
    """With --check, the list of failures says which items have left their source; rows stay as they are."""
    source = tmp_path / "source"
    sick(source)
    embed(source, database, ids=ids)
    (source / "bad0.txt").unlink()
    ending = ".txt" if ids == "key" else ""
    expected = {f"bad0{ending}": True, f"bad1{ending}": False, f"large{ending}": False}
    assert gone_by_key(database) == expected
    assert all("gone" not in row for row in failed(database))
    code, out, err = command("failures", database, "--check")
    assert (code, out.count("[gone from its source]")) == (0, 1)
    assert "Gone from their source: 1. Runs do not retry those." in err
    code, out, _ = command("failures", database, "--check", "--json")
    assert {row["key"]: row["gone"] for row in map(json.loads, out.splitlines())} == expected
    (source / "bad0.txt").write_text("fail again")
    assert gone_by_key(database)[f"bad0{ending}"] is False


def test_what_cannot_be_listed_is_not_called_gone(tmp_path: Path, database: str) -> None:
    """If a source, or a part of it, is away, it is unknown whether its items are gone; other items are known."""
    for name in ("one", "two"):
        fill(tmp_path / name, 10, failing=5)
        embed(tmp_path / name, database, table=name)
    moved(tmp_path / "one")
    (tmp_path / "two" / "a" / "002.txt").unlink()
    assert set(gone_by_key(database, "one").values()) == {None}
    assert gone_by_key(database, "two") == {"a/002.txt": True, "b/007.txt": False}
    _, out, err = command("failures", database, "--check")
    assert (out.count("[its source cannot be listed now]"), out.count("[gone from its source]")) == (2, 1)
    assert "Unknown, because their source cannot be listed now: 2." in err


def test_failures_of_several_runs_are_looked_for_in_each_source(tmp_path: Path, database: str) -> None:
    """For a table filled from several folders, the sources of every run are listed, even those since outgrown."""
    fill(tmp_path / "source", 10, failing=5)
    embed(tmp_path / "source", database)
    (tmp_path / "source" / "c").mkdir()
    (tmp_path / "source" / "c" / "bad.txt").write_text("fail")
    embed(tmp_path / "source" / "c", database)
    (tmp_path / "source" / "a" / "002.txt").unlink()
    assert gone_by_key(database) == {"a/002.txt": True, "b/007.txt": False, "c/bad.txt": False}


def test_failures_of_a_bucket_are_checked(bucket: str, tmp_path: Path, database: str) -> None:
    """The same for an object store; an empty prefix cannot be listed."""
    fill(tmp_path / "source", 10, failing=5)
    upload(tmp_path / "source", bucket)
    embed(bucket, database)
    store = open_store(bucket)
    store.delete("a/002.txt")
    assert gone_by_key(database) == {"a/002.txt": True, "b/007.txt": False}
    store.delete([meta["path"] for chunk in store.list() for meta in chunk])
    assert set(gone_by_key(database).values()) == {None}


def test_failures_of_a_run_that_nobody_remembers(tmp_path: Path, database: str) -> None:
    """Without the run's directory it is unknown what was listed, so no item is called gone."""
    fill(tmp_path / "source", 10, failing=5)
    embed(tmp_path / "source", database)
    shutil.rmtree(Path(database, "_runs"))
    assert set(gone_by_key(database).values()) == {None}


# --- reasons of what is lost ----------------------------------------------------------------------------------


def test_reasons_of_lost_tasks_are_kept_and_shown(tmp_path: Path, database: str) -> None:
    """A report says why tasks were given up and how many items each reason cost: in text, as JSON, and later on."""
    source = tmp_path / "source"
    fill(source, 20, failing=99)
    (source / "a" / "000.txt").write_text("raise")
    (source / "a" / "010.txt").write_text("stranger")
    report = embed(source, database, task_size=1)
    assert (report.ok, report.lost, report.exit_code) == (18, 2, 1)
    assert len(report.reasons) == 2
    assert report.reasons["RuntimeError: told to raise"] == 1
    _, told, _ = command("report", database)
    assert "1 lost: RuntimeError: told to raise" in told
    _, told, _ = command("report", database, "--json")
    assert json.loads(told)["reasons"] == dict(report.reasons)
    Path(database, "_runs", report.run, "report.json").unlink()
    assert account(RunDirectory(database, report.run))[0].reasons == report.reasons


def test_equal_reasons_are_counted_together_and_many_are_bounded() -> None:
    """For any number of lost tasks, a report names the few most frequent reasons, in order, and counts the others."""
    from fanfold.core.report import REASONS, bounded

    told = bounded({f"reason\n {number} " + "x" * 999: 1 + number for number in range(100)})
    assert len(told) == REASONS + 1
    assert next(iter(told)).startswith("reason 99 xx")
    assert list(told)[-1] == "other reasons"
    assert sum(told.values()) == sum(range(1, 101))
    assert max(map(len, told)) <= 300
    assert bounded({"a\nb": 1, "a b": 2}) == {"a b": 3}


def test_a_task_that_a_later_attempt_has_done_is_not_lost(tmp_path: Path, database: str) -> None:
    """A share that is performed again keeps no reason from the first attempt."""
    source = tmp_path / "source"
    fill(source, 10, failing=99)
    (source / "a" / "000.txt").write_text("raise")
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later(), task_size=5)
    run.launch()
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    lost = account(run.directory)[0]
    assert (lost.lost, dict(lost.reasons)) == (5, {"RuntimeError: told to raise": 5})
    before = (source / "a" / "000.txt").stat()
    (source / "a" / "000.txt").write_text("texts")
    os.utime(source / "a" / "000.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    report = recovery.finish(run.directory)
    assert (report.ok, report.lost, dict(report.reasons)) == (10, 0, {})


def test_a_plan_says_what_is_tried_again(capsys: pytest.CaptureFixture[str], tmp_path: Path, database: str) -> None:
    """Plans count unread items apart from failed ones, and name the flag only for failed ones."""
    source = tmp_path / "source"
    sick(source)

    def told() -> str:
        show_plan(fanfold.preview(Scripted(), source=str(source), database=database, workers=1), False, {})
        return " ".join(capsys.readouterr().out.split())

    assert "--retry-failed" not in told()
    with_files_away(source, database)
    assert "3 could not be read before (retried) 3 failed before, at this version (`--retry-failed`" in told()
    embed(source, database)
    assert "could not be read before" not in told()
    for file in (*source.glob("bad*"), source / "large.txt"):
        file.unlink()
    assert "0 failed before, at this version" in (plan := told())
    assert "--retry-failed" not in plan
