"""Detail tables hold each item's rows together and once, with any writers and any fragment boundaries."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fanfold
from fanfold import Detail, Failure, Item, StorageError, UsageError
from fanfold.core import details as core_details
from fanfold.core.agreement import Details
from fanfold.core.catalog import list_runs
from fanfold.core.details import DETAIL_OF, Collected, DetailWriter, Lot
from fanfold.core.fragments import Content, Fragment
from fanfold.core.index import NOWHERE, Index, digests, words
from fanfold.core.ledger import Ledger
from fanfold.core.optimize import optimize
from fanfold.core.recovery import commit_receipts
from fanfold.core.repair import repair
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.core.table import Drop, Table
from fanfold.core.view import View
from fanfold.core.worker import Answers, Worker
from fanfold.job import details_of, spec
from fanfold.source import open_source
from helpers import TXT, changed, embed, rows, together, watching
from jobs import SCHEMA, WORDS, Detailed, Scripted, detail_rows

TABLE = WORDS.with_metadata({DETAIL_OF: "scripted"})
Some = dict[str, int]
"""Items, and how many rows each has."""


@pytest.fixture
def table(database: str) -> Table:
    """An empty detail table on disk."""
    return Table.create(database, "words", TABLE)


def batch(key: str, count: int, version: str = "1", mark: str = "") -> pa.RecordBatch:
    """Rows of an item."""
    listed = [{"key": key, "version": version, "place": place, "word": mark} for place in range(count)]
    return pa.RecordBatch.from_pylist(listed, schema=WORDS)


def lot(table: Table, some: Some, version: str = "1", mark: str = "", cuts: Sequence[int] = ()) -> Lot:
    """A task's rows of these items, in one fragment or in several that begin after the given numbers of rows."""
    whole = pa.Table.from_batches([batch(key, count, version, mark) for key, count in some.items()], WORDS)
    ends = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    parts = [whole.slice(start, end - start) for start, end in pairwise(ends)]
    fragments = [fragment for part in parts for fragment in table.write_group(part.combine_chunks().to_batches())]
    return Lot(fragments, wanted(some, version))


def wanted(some: Some, version: str = "1") -> Content:
    """Items, and how many rows each must have."""
    return Content(digests(some), words([version] * len(some)), np.array(list(some.values()), np.uint64))


def told(database: str) -> dict[str, tuple[str, str, int]]:
    """A detail table's content: key -> version, mark, rows. No item has two writers, and no row is there twice."""
    found = fanfold.open_table(database, "words").to_table().to_pylist()
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        by_key.setdefault(row["key"], []).append(row)
    for some in by_key.values():
        assert sorted(row["place"] for row in some) == list(range(len(some)))
        assert len({(row["version"], row["word"]) for row in some}) == 1
    return {key: (some[0]["version"], some[0]["word"], len(some)) for key, some in by_key.items()}


def known(table: Table, keys: Sequence[str]) -> list[Any]:
    """What an index knows of keys: version and size. The rows that it points to must be theirs."""
    versions, addresses, sizes = table.index.measure(digests(keys))
    found = []
    for key, version, address, size in zip(keys, versions, addresses, sizes, strict=True):
        if address == NOWHERE:
            found.append(None)
            continue
        places = [
            (id, offset) for id, some in table.index.places(digests([key]), runs=True) for offset in some.tolist()
        ]
        taken = table.take([(id << 32) + offset for id, offset in places])
        assert taken["key"].to_pylist() == [key] * int(size)
        found.append((int(version), int(size)))
    return found


