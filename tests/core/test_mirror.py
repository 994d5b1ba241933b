"""Mirrors end up with the table's content, with any number of writers in any order."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clusters
import fanfold
import nursery
import shelves
from fanfold import StorageError, UsageError
from fanfold.core.catalog import list_runs
from fanfold.core.index import digests, words
from fanfold.core.mirror import MIRRORS, bring_in_step, mirror_all, open_mirror
from fanfold.core.plan import SMALLEST
from fanfold.core.report import account
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Drop, Table
from faults import wait_for
from helpers import changed, embed, rows, written
from jobs import SCHEMA, Scripted
from shelves import Shelf

KEYS = ["a", "b", "c"]


def table_of(database: str) -> Table:
    """A table with its own view, like each driver has."""
    return Table.create(database, "scripted", SCHEMA)


def put(database: str, version: int, *keys: str) -> None:
    """Commit these keys at a version; their text contains it."""
    table = table_of(database)
    table.commit(written(table, {key: f"{key} {version}" for key in keys}, f"{version}"))


def remove(database: str, *keys: str) -> None:
    """Commit the removal of these keys, as when their items fail at a new version."""
    table = table_of(database)
    table.commit([], Drop(digests(keys), words("" for _ in keys), all_but=True))


def held(database: str) -> dict[str, tuple[str, str]]:
    """The content that a mirror must have: key -> (version, text)."""
    return {key: (row["version"], row["text"]) for key, row in rows(database).items()}


def once(moment: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Act when a moment comes for the first time."""
    waiting = [act]

    def meanwhile(now: str) -> None:
        if now == moment and waiting:
            waiting.pop()()

    return meanwhile


# Alone


def test_rows_are_written_replaced_and_removed(database: str) -> None:
    """New rows appear, changed ones change, removed ones go, and rows in sync are not written again."""
    shelf = Shelf()
    put(database, 1, "a", "b", "c")
    bring_in_step(table_of(database), shelf, KEYS)
    assert shelf.held == held(database)
    put(database, 2, "a")
    remove(database, "b")
    bring_in_step(table_of(database), shelf, KEYS)
    assert shelf.held == held(database) == {"a": ("2", "a 2"), "c": ("1", "c 1")}
    assert shelf.spent["written"] == 4


def test_only_the_keys_named_are_looked_at(database: str) -> None:
    """Rows of other keys stay as they are, in the mirror and in the table."""
    shelf = Shelf()
    shelf.held["theirs"] = "9", "put there by hand"
    put(database, 1, "a", "b")
    bring_in_step(table_of(database), shelf, ["a", "never heard of"])
    assert shelf.held == {"theirs": ("9", "put there by hand"), "a": ("1", "a 1")}


def test_more_keys_than_are_looked_up_at_a_time(database: str) -> None:
    """Thousands of keys are brought in sync a thousand at a time, and none is left out."""
    shelf, looks = Shelf(), []
    shelf.meanwhile = looks.append
    many = [f"{number}" for number in range(2500)]
    put(database, 1, *many)
    bring_in_step(table_of(database), shelf, many)
    assert shelf.held == held(database)
    assert looks.count("looked") == 2 * 3  # once to compare, once to confirm


def test_a_mirror_emptied_by_hand_is_filled_again(database: str) -> None:
    """`mirror_all` compares the whole table, returns the number of rows, and writes only what differs."""
    shelf = Shelf()
    put(database, 1, *(f"{number}" for number in range(100)))
    remove(database, "7")
    assert mirror_all(table_of(database), shelf) == 99
    assert shelf.held == held(database)
    shelf.held.clear()
    assert mirror_all(table_of(database), shelf) == 99
    assert shelf.held == held(database)
    assert shelf.spent["written"] == 198
    assert (mirror_all(table_of(database), shelf), shelf.spent["written"]) == (99, 198)


def test_rows_that_a_mirror_refuses(database: str) -> None:
    """A row that is too large is refused by name, and its key does not stay in the mirror at an older version."""
    shelf = Shelf()
    put(database, 1, "a", "b")
    bring_in_step(table_of(database), shelf, KEYS)
    table = table_of(database)
    table.commit(written(table, {"a": "x" * 99}, "2"))
    bring_in_step(table, shelf, KEYS)
    assert shelf.held == {"b": ("1", "b 1")}
    assert shelf.refused == {"a": "99 characters"}


class Forgetful(Shelf):
    """A mirror that keeps nothing."""

    def put(self, rows: pa.Table, seen: Mapping[str, str]) -> None:
        super().put(rows, seen)
        self.held.clear()


def test_a_mirror_that_keeps_nothing_is_an_error(database: str) -> None:
    """A mirror that never keeps its rows ends in an error that names a key, not in an endless loop."""
    put(database, 1, "a")
    with pytest.raises(StorageError, match="lost rows that were written 20 times, 'a' for example"):
        bring_in_step(table_of(database), Forgetful(), ["a"])


