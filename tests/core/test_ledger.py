"""The ledger has exactly one row or one failure per item, whatever is published in whatever order."""

import os
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fanfold
from fanfold import Item, RecipeMismatch, SourceMismatch, UsageError
from fanfold.core.catalog import list_runs
from fanfold.core.ledger import Ledger, slices
from fanfold.core.optimize import optimize, optimize_table
from fanfold.core.recovery import commit_receipts, is_newest, recover
from fanfold.core.report import account, is_under_way
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.core.table import Table
from fanfold.core.worker import Worker, write_failures
from fanfold.job import Failure, spec
from fanfold.source import open_source
from helpers import TXT, changed, embed, failures, rows, texts_of
from jobs import SCHEMA, Scripted

NOBODY = 2**22 + 1  # above the largest process id of Linux


def worked(folder: Path, database: str, *, task_size: int = 10) -> tuple[RunDirectory, list[Outcome]]:
    """A run whose workers have done everything and whose driver died before its first commit."""
    job = Scripted()
    Ledger.open(database, job.name) or Ledger.create(database, job.name, job, str(folder), "key")
    run = RunDirectory.create(
        database, job=spec(job), recipe=dict(job.recipe()), table=job.name, root=str(folder), options={}
    )
    asked = run.get("run.json")
    assert asked is not None
    asked["driver"]["pid"] = NOBODY
    run.put("run.json", asked)
    worker = Worker(database, run.id)
    items = sorted(open_source(str(folder)).list(TXT), key=lambda item: item.key)
    slices = [items[start : start + task_size] for start in range(0, len(items), task_size)]
    return run, [worker.perform(run.write_manifest(number, some)) for number, some in enumerate(slices)]


def opened(database: str) -> Ledger:
    """The database's ledger, up to date."""
    ledger = Ledger.open(database, "scripted")
    assert ledger
    ledger.refresh()
    return ledger


def where(database: str) -> tuple[set[str], set[str]]:
    """The keys with a row and the keys with a failure; no key may have both."""
    done, failed = set(rows(database)), set(failures(database))
    assert not done & failed
    return done, failed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good file and one that fails."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "good.txt").write_text("good")
    (folder / "bad.txt").write_text("fail")
    return folder


# Fitting


def test_another_recipe_is_refused(folder: Path, database: str) -> None:
    """The message names both recipes and the option that would work."""
    embed(folder, database)
    with pytest.raises(RecipeMismatch) as caught:
        embed(folder, database, Scripted(recipe_name="fancy"))
    said = str(caught.value)
    assert "Table 'scripted' was made by recipe plain, but this run is recipe fancy" in said
    assert "--table scripted_2" in said
    assert caught.value.exit_code == 2
    assert embed(folder, database, Scripted(recipe_name="fancy"), table="scripted_2").ok == 1


def test_the_name_proposed_is_free(folder: Path, database: str) -> None:
    """Errors about another recipe or another source propose a table name that is not taken."""
    embed(folder, database)
    embed(folder, database, Scripted(recipe_name="second"), table="scripted_2")
    with pytest.raises(RecipeMismatch, match="--table scripted_3"):
        embed(folder, database, Scripted(recipe_name="third"))
    with pytest.raises(RecipeMismatch, match="--table scripted_2_2"):
        embed(folder, database, Scripted(recipe_name="third"), table="scripted_2")
    (folder.parent / "elsewhere").mkdir()
    with pytest.raises(SourceMismatch, match="--table scripted_3"):
        embed(folder.parent / "elsewhere", database)


def test_a_failure_that_fails_again_has_the_new_reason(folder: Path, database: str) -> None:
    """An item that fails again has only its latest reason, and the run that gave it."""
    (folder / "bad.txt").write_text("fail")
    first = embed(folder, database)
    before = failures(database)
    again = embed(folder, database, Scripted(reason="told otherwise"), retry_failed=True)
    after = failures(database)
    assert len(after) == first.failed == again.failed
    assert {row["run"] for row in before.values()} == {first.run}
    assert {(row["run"], row["message"]) for row in after.values()} == {(again.run, "told otherwise")}
    assert len(fanfold.open_table(database, "failures").to_table()) == len(after)
    run = RunDirectory(database, first.run)
    ledger = Ledger.open(database, "scripted")
    assert ledger
    commit_receipts(ledger, run, fill=False)  # published once more, as by a slow driver
    assert failures(database) == after