# The index


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 1)), max_size=30), st.integers(1, 6))
def test_runs_of_items_are_joined(runs: list[tuple[int, int, int]], at_once: int) -> None:
    """The index has all rows of an item, however its runs are split and in whatever portions they are entered."""
    index, address = Index(sized=True), 0
    expected: dict[str, list[int]] = {}
    listed = []
    for key, size, gap in runs:
        address += gap * 10
        listed.append((f"{key}", address, size))
        expected.setdefault(f"{key}", []).extend(range(address, address + size))
        address += size
    for start in range(0, len(listed), at_once):
        keys, addresses, sizes = zip(*listed[start : start + at_once], strict=True)
        index.enter(digests(keys), words("1" for _ in keys), np.array(addresses, np.uint64), np.array(sizes, np.uint64))
    for key, places in expected.items():
        assert index.measure(digests([key]))[2].tolist() == [len(places)]
        found = zip(*(part.tolist() for part in index.runs(digests([key]))), strict=True)
        assert sorted(place for start, size in found for place in range(start, start + size)) == places
    index.add(digests(expected), words([""] * len(expected)), np.full(len(expected), NOWHERE))
    assert index.pieces == {}
    assert len(index.runs(digests(expected))[0]) == 0


# Committing


def test_items_go_in_whole_and_once(table: Table, database: str) -> None:
    """If two tasks did the same item, all rows of one of them are taken."""
    first, second = lot(table, {"a": 3, "b": 2}, mark="first", cuts=[1, 4]), lot(table, {"b": 2, "c": 0, "d": 1})
    table.commit_details([first, second])
    assert told(database) == {"a": ("1", "first", 3), "b": ("1", "first", 2), "d": ("1", "", 1)}
    version = lance.dataset(table.uri).version
    table.commit_details([second, first])
    assert lance.dataset(table.uri).version == version


def test_what_is_not_wanted_or_not_all_there_is_left(table: Table, database: str) -> None:
    """Items without a row, at another version, or with fewer rows than their row says, are left out."""
    fragments = lot(table, {"failed": 2, "good": 3, "short": 1}).fragments
    table.commit_details([Lot(fragments, wanted({"good": 3, "short": 2}))])
    assert told(database) == {"good": ("1", "", 3)}
    table.commit_details([Lot(fragments, wanted({"failed": 2}, "2"))])
    assert told(database).keys() == {"good"}
    table.commit_details([Lot(fragments, wanted({}))])
    assert told(database).keys() == {"good"}


def test_a_changed_item_is_replaced_in_one_step(table: Table, database: str) -> None:
    """A changed item's old rows go and its new ones come in one version, even if there are none now, or more."""
    table.commit_details([lot(table, {"a": 3, "b": 2, "c": 1}, cuts=[2])])
    before = lance.dataset(table.uri).version
    table.commit_details([lot(table, {"a": 5, "b": 0}, "2", cuts=[4])])
    assert lance.dataset(table.uri).version == before + 1
    assert told(database) == {"a": ("2", "", 5), "c": ("1", "", 1)}
    table.commit_details([lot(table, {"a": 1, "b": 1}, "3")], fill=True)
    assert told(database) == {"a": ("2", "", 5), "b": ("3", "", 1), "c": ("1", "", 1)}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_fragment_takes_whole_items(lost: int, table: Table, database: str) -> None:
    """An item that lost one of its fragments is left out; other items of the same task go in."""
    one = lot(table, {"a": 2, "b": 4, "c": 2}, cuts=[3, 5])
    (Path(table.uri) / "data" / one.fragments[lost]["files"][0]["path"]).unlink()
    with pytest.raises(StorageError, match="disappeared before its commit"):
        table.commit_details([one])
    missing: list[Fragment] = []
    table.commit_details([one], missing=missing)
    assert missing == [one.fragments[lost]]
    assert told(database).keys() == [{"c"}, {"a", "c"}, {"a"}][lost]


steps = st.lists(
    st.tuples(
        st.sampled_from(["commit", "commit", "commit", "fill", "drop", "compact"]),
        st.booleans(),  # which of two table objects
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 4), min_size=1, max_size=4),
        st.integers(0, 2),  # at which version
        st.sets(st.integers(1, 9), max_size=3),  # where fragments end
    ),
    max_size=7,
)