@pytest.mark.parametrize("address", ["nowhere://x", "shelf", "", "dynamodb"])
def test_what_is_no_mirror(address: str) -> None:
    """An address that is not a mirror is an error that lists the valid forms."""
    with pytest.raises(UsageError, match=f"'{address}' is not a mirror. Use one of: dynamodb://NAME"):
        open_mirror(address, {})


# Two at once


@pytest.mark.parametrize("moment", ["looked", "writing", "written"])
@pytest.mark.parametrize("unasked", [False, True], ids=["conditional", "unconditional when new"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("news", ["newer", "gone"])
def test_another_driver_in_between(moment: str, unasked: bool, before: bool, news: str, database: str) -> None:
    """If another driver mirrors a newer version at any moment, the older row does not stay in the mirror."""
    shelf = Shelf(unasked)
    if before:
        put(database, 1, "a")
        bring_in_step(table_of(database), shelf, ["a"])
    put(database, 2, "a", "b")

    def other() -> None:
        put(database, 3, "a") if news == "newer" else remove(database, "a")
        bring_in_step(table_of(database), shelf, ["a"])

    shelf.meanwhile = once(moment, other)
    bring_in_step(table_of(database), shelf, ["a", "b"])
    assert shelf.held == held(database)
    assert shelf.held.get("a") == (("3", "a 3") if news == "newer" else None)


acts = st.tuples(st.sampled_from(["put", "remove"]), st.sets(st.sampled_from(KEYS), min_size=1))


@given(
    plan=st.lists(st.tuples(acts, st.integers(0, 5)), min_size=1, max_size=5),
    unasked=st.booleans(),
)
@settings(max_examples=40)
def test_drivers_that_interrupt_each_other(
    plan: list[tuple[tuple[str, set[str]], int]], unasked: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Drivers that commit and write in the middle of each other's reads and writes leave the mirror in sync."""
    database, shelf = str(tmp_path_factory.mktemp("mirror") / "db"), Shelf(unasked)
    put(database, 0, *KEYS)
    waiting = [(number, act, keys, patience) for number, ((act, keys), patience) in enumerate(plan, 1)]

    def drive(number: int, act: str, keys: set[str]) -> None:
        put(database, number, *keys) if act == "put" else remove(database, *keys)
        bring_in_step(table_of(database), shelf, sorted(keys))

    moments = 0

    def meanwhile(_moment: str) -> None:
        nonlocal moments
        moments += 1
        if waiting and moments >= waiting[0][3]:
            moments = 0
            drive(*waiting.pop(0)[:3])  # in the middle of the driver that is writing now

    shelf.meanwhile = meanwhile
    bring_in_step(table_of(database), shelf, KEYS)
    while waiting:
        drive(*waiting.pop(0)[:3])
    assert shelf.held == held(database)


# In runs

ITEMS = SMALLEST
"""A number of items that is one task, and so one commit, for any number of workers."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of ITEMS files."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(ITEMS):
        (folder / f"{number}.txt").write_text(f"text {number}")
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The path of a mirror's file."""
    return tmp_path / "shelf.sqlite"


def test_a_run_keeps_its_mirror_in_step(source: Path, database: str, shelf: Path) -> None:
    """A run's additions, changes and removals are in the mirror, and the report says what the mirror took."""
    report = embed(source, database, task_size=3, mirror=f"shelf://{shelf}")
    assert shelves.held(shelf) == held(database)
    assert report.mirror == {f"shelf://{shelf}": {"written": ITEMS, "refused": {}}}
    changed(source / "1.txt", "another")
    changed(source / "2.txt", "fail")
    embed(source, database, mirror=f"shelf://{shelf}")
    assert shelves.held(shelf) == held(database)
    assert shelves.held(shelf)["1.txt"][1] == "another"
    assert "2.txt" not in shelves.held(shelf)


def test_a_run_of_a_row_that_its_mirror_refuses(source: Path, database: str, shelf: Path) -> None:
    """A row that only the mirror refuses is in the table and in the report, whose exit code is 3."""
    (source / "1.txt").write_text("x" * 99)
    report = embed(source, database, mirror=f"shelf://{shelf}")
    assert (report.ok, report.failed, report.exit_code) == (ITEMS, 0, 3)
    assert report.refused == {"1.txt": "99 characters"}
    assert len(rows(database)) == ITEMS
    assert len(shelves.held(shelf)) == ITEMS - 1


def test_a_run_on_a_cluster_tells_of_its_mirror(source: Path, database: str, shelf: Path, tmp_path: Path) -> None:
    """A follower's report and exit code include what the committing process found about the mirror."""
    (source / "1.txt").write_text("x" * 99)
    with clusters.cluster(tmp_path / "log", shares=1, ending="nothing") as processes:
        address = f"shelf://{shelf}"
        run = fanfold.run(Scripted(), source=str(source), database=database, executor=processes, mirror=address)
        assert sum(outcome.ok for outcome in run) == ITEMS
    assert (run.report.refused, run.report.exit_code) == ({"1.txt": "99 characters"}, 3)
    assert shelves.held(shelf).keys() == rows(database).keys() - {"1.txt"}


def driven(source: Path, database: str, mirror: str) -> int:
    """A whole run in a separate process; its exit code."""
    line = (
        "import sys; import clusters, helpers; source, database, mirror = sys.argv[1:]; "
        "print(helpers.embed(source, database, mirror=mirror))"
    )
    return nursery.run([sys.executable, "-c", line, source, database, mirror], env=clusters.ENVIRONMENT).returncode


def test_a_driver_killed_between_commit_and_mirror(source: Path, database: str, shelf: Path, tmp_path: Path) -> None:
    """The next run brings a dead run's mirror in sync first, even if it has nothing to do itself."""
    dies = tmp_path / "dies"
    dies.touch()
    assert driven(source, database, f"shelf://{shelf}?dies={dies}") == -9
    assert len(rows(database)) == ITEMS
    assert not shelf.exists()
    report = embed(source, database)
    assert (report.unchanged, report.ok, report.exit_code) == (ITEMS, 0, 0)
    assert shelves.held(shelf) == held(database)
    dead, _ = list_runs(database)
    assert account(RunDirectory(database, dead))[1] == "interrupted"


def test_a_dead_runs_mirror_that_is_gone_is_in_nobodys_way(
    source: Path, database: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs continue without a mirror of a dead run that they cannot open, and bring it in sync once they can."""
    dies = tmp_path / "dies"
    dies.touch()
    assert driven(source, database, f"shelf://{shelf}?dies={dies}") == -9
    with monkeypatch.context() as patch:
        patch.delitem(MIRRORS, "shelf")
        assert embed(source, database).unchanged == ITEMS
    assert not shelf.exists()
    assert embed(source, database).unchanged == ITEMS
    assert shelves.held(shelf) == held(database)


def test_a_commit_killed_before_the_mirror_is_in_step(source: Path, database: str, shelf: Path, tmp_path: Path) -> None:
    """A detached run's commit that is killed while mirroring is repeated, and then says what the mirror took."""
    dies = tmp_path / "dies"
    address = f"shelf://{shelf}?dies={dies}"
    with clusters.cluster(tmp_path / "log", shares=1, ending="nothing") as processes:
        run = fanfold.run(Scripted(), source=str(source), database=database, executor=processes, mirror=address)
        run.launch()
        wait_for(lambda: processes.state(run.directory) is None)
    dies.touch()
    line = [sys.executable, clusters.__file__, "commit", database, run.id]
    assert [nursery.run(line).returncode for _ in range(2)] == [-9, 0]
    assert shelves.held(shelf) == held(database)
    assert run.report.mirror == {address: {"written": ITEMS, "refused": {}}}


def test_the_command_fills_a_mirror(source: Path, database: str, shelf: Path) -> None:
    """`fanfold mirror` compares every row, writes what is missing, and exits with 3 if a row is refused."""
    embed(source, database)
    line = [sys.executable, clusters.__file__, "mirror", database, f"shelf://{shelf}", "--table", "scripted"]
    done = nursery.run(line)
    said = f"{ITEMS} rows compared.\nMirror shelf://{shelf}: {ITEMS} written\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr
    assert shelves.held(shelf) == held(database)
    (source / "1.txt").write_text("x" * 99)
    embed(source, database)
    done = nursery.run([*line, "--json"])
    told: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, told["rows"]) == (3, ITEMS)
    assert told["mirrors"][f"shelf://{shelf}"]["refused"] == {"1.txt": "99 characters"}


class Broken(Shelf):
    """A mirror that is out of reach."""

    def versions(self, _keys: Sequence[str]) -> dict[str, str]:
        raise StorageError("the mirror is out of reach")


def test_a_mirror_out_of_reach_ends_the_run_and_loses_nothing(source: Path, database: str, shelf: Path) -> None:
    """The rows are in the table, the run has no report, and the next run fills the mirror."""
    run = fanfold.run(Scripted(), source=str(source), database=database, mirror=f"shelf://{shelf}")
    run.ledger.mirrors[f"shelf://{shelf}"] = Broken()
    with pytest.raises(StorageError, match="out of reach"):
        list(run)
    assert len(rows(database)) == ITEMS
    asked = run.directory.get("run.json")
    assert asked
    run.directory.put("run.json", asked | {"driver": {**asked["driver"], "pid": 2**22 + 1}})
    assert embed(source, database).unchanged == ITEMS
    assert shelves.held(shelf) == held(database)