@dataclass(frozen=True)
class Wider(Scripted):
    """The same job in a later version, with one more column and another type for one."""

    def schema(self) -> pa.Schema:
        text = SCHEMA.get_field_index("text")
        return SCHEMA.set(text, pa.field("text", pa.large_string())).append(pa.field("length", pa.int32()))


def test_other_columns_are_refused(folder: Path, database: str) -> None:
    """A table with other columns than the job writes now is refused before any work, with the differences."""
    embed(folder, database)
    with pytest.raises(UsageError, match=r"text .string there, large_string here., length .absent there"):
        embed(folder, database, Wider())


def test_options_that_are_no_recipe_may_change(folder: Path, database: str) -> None:
    """An option that does not change the results does not need another table."""
    embed(folder, database)
    assert embed(folder, database, Scripted(pause=0.001)).unchanged == 1


@pytest.mark.parametrize("kind", ["parent", "sibling", "list", "prefix"])
def test_another_source_is_refused(kind: str, folder: Path, database: str, tmp_path: Path) -> None:
    """A source outside the table's own source is refused, with both names and what to do."""
    embed(folder, database)
    (tmp_path / "source2").mkdir()
    (tmp_path / "some.txt").write_text("source/good.txt")
    other = {"parent": tmp_path, "sibling": tmp_path / "source2", "list": tmp_path / "some.txt", "prefix": "s3://b"}
    with pytest.raises(SourceMismatch) as caught:
        embed(other[kind], database)
    said = str(caught.value)
    assert f"holds the items of {folder}" in said
    assert ("a list of addresses" if kind == "list" else str(other[kind])) in said
    assert "--table scripted_2" in said


def test_a_folder_cannot_join_a_list(folder: Path, database: str, tmp_path: Path) -> None:
    """A table of whole addresses takes another list, but no relative keys."""
    (tmp_path / "one.txt").write_text("source/good.txt")
    (tmp_path / "other.txt").write_text("source/good.txt\nsource/bad.txt")
    embed(tmp_path / "one.txt", database)
    with pytest.raises(SourceMismatch, match="lists of addresses"):
        embed(folder, database)
    report = embed(tmp_path / "other.txt", database)
    assert (report.unchanged, report.failed) == (1, 1)


def test_a_subfolder_keeps_the_keys(texts: Path, database: str) -> None:
    """A part of the source finds its items done, and adds new ones under the old root."""
    embed(texts, database)
    (texts / "b" / "new.txt").write_text("new")
    report = embed(texts / "b", database)
    assert (report.listed, report.unchanged, report.ok) == (21, 20, 1)
    assert "b/new.txt" in rows(database)
    assert len(rows(database)) == 41


def test_other_names_for_items_are_refused(folder: Path, database: str) -> None:
    """A table of keys refuses stems, and the message names the option it was made with."""
    embed(folder, database)
    with pytest.raises(UsageError, match="--id key, not with --id stem"):
        embed(folder, database, ids="stem")


def test_a_foreign_table_is_left_alone(folder: Path, database: str) -> None:
    """A table that fanfold did not make is refused."""
    Table.create(database, "scripted", SCHEMA)
    with pytest.raises(UsageError, match="not made by fanfold"):
        embed(folder, database)


# Publishing


def test_publishing_again_changes_nothing(folder: Path, database: str) -> None:
    """Publishing the same outcomes again, in any order, leaves both tables at their version."""
    _, outcomes = worked(folder, database, task_size=1)
    ledger = opened(database)
    ledger.publish(outcomes)
    versions = [fanfold.open_table(database, name).version for name in ("scripted", "failures")]
    for again in (outcomes, outcomes[::-1], outcomes[:1]):
        ledger.publish(again)
        opened(database).publish(again)
    assert [fanfold.open_table(database, name).version for name in ("scripted", "failures")] == versions
    assert where(database) == ({"good.txt"}, {"bad.txt"})