@given(steps)
@settings(max_examples=settings.default.max_examples // 3)  # each takes a tenth of a second or more
def test_two_objects_taking_turns_are_a_dictionary(tmp_path_factory: pytest.TempPathFactory, turns: list[Any]) -> None:
    """After any commits, fills, drops and compactions by two drivers in turns, the table equals a dictionary."""
    database = str(tmp_path_factory.mktemp("turns"))
    both = [Table.create(database, "words", TABLE), Table.create(database, "words", TABLE)]
    expected: dict[str, tuple[str, str, int]] = {}
    for turn, (what, which, some, number, cuts) in enumerate(turns):
        table, version = both[which], f"{number}"
        match what:
            case "commit":
                table.commit_details([lot(table, some, version, f"{turn}", sorted(cuts))])
                same = {key for key, (at, _, size) in expected.items() if some.get(key) == size and at == version}
                expected |= {key: (version, f"{turn}", size) for key, size in some.items() if key not in same}
            case "fill":
                table.commit_details([lot(table, some, version, f"{turn}", sorted(cuts))], fill=True)
                expected = {key: (version, f"{turn}", size) for key, size in some.items()} | expected
            case "drop":
                table.commit_details([], Drop(digests(some), words([version] * len(some))))
                expected = {key: has for key, has in expected.items() if key not in some or has[0] != version}
            case _:
                table.dataset = lance.dataset(table.uri)
                table.dataset.optimize.compact_files(target_rows_per_fragment=number + 1)
        expected = {key: has for key, has in expected.items() if has[2]}
        assert told(database) == expected
        table.refresh()
        fresh = Table.open(database, "words")
        assert fresh
        fresh.refresh()
        assert known(table, "abcdef") == known(fresh, "abcdef")
        assert [entry and entry[1] for entry in known(table, "abcdef")] == [
            expected[key][2] if key in expected else None for key in "abcdef"
        ]


def race_for_items(database: str, name: str, seed: int) -> None:
    """Act as one of several drivers that commit the same items, cut differently, at increasing versions."""
    table = Table.open(database, "words")
    assert table
    for version in range(6):
        for start in range(0, 12, seed):
            some = {f"{n}": n % 5 for n in range(start, min(12, start + seed))}
            table.commit_details([lot(table, some, f"{version}", name, [3, 8])])


@pytest.mark.usefixtures("table")
def test_processes_that_commit_the_same_items(database: str) -> None:
    """Drivers that race for the same items leave each item once, with all rows of one of them."""
    together(race_for_items, [(database, "a", 3), (database, "b", 5)])
    assert {key: (version, size) for key, (version, _, size) in told(database).items()} == {
        f"{n}": ("5", n % 5) for n in range(12) if n % 5
    }


def test_a_large_scan_joins_what_its_batches_cut(table: Table, database: str) -> None:
    """An item larger than a batch, a group and a compacted fragment is still one item."""
    table.commit_details([lot(table, {"a": 100_000, "b": 1, "c": 70_000}, cuts=[30_000, 99_999])])
    for _ in range(2):
        fresh = Table.open(database, "words")
        assert fresh
        fresh.refresh()
        assert fresh.index.measure(digests("abc"))[2].tolist() == [100_000, 1, 70_000]
        table.dataset = lance.dataset(table.uri)
        table.dataset.optimize.compact_files(target_rows_per_fragment=40_000)
    table.commit_details([lot(table, {"a": 2, "c": 0}, "2")])
    assert {key: size for key, (_, _, size) in told(database).items()} == {"a": 2, "b": 1}


# Writing


def sizes_of(fragments: list[Any]) -> list[int]:
    """How many rows each fragment has."""
    return [fragment["physical_rows"] for fragment in fragments]


def test_no_item_is_cut_that_fits_into_a_fragment(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fragments end where items end; an item too large for one spans several, and only its last holds other items."""
    monkeypatch.setattr(core_details, "GROUP_BYTES", batch("x", 100).nbytes)
    writer = DetailWriter(table)
    for key, count in (("a", 60), ("b", 60), ("c", 10), ("d", 450), ("e", 5)):
        for start in range(0, count, 30):
            writer.add(batch(key, min(30, count - start)))
        assert writer.close() == count
    fragments = writer.end()
    contents = table.uncommitted.contents(fragments)
    whole = [dict(zip(one.keys.tolist(), one.sizes.tolist(), strict=True)) for one in contents if one]
    assert sum(sizes_of(fragments)) == 585
    a, b, c, d, e = digests("abcde").tolist()
    assert [*whole[0].items()] == [(a, 60), (b, 60)]
    assert [*whole[1].items()] == [(c, 10)]
    assert all(set(one) == {d} for one in whole[2:-1])
    assert set(whole[-1]) == {d, e}
    table.commit_details([Lot(fragments, wanted({"a": 60, "b": 60, "c": 10, "d": 450, "e": 5}))])
    assert table.index.measure(digests("abcde"))[2].tolist() == [60, 60, 10, 450, 5]


def test_rows_of_a_failed_item_are_not_written(table: Table) -> None:
    """Rows that are dropped before they are written, or whose item is never closed, are in no fragment."""
    writer = DetailWriter(table)
    writer.add(batch("failed", 5))
    writer.drop()
    writer.add(batch("good", 2))
    assert writer.close() == 2
    writer.add(batch("forgotten", 3))
    assert sizes_of(writer.end()) == [2]


def answered(table: Table, answers: list[Any], keys: str = "ab") -> tuple[list[Any], Answers, list[Any]]:
    """What becomes of a job's answers: the rows with their counts, the tally and the detail fragments."""
    collected = Collected({"words": table})
    kept = Answers([Item(key, 1, "1", key) for key in keys], lambda *_: None, details=collected)
    schema = SCHEMA.append(pa.field("words_count", pa.int64(), nullable=False))
    found = [row for part in kept.batches(iter(answers)) for row in collected.counted(part, schema).to_pylist()]
    return found, kept, collected.end()["words"]


def row(*keys: str) -> pa.RecordBatch:
    """The rows of items."""
    return pa.RecordBatch.from_pylist([{"key": key, "version": "1", "text": ""} for key in keys], schema=SCHEMA)


def test_rows_count_their_details(table: Table) -> None:
    """A row closes its item and says how many detail rows it has; `ok` counts items."""
    answers = [Detail("words", batch("a", 2)), Detail("words", batch("a", 3)), row("b", "a")]
    found, kept, fragments = answered(table, answers)
    assert {entry["key"]: entry["words_count"] for entry in found} == {"a": 5, "b": 0}
    assert (kept.ok, sizes_of(fragments)) == (2, [5])


def test_failed_and_forgotten_items_have_no_details(table: Table) -> None:
    """Details are dropped with a failed item, and with an item that the job leaves without an answer."""
    failure = Failure("a", "1", "decode", "E", "m")
    answers = [Detail("words", batch("a", 2)), failure, Detail("words", batch("b", 2)), Detail("words", batch("c", 1))]
    found, kept, fragments = answered(table, [*answers, row("c")], "abc")
    assert [entry["words_count"] for entry in found] == [1]
    assert {failure.key for failure in kept.all_failures()} == {"a", "b"}
    assert sizes_of(fragments) == [1]


BROKEN: dict[str, list[Any]] = {
    "which is not in the task": [Detail("words", batch("stranger", 1))],
    "answered before": [row("a"), Detail("words", batch("a", 1))],
    "the wrong version": [Detail("words", batch("a", 1, "2"))],
    "does not name": [Detail("other", batch("a", 1))],
    "several items at once": [
        Detail("words", pa.Table.from_batches([batch("a", 1), batch("b", 1)]).combine_chunks().to_batches()[0])
    ],
    "after details of another": [Detail("words", batch("a", 1)), Detail("words", batch("b", 1)), row("a")],
    "then more of": [Detail("words", batch(key, 1)) for key in "aba"],
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_job_that_mixes_up_its_details_fails_its_task(says: str, table: Table) -> None:
    """Details of an unknown item, of two at once, of another version, or interleaved fail the task with a reason."""
    with pytest.raises(ValueError, match=says):
        answered(table, BROKEN[says])


def test_details_without_a_table_are_refused() -> None:
    """Details from a job without details() are an error."""
    with pytest.raises(ValueError, match="has no details"):
        list(Answers([Item("a", 1, "1", "a")], lambda *_: None).batches(iter([Detail("words", batch("a", 1))])))


# The tables together


def texts_in(database: str) -> dict[str, str]:
    """Key -> text of the rows; every row must have all its details, once, and there must be no others."""
    found = rows(database)
    expected = [detail_rows(key, entry["version"], entry["text"]) for key, entry in found.items()]
    for place, name in enumerate(("words", "letters")):
        details = fanfold.open_table(database, f"scripted_{name}").to_table().to_pylist()
        wanted = [detail for some in expected for detail in some[place]]
        assert Counter(tuple(row.items()) for row in details) == Counter(tuple(row.items()) for row in wanted)
    return {key: entry["text"] for key, entry in found.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two good files and one that fails."""
    (tmp_path / "source").mkdir()
    for name, text in {"odd": "a b c", "even": "good one", "bad": "fail it"}.items():
        (tmp_path / "source" / f"{name}.txt").write_text(text)
    return tmp_path / "source"


def opened(database: str) -> Ledger:
    """The database's ledger, up to date."""
    ledger = Ledger.open(database, "scripted")
    assert ledger
    ledger.refresh()
    return ledger


def test_a_run_of_a_job_with_details(folder: Path, database: str) -> None:
    """A run counts items, not rows; a rerun finds nothing to do, or replaces the details of changed items."""
    report = embed(folder, database, Detailed())
    assert (report.ok, report.failed) == (2, 1)
    assert texts_in(database).keys() == {"odd.txt", "even.txt"}
    assert embed(folder, database, Detailed()).unchanged == 2
    changed(folder / "odd.txt", "now it is even")
    changed(folder / "even.txt", "fail")
    report = embed(folder, database, Detailed())
    assert (report.ok, report.failed) == (1, 2)
    assert texts_in(database) == {"odd.txt": "now it is even"}
    changed(folder / "odd.txt", "x")
    assert embed(folder, database, Detailed()).ok == 1
    assert texts_in(database) == {"odd.txt": "x"}
    assert opened(database).details.agree


def test_a_reader_sees_all_of_an_item_or_nothing(folder: Path, database: str) -> None:
    """At any moment of a run, rows and details that share key and version are complete."""
    embed(folder, database, Detailed())

    def look() -> bool:
        found = fanfold.open_table(database, "scripted").to_table().to_pylist()
        details = fanfold.open_table(database, "scripted_words").to_table().to_pylist()
        counts = Counter((row["key"], row["version"]) for row in details)
        return all(counts.get((row["key"], row["version"]), None) in (None, row["words_count"]) for row in found)

    with watching(look) as seen:
        for number in range(6):
            for file in folder.iterdir():
                changed(file, "word " * (number % 4 + 1))
            embed(folder, database, Detailed(), task_size=1)
    assert len(seen) > 5
    assert all(seen)


def test_drops_what_lost_its_other_half(folder: Path, database: str) -> None:
    """The next run drops rows without their details and details without their row, and does the items again."""
    embed(folder, database, Detailed())
    words_table = opened(database).details.tables["words"]
    words_table.dataset.delete("key = 'odd.txt' AND place = 1")
    twin = Lot(words_table.write_group([batch("ghost", 2)]), wanted({"ghost": 2}))
    words_table.commit_details([twin])
    assert not opened(database).details.agree
    report = embed(folder, database, Detailed())
    assert (report.ok, report.unchanged) == (1, 1)
    assert texts_in(database).keys() == {"odd.txt", "even.txt"}


def test_damaged_details_are_done_again(folder: Path, database: str) -> None:
    """The next run makes details that a repair has removed again, item by item."""
    embed(folder, database, Detailed(), task_size=1)
    data = sorted((Path(database) / "scripted_words.lance" / "data").iterdir())
    data[0].write_bytes(b"noise")
    assert repair(database)["scripted_words"].fragments == 1
    report = embed(folder, database, Detailed())
    assert (report.ok, report.unchanged) == (1, 1)
    assert texts_in(database).keys() == {"odd.txt", "even.txt"}


def test_old_receipts_fill_no_details_of_newer_rows(folder: Path, database: str) -> None:
    """A dead run's details stay out if a later run has made the row, even if that row has no details."""
    run, _ = worked(folder, database)
    changed(folder / "odd.txt", "  ")
    opened(database).publish(worked(folder, database)[1])
    commit_receipts(opened(database), run, fill=True)
    assert texts_in(database) == {"odd.txt": "  ", "even.txt": "good one"}


def test_tables_that_are_in_the_way(folder: Path, database: str) -> None:
    """A name that belongs to another table or to a detail table is refused, with what to do."""
    Table.create(database, "scripted_words", SCHEMA)
    with pytest.raises(UsageError, match="another table of that name"):
        embed(folder, database, Detailed())
    embed(folder, database, Detailed(), table="mine")
    with pytest.raises(UsageError, match="holds details of table 'mine'"):
        embed(folder, database, Detailed(), table="mine_words")
    with pytest.raises(UsageError, match=r"words_count .int64 not null there, absent here"):
        embed(folder, database, Scripted(), table="mine")
    shutil.rmtree(f"{database}/mine_words.lance")
    with pytest.raises(StorageError, match=r"Detail table .mine_words. of table .mine. is missing"):
        embed(folder, database, Detailed(), table="mine")


def test_a_mirror_refuses_details(folder: Path, database: str) -> None:
    """A mirror has one row per key, so a job with details is refused before any work."""
    with pytest.raises(UsageError, match="has detail tables"):
        embed(folder, database, Detailed(), mirror="dynamodb://somewhere")
    assert rows(database) == {}


def test_optimize_joins_details(folder: Path, database: str) -> None:
    """Optimize compacts detail tables like others, and their items stay known."""
    embed(folder, database, Detailed(), task_size=1)
    done = optimize(database, timedelta(0))
    assert (done["scripted_words"]["fragments_before"], done["scripted_words"]["fragments"]) == (2, 1)
    assert embed(folder, database, Detailed()).unchanged == 2
    assert texts_in(database).keys() == {"odd.txt", "even.txt"}


@dataclass(frozen=True)
class Odd(Scripted):
    """A job whose details() can return anything."""

    wrong: str = ""

    def details(self) -> dict[str, pa.Schema]:
        if self.wrong == "key":
            return {"words": SCHEMA}
        if self.wrong == "count":
            return {"words": WORDS}
        return {self.wrong: WORDS}

    def schema(self) -> pa.Schema:
        return SCHEMA.append(pa.field("words_count", pa.int8())) if self.wrong == "count" else SCHEMA


@pytest.mark.parametrize("wrong", ["rows", "failures", "a b", "", "../x", "key", "count"])
def test_details_that_cannot_be_are_refused(wrong: str) -> None:
    """Names that are taken or empty, schemas without a plain key, and columns that fanfold adds are refused."""
    with pytest.raises(UsageError, match=r"Use another name|must begin with|Rename it"):
        details_of(Odd(wrong=wrong))


def worked(folder: Path, database: str) -> tuple[RunDirectory, list[Outcome]]:
    """A run whose workers have done everything and whose driver died before its first commit."""
    job = Detailed()
    Ledger.open(database, job.name) or Ledger.create(database, job.name, job, str(folder), "key")
    run = RunDirectory.create(
        database, job=spec(job), recipe=dict(job.recipe()), table=job.name, root=str(folder), options={}
    )
    asked = run.get("run.json") or {}
    run.put("run.json", asked | {"driver": asked["driver"] | {"pid": 2**22 + 1}})  # above Linux's largest process id
    items = sorted(open_source(str(folder)).list(TXT), key=lambda item: item.key)
    worker = Worker(database, run.id)
    return run, [worker.perform(run.write_manifest(number, [item])) for number, item in enumerate(items)]


class Killed(BaseException):
    """A driver ends between two steps."""


def die(folder: Path, database: str, before: str) -> None:
    """Let workers do everything, and let the driver that publishes it die before one of its steps."""
    _, outcomes = worked(folder, database)
    ledger = opened(database)
    calls = {"details": (Details, "publish"), "rows": (Table, "commit"), "confirm": (Details, "confirm")}
    where, name = calls[before]

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(Killed):
            ledger.publish(outcomes)


story = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "run", "retry", "details", "rows", "confirm", "publish all", "compact"]),
        st.integers(0, 2),
        st.sampled_from(["good", "good one", "one two three", "fail", "fail again and again", "forget it"]),
    ),
    max_size=10,
)