def test_failing_at_a_new_version_loses_the_old_row(folder: Path, database: str) -> None:
    """An item whose content became bad keeps no row of its old content."""
    embed(folder, database)
    changed(folder / "good.txt", "fail now")
    report = embed(folder, database)
    assert (report.ok, report.failed) == (0, 2)
    assert where(database) == (set(), {"good.txt", "bad.txt"})


def test_a_repaired_item_leaves_the_failures(folder: Path, database: str) -> None:
    """An item that changes and then succeeds has a row and no failure."""
    embed(folder, database)
    changed(folder / "bad.txt", "repaired")
    assert embed(folder, database).ok == 1
    assert where(database) == ({"good.txt", "bad.txt"}, set())


def test_a_retried_item_leaves_the_failures(folder: Path, database: str) -> None:
    """An item that failed for a temporary reason is retried only on request, and then leaves the failures."""
    embed(folder, database, Scripted(failing=True))
    assert where(database) == (set(), {"good.txt", "bad.txt"})
    report = embed(folder, database)
    assert (report.ok, report.failed, report.unchanged) == (0, 2, 0)
    report = embed(folder, database, retry_failed=True)
    assert (report.ok, report.failed) == (1, 1)
    assert where(database) == ({"good.txt"}, {"bad.txt"})


def test_a_failure_of_a_new_version_replaces_the_old_one(folder: Path, database: str) -> None:
    """The failures table shows the item's current version, once."""
    embed(folder, database)
    before = failures(database)["bad.txt"]["version"]
    changed(folder / "bad.txt", "fail again")
    embed(folder, database)
    assert failures(database)["bad.txt"]["version"] != before


def test_failures_of_two_tables_do_not_mix(folder: Path, database: str) -> None:
    """Two tables of one database share a failures table, and each has its own failures there."""
    embed(folder, database)
    embed(folder, database, Scripted(recipe_name="other", failing=True), table="other")
    found = fanfold.open_table(database, "failures").to_table().to_pylist()
    assert sorted((row["table"], row["key"]) for row in found) == [
        ("other", "bad.txt"),
        ("other", "good.txt"),
        ("scripted", "bad.txt"),
    ]
    assert embed(folder, database).failed == 1


def test_a_key_in_both_tables_is_put_right(folder: Path, database: str) -> None:
    """A crash between the two commits leaves a key in both tables; the row is right, and the failure is removed."""
    run, outcomes = worked(folder, database)
    ledger = opened(database)
    ledger.publish(outcomes)
    (row,) = fanfold.open_table(database, "failures").to_table().to_pylist()
    twin = Table.open(database, "failures", scope="scripted")
    assert twin
    failure = Failure("good.txt", row["version"], "decode", "E", "left by a crash")
    twin.commit(write_failures(twin, "scripted", run.id, [failure]))
    opened(database)
    assert where(database) == ({"good.txt"}, {"bad.txt"})


steps = st.lists(
    st.tuples(
        st.sampled_from(["write good", "write bad", "run", "retry", "publish all", "compact"]), st.integers(0, 2)
    ),
    max_size=12,
)


@given(steps)
@settings(max_examples=settings.default.max_examples // 3)  # each takes a tenth of a second or more
def test_whatever_happens_every_item_is_in_one_table(
    tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[str, int]]
) -> None:
    """After any mix of changed files, runs, republished outcomes and compactions, one run repairs everything."""
    home = tmp_path_factory.mktemp("story")
    folder, database = home / "source", str(home / "db")
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("good")
    embed(folder, database)
    for what, number in happened:
        file = folder / f"{number}.txt"
        if what.startswith("write"):
            changed(file, "good" if what == "write good" else "fail")
        elif what in ("run", "retry"):
            embed(folder, database, retry_failed=what == "retry")
        elif what == "compact":
            optimize(database, timedelta(0))
        else:
            for id in list_runs(database):
                opened(database).publish(list(RunDirectory(database, id).receipts()))
    report = embed(folder, database)
    texts = {f"{number}.txt": (folder / f"{number}.txt").read_text() for number in range(3)}
    assert texts_of(database) == {key: text for key, text in texts.items() if text == "good"}
    assert where(database)[1] == {key for key, text in texts.items() if text == "fail"}
    assert (report.listed, report.lost, report.failed) == (3, 0, sum(text == "fail" for text in texts.values()))


# Recovering


def test_a_dead_runs_work_is_not_done_again(texts: Path, database: str) -> None:
    """Work that has receipts is committed, and the next plan finds it unchanged."""
    (texts / "a" / "00.txt").write_text("fail")
    run, _ = worked(texts, database)
    report = embed(texts, database)
    assert (report.ok, report.unchanged, report.failed) == (0, 39, 1)
    assert len(rows(database)) == 39
    ended = run.get("report.json")
    assert ended is not None
    assert (ended["ended"], ended["ok"], ended["failed"]) == ("interrupted", 39, 1)


def test_receipts_whose_files_are_gone_are_done_again(texts: Path, database: str) -> None:
    """A receipt whose fragment was swept counts for nothing; its items are planned again, and others are not."""
    _, outcomes = worked(texts, database)
    for file in outcomes[1].rows[0]["files"]:
        (Path(database) / "scripted.lance" / "data" / file["path"]).unlink()
    report = embed(texts, database)
    assert (report.ok, report.unchanged, report.lost) == (10, 30, 0)
    assert len(rows(database)) == 40


def test_torn_receipts_are_done_again(texts: Path, database: str) -> None:
    """A receipt that a failing disk cut short does not count."""
    run, _ = worked(texts, database)
    receipt = Path(run.address) / "receipts" / "000002.json"
    receipt.write_bytes(receipt.read_bytes()[:100])
    report = embed(texts, database)
    assert (report.ok, report.unchanged) == (10, 30)


def test_recovering_after_a_compaction(texts: Path, database: str) -> None:
    """Fragments that were committed and then compacted are not added a second time."""
    (texts / "a" / "00.txt").write_text("fail")
    run, outcomes = worked(texts, database)
    ledger = opened(database)
    for outcome in outcomes:
        ledger.publish([outcome])
    for name in ("scripted", "failures"):
        table = Table.open(database, name)
        assert table
        optimize_table(table, timedelta(0), lambda: False)
    report = embed(texts, database)
    assert (report.ok, report.unchanged, report.failed) == (0, 39, 1)
    assert len(rows(database)) == 39
    assert run.get("report.json") is not None


def test_recovering_an_old_run_is_done_once(texts: Path, database: str, tmp_path: Path) -> None:
    """Once a dead run's end is recorded, its receipts are not read again."""
    run, _ = worked(texts, database)
    embed(texts, database)
    (Path(run.address) / "receipts").rename(tmp_path / "receipts")
    assert embed(texts, database).unchanged == 40


@pytest.mark.parametrize("looks", [1, 2])
def test_recovering_that_is_cut_short_can_be_done_again(texts: Path, database: str, looks: int) -> None:
    """A recovery that runs out of time stops between two steps, and the next one does what is missing."""
    run, _ = worked(texts, database)
    left = iter(range(looks - 1))

    def check() -> None:
        if next(left, None) is None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        recover(opened(database), check=check)
    assert run.get("report.json") is None
    recover(opened(database))
    assert len(rows(database)) == 40
    assert run.get("report.json") is not None


def test_another_tables_run_is_not_recovered(folder: Path, database: str) -> None:
    """A recovery of one table leaves the runs of other tables alone."""
    run, _ = worked(folder, database)
    embed(folder, database, table="other")
    assert run.get("report.json") is None
    assert rows(database) == {}


def test_what_is_not_yet_known_of_a_run(folder: Path, database: str) -> None:
    """A run that has not ended is judged by its receipts: interrupted if its driver is gone, else running."""
    run, _ = worked(folder, database)
    report, ended = account(run)
    assert (ended, report.ok, report.failed, report.complete, report.exit_code) == ("interrupted", 1, 1, False, 1)
    alive = RunDirectory.create(database, table="scripted")
    assert account(alive)[1] == "running"
    assert (is_under_way(run), is_under_way(alive)) == (False, True)