@given(story)
@settings(max_examples=settings.default.max_examples // 3)  # each takes a tenth of a second or more
def test_whatever_happens_all_tables_agree(tmp_path_factory: pytest.TempPathFactory, happened: list[Any]) -> None:
    """After any file changes, driver deaths between steps and republished outcomes, one run makes all tables agree."""
    home = tmp_path_factory.mktemp("story")
    folder, database = home / "source", str(home / "db")
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("good" * number + " start")
    embed(folder, database, Detailed())
    for what, number, text in happened:
        if what == "write":
            changed(folder / f"{number}.txt", text)
        elif what in ("run", "retry"):
            embed(folder, database, Detailed(), retry_failed=what == "retry")
        elif what == "compact":
            optimize(database, timedelta(0))
        elif what == "publish all":
            for id in list_runs(database):
                opened(database).publish(list(RunDirectory(database, id).receipts()))
        else:
            die(folder, database, what)
    report = embed(folder, database, Detailed())
    texts = {f"{number}.txt": (folder / f"{number}.txt").read_text() for number in range(3)}
    good = {key: text for key, text in texts.items() if text.split()[0] not in ("fail", "forget")}
    assert texts_in(database) == good
    assert (report.listed, report.lost, report.failed) == (3, 0, 3 - len(good))
    assert set(rows(database, "failures")) == texts.keys() - good.keys()


def test_an_item_that_is_dropped_twice_takes_nothing_with_it(database: str) -> None:
    """A commit that names an item twice drops its rows, and not those of its neighbour in the fragment."""
    table = Table.create(database, "scripted_words", WORDS.with_metadata({DETAIL_OF: "scripted"}))
    listed = [{"key": key, "version": "1", "place": 0, "word": key} for key in ("a", "b")]
    fragments = table.write_group([pa.RecordBatch.from_pylist(listed, schema=WORDS)])
    both = Content(digests(["a", "b"]), words(["1", "1"]), np.array([1, 1], np.uint64))
    table.commit_details([Lot(fragments, both)])
    table.commit_details([], Drop(digests(["a", "a"]), words(["1", "1"])))
    assert table.dataset.to_table(["key"])["key"].to_pylist() == ["b"]


def test_a_scan_that_breaks_off_is_begun_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that was half read when the connection broke counts no row twice."""
    table = Table.create(database, "scripted_words", WORDS.with_metadata({DETAIL_OF: "scripted"}))
    for key in ("a", "b", "c"):
        row = {"key": key, "version": "1", "place": 0, "word": key}
        fragments = table.write_group([pa.RecordBatch.from_pylist([row], schema=WORDS)])
        table.commit_details([Lot(fragments, Content(digests([key]), words(["1"]), np.array([1], np.uint64)))])
    other = Table.open(database, "scripted_words")
    assert other
    enter = View._enter

    def broken(*arguments: Any) -> None:
        enter(*arguments)
        raise OSError("the connection broke")

    monkeypatch.setattr(View, "_enter", broken)
    with pytest.raises(StorageError):
        other.refresh()
    monkeypatch.undo()
    other.refresh()
    assert other.index.measure(digests(["a", "b", "c"]))[2].tolist() == [1, 1, 1]