def test_a_silent_driver_elsewhere_is_dead_after_a_while(database: str) -> None:
    """A driver on another machine counts as alive as long as it gives signs of life."""
    run = RunDirectory.create(database, table="scripted")
    asked = run.get("run.json")
    assert asked
    run.put("run.json", asked | {"driver": {"machine": "elsewhere", "pid": 1, "began": ""}})
    assert run.is_alive()
    alive = Path(run.address) / "alive"
    os.utime(alive, (alive.stat().st_mtime - 1000,) * 2)
    assert not run.is_alive()


def test_a_planned_run_is_told_by_its_plan(folder: Path, database: str) -> None:
    """Once a run is planned, its listed and remaining items are known, whether or not its driver is alive."""
    run, _ = worked(folder, database)
    counts = {"listed": 7, "unchanged": 2, "failed_before": 1, "planned": 4, "bytes": 9, "tasks": 2}
    run.put("plan.json", {**counts, "left_out": {"empty": 3}})
    report, ended = account(run)
    assert (ended, report.listed, report.unchanged, report.ok, report.failed) == ("interrupted", 7, 2, 1, 2)
    assert (report.lost, report.complete, report.left_out) == (2, True, {"empty": 3})
    assert report.seconds > 0


def test_a_run_begun_by_an_older_version(folder: Path, database: str) -> None:
    """A run.json without the fields of newer versions is recovered, reported and committed like any other."""
    run, _ = worked(folder, database)
    asked = run.get("run.json")
    assert asked
    old = {name: asked[name] for name in ("id", "started", "driver", "job", "recipe", "table", "root")}
    run.put("run.json", old | {"options": {"task_size": 10, "ids": "key", "retry_failed": False}})
    assert (run.is_alive(), account(run)[1]) == (False, "interrupted")
    run.put("run.json", (run.get("run.json") or {}) | {"driver": {**asked["driver"], "pid": os.getpid()}})
    assert (run.is_alive(), account(run)[1]) == (True, "running")
    recover(opened(database))
    assert where(database) == ({"good.txt"}, {"bad.txt"})
    assert run.get("report.json") is None
    run.put("run.json", old)
    embed(folder, database)
    assert account(run)[1] == "interrupted"


def test_the_newest_run_of_a_table(folder: Path, database: str) -> None:
    """Runs that begin in the same instant are ordered by their start; other tables do not count."""
    runs = [RunDirectory.create(database, table="scripted") for _ in range(30)]
    ledger = Ledger.create(database, "scripted", Scripted(), str(folder), "key")
    RunDirectory.create(database, table="other")
    assert [is_newest(ledger, run) for run in runs] == [False] * 29 + [True]
    assert len({run.id for run in runs}) == 30
    assert list_runs(database)[:30] == [run.id for run in runs]


def test_settling_publishes_or_fills(folder: Path, database: str) -> None:
    """Settling a run replaces older rows; filling from it keeps them and adds what is missing."""
    embed(folder, database)
    changed(folder / "good.txt", "newer")
    (folder / "more.txt").write_text("more")
    run, _ = worked(folder, database)
    commit_receipts(opened(database), run, fill=True)
    assert texts_of(database) == {"good.txt": "good", "more.txt": "more"}
    commit_receipts(opened(database), run, fill=False)
    assert texts_of(database) == {"good.txt": "newer", "more.txt": "more"}
    assert set(failures(database)) == {"bad.txt"}


def test_filling_repairs_what_failed_before(folder: Path, database: str) -> None:
    """If an item failed in an earlier run, a dead run's row of it is kept, and the failure is removed."""
    embed(folder, database)
    changed(folder / "bad.txt", "repaired")
    run, _ = worked(folder, database)
    commit_receipts(opened(database), run, fill=True)
    assert where(database) == ({"good.txt", "bad.txt"}, set())


# Upkeep


def test_optimize_recovers_joins_and_sweeps(texts: Path, database: str) -> None:
    """A dead run's work is committed first; then each table has one fragment and all its rows."""
    run, _ = worked(texts, database)
    table = Table.open(database, "scripted")
    assert table
    table.write(iter(table.dataset.to_table().to_batches()))
    done = optimize(database, timedelta(0))
    assert done["scripted"]["fragments"] == 1
    assert len(rows(database)) == 40
    assert len(list((Path(database) / "scripted.lance" / "data").iterdir())) == 1
    assert run.get("report.json") is not None
    assert embed(texts, database).unchanged == 40


def test_optimize_sweeps_nothing_while_a_run_lives(texts: Path, database: str) -> None:
    """A fragment that waits for its commit survives as long as its driver is alive."""
    run, outcomes = worked(texts, database)
    asked = run.get("run.json")
    assert asked
    run.put("run.json", asked | {"driver": {**asked["driver"], "pid": os.getpid()}})
    litter = outcomes[0].rows[0]["files"][0]["path"]
    (Path(run.address) / "receipts" / "000000.json").unlink()
    optimize(database, timedelta(0))
    assert (Path(database) / "scripted.lance" / "data" / litter).exists()
    assert len(rows(database)) == 30


def test_optimizing_nothing_is_a_mistake(tmp_path: Path) -> None:
    """A folder that is not a database is refused by name."""
    with pytest.raises(UsageError, match=str(tmp_path)):
        optimize(str(tmp_path), timedelta(0))


# At the same time


def publish_all(database: str, outcomes: list[Outcome], errors: list[Any]) -> None:
    """Publish outcomes one by one."""
    try:
        ledger = opened(database)
        for outcome in outcomes:
            ledger.publish([outcome])
        ledger.agree()
    except BaseException as error:
        errors.append(error)


def test_two_drivers_publish_the_same_items(texts: Path, database: str) -> None:
    """Two runs that did the same items, cut differently, publish at the same time and leave each item once."""
    (texts / "a" / "00.txt").write_text("fail")
    plans = [worked(texts, database, task_size=size)[1] for size in (7, 11)]
    errors: list[Any] = []
    threads = [threading.Thread(target=publish_all, args=(database, plan, errors)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (len(where(database)[0]), where(database)[1]) == (39, {"a/00.txt"})


def test_items_of_odd_keys_are_told_apart(database: str, tmp_path: Path) -> None:
    """Keys that differ in one byte, in case, in accents or in spaces are different items."""
    names = ["a.txt", "A.txt", "a .txt", "é.txt", "e\u0301.txt", "\\x61.txt", "%61.txt", "a\n.txt", "'a'.txt"]
    (tmp_path / "s").mkdir()
    for name in names:
        (tmp_path / "s" / name).write_text(name.strip())
    assert embed(tmp_path / "s", database).ok == len(names)
    assert embed(tmp_path / "s", database).unchanged == len(names)
    source = open_source(str(tmp_path / "s"))
    assert set(rows(database)) == {item.key for item in source.list(TXT)}
    assert isinstance(next(iter(source.list(TXT))), Item)


def test_receipts_are_committed_by_the_half_million_items() -> None:
    """Slices hold all outcomes in order, each at most half a million items, or one larger task."""
    outcomes = [Outcome(number, 1, items, "done") for number, items in enumerate([1000] * 2500 + [3_000_000, 1, 1])]
    found = list(slices(iter(outcomes)))
    assert [outcome for slice in found for outcome in slice] == outcomes
    assert [len(slice) for slice in found] == [500, 500, 500, 500, 500, 1, 2]


def test_what_recovery_asks_of_the_store(texts: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of a dead run's receipts, its request is read at most five times, and a receipt once."""
    run, _ = worked(texts, database, task_size=1)
    asked: Counter[str] = Counter()
    get = RunDirectory.get

    def counted(self: RunDirectory, name: str) -> Any:
        asked[name] += 1
        return get(self, name)

    monkeypatch.setattr(RunDirectory, "get", counted)
    ledger = Ledger.open(database, "scripted")
    assert ledger
    recover(ledger)
    assert run.get("report.json")
    assert asked["run.json"] <= 5
    assert asked["receipts/000003.json"] == 1
