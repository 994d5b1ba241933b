"""Tables: an index like a dictionary, and commits that neither lose nor duplicate a row."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fanfold
from fanfold import StorageError, UsageError
from fanfold.core.database import table_names
from fanfold.core.fragments import Fragment
from fanfold.core.index import NOWHERE, Digests, Index, digests, words
from fanfold.core.optimize import optimize_table
from fanfold.core.table import FAILURES, Drop, Table, in_both
from fanfold.storage import join, open_store
from helpers import batch, rows, texts_of, together, watching, written
from jobs import SCHEMA
from racers import act, commit, create_and_commit, merge, race

NONE = digests([])


def some(prefix: str, count: int) -> dict[str, str]:
    """This many keys, each with a text."""
    return {f"{prefix}{n:03d}": f"text of {prefix}{n:03d}" for n in range(count)}


def files_of(database: str, table: str = "scripted") -> set[str]:
    """The names of a table's data files, committed or not."""
    return {meta["path"] for chunk in open_store(join(database, f"{table}.lance")).list("data") for meta in chunk}


@pytest.fixture
def table(database: str) -> Table:
    """An empty table on disk."""
    return Table.create(database, "scripted", SCHEMA)


# The index

additions = st.lists(
    st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 3), st.none() | st.integers(0, 2**40)), max_size=30),
    max_size=25,
)
KEYS = [f"{n}" for n in range(45)]


def added(index: Index, entries: dict[int, tuple[int, int | None]]) -> None:
    """Add entries to an index: key -> version, address or None to forget."""
    addresses = [NOWHERE if address is None else address for _, address in entries.values()]
    versions = words(f"{version}" for version, _ in entries.values())
    index.add(digests(f"{key}" for key in entries), versions, np.array(addresses, np.uint64))


def held(index: Index) -> dict[str, tuple[int, int]]:
    """What an index holds for all keys: the word of the version, and the address."""
    versions, addresses = index.find(digests(KEYS))
    found = zip(KEYS, versions.tolist(), addresses.tolist(), strict=True)
    return {key: (version, address) for key, version, address in found if address != NOWHERE}


def model(steps: list[dict[int, tuple[int, int | None]]]) -> dict[str, tuple[int, int]]:
    """The same with a dictionary."""
    told: dict[str, tuple[int, int]] = {}
    for entries in steps:
        for key, (version, address) in entries.items():
            told.pop(f"{key}", None)
            if address is not None:
                told[f"{key}"] = (int(words([f"{version}"])[0]), address)
    return told


@given(additions)
def test_an_index_is_a_dictionary(steps: list[dict[int, tuple[int, int | None]]]) -> None:
    """Adding, replacing and forgetting in any order leaves the content of a dictionary."""
    index = Index()
    for number, entries in enumerate(steps):
        added(index, entries)
        assert held(index) == model(steps[: number + 1])
    assert set(index.keys().tolist()) == set(digests(model(steps)).tolist())


@given(additions, additions)
def test_a_snapshot_stays_as_it_is(
    before: list[dict[int, tuple[int, int | None]]], after: list[dict[int, tuple[int, int | None]]]
) -> None:
    """Additions to the index do not show in its snapshot, nor additions to the snapshot in the index."""
    index = Index()
    for entries in before:
        added(index, entries)
    copy = index.snapshot()
    for entries in after:
        added(index, entries)
    assert (held(copy), held(index)) == (model(before), model([*before, *after]))
    for entries in after:
        added(copy, entries)
    assert held(copy) == held(index)


def test_many_additions_make_few_segments() -> None:
    """A thousand additions are merged on the way, so that a lookup takes only a few searches."""
    index = Index()
    for n in range(1000):
        index.add(digests([f"{n}"]), words(["1"]), np.array([n], np.uint64))
    assert len(index.segments) <= 10
    assert index.find(digests(f"{n}" for n in range(1000)))[1].tolist() == list(range(1000))


halves = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 3))
alike = st.lists(st.dictionaries(halves, st.integers(0, 2**40), max_size=12), max_size=8)


def of_halves(keys: Iterable[tuple[int, int]]) -> Digests:
    """The digests with these halves."""
    return np.array(list(keys), np.uint64).reshape(-1, 2).view("S16").ravel()


@given(alike)
def test_digests_that_share_a_half_are_told_apart(steps: list[dict[tuple[int, int], int]]) -> None:
    """Keys are found by both halves of their digests, though segments are sorted by the first."""
    index, told = Index(), dict[tuple[int, int], int]()
    asked = [(high, low) for high in (0, 1, 2, 2**63, 2**64 - 1) for low in range(5)]
    for entries in steps:
        index.add(of_halves(entries), words([""] * len(entries)), np.array(list(entries.values()), np.uint64))
        told |= entries
        assert index.find(of_halves(asked))[1].tolist() == [told.get(key, int(NOWHERE)) for key in asked]
    assert len(index.keys()) == len(told)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.integers(0, 3))
def test_large_segments_are_searched_like_small_ones(sizes: list[int], seed: int) -> None:
    """Thousands of digests, many per bucket, are found at the address they were last given."""
    random = np.random.default_rng(seed)
    every = np.unique(random.integers(0, 2**64, 4000, np.uint64))
    index, told = Index(), np.full(len(every), NOWHERE)
    for number, size in enumerate(sizes):
        some = random.choice(len(every), min(size, len(every)), replace=False)
        told[some] = some + number * len(every)
        index.add(of_halves((int(every[at]), int(at)) for at in some), np.zeros(len(some), np.uint64), told[some])
    found = index.find(of_halves((int(high), at) for at, high in enumerate(every)))[1]
    assert found.tolist() == told.tolist()
    assert (index.find(of_halves((int(high), at + 1) for at, high in enumerate(every)))[1] == NOWHERE).all()


def test_an_empty_index_finds_nothing() -> None:
    """An empty index finds nothing, and a lookup of no keys finds nothing."""
    assert Index().find(digests(["x"]))[1].tolist() == [int(NOWHERE)]
    assert len(Index().find(NONE)[1]) == len(Index().keys()) == 0


# Opening and making


def test_a_table_that_is_not_there_is_none(database: str) -> None:
    """Opening a table does not create it."""
    assert Table.open(database, "scripted") is None
    assert not Path(database).exists()
    with pytest.raises(UsageError, match="no table 'scripted'"):
        fanfold.open_table(database, "scripted")


def test_making_a_table_twice_keeps_its_rows(table: Table, database: str) -> None:
    """Creating a table that exists opens it."""
    commit(table, some("x", 3))
    assert Table.create(database, "scripted", SCHEMA).dataset.count_rows() == 3


def test_a_database_may_have_an_odd_name(tmp_path: Path) -> None:
    """Spaces, percent signs, brackets and the like in a path are taken literally."""
    for name in ("with space", "per%20cent", "ha#sh", "quest?ion", "é😀", "br[ack]et", "quo'te"):
        table = Table.create(str(tmp_path / name), "scripted", SCHEMA)
        commit(table, some("x", 2))
        commit(table, {"x000": "new"}, "2")
        assert texts_of(str(tmp_path / name)) == {"x000": "new", "x001": "text of x001"}
        assert table_names(str(tmp_path / name)) == ["scripted"]


def test_a_path_that_lance_cannot_take_is_an_error(tmp_path: Path) -> None:
    """A line break in a database's path is refused with the path in the message."""
    with pytest.raises(StorageError, match="Cannot use"):
        Table.create(str(tmp_path / "new\nline"), "scripted", SCHEMA)


def test_the_schema_keeps_its_metadata(database: str) -> None:
    """A job's metadata of its table can be read back."""
    Table.create(database, "scripted", SCHEMA.with_metadata({"fanfold.job": "scripted"}))
    again = Table.open(database, "scripted")
    assert again is not None
    assert again.metadata["fanfold.job"] == "scripted"


def test_several_make_one_table(database: str) -> None:
    """Processes that create the same table at once keep each other's rows."""
    together(create_and_commit, [(database, f"{n}") for n in range(4)])
    assert sorted(rows(database)) == ["0", "1", "2", "3"]


def test_several_make_one_table_on_s3(bucket: str) -> None:
    """The same on an object store."""
    together(create_and_commit, [(bucket, f"{n}") for n in range(4)])
    assert sorted(rows(bucket)) == ["0", "1", "2", "3"]


# Writing


def test_what_is_written_is_not_seen(table: Table, database: str) -> None:
    """A fragment is not a part of the table until it is committed, and survives JSON."""
    fragments = written(table, some("x", 3))
    assert rows(database) == {}
    assert not table.holds(fragments[0])
    table.commit(fragments)
    assert len(rows(database)) == 3
    assert table.holds(fragments[0])


def test_writing_nothing_makes_nothing(table: Table) -> None:
    """Without rows there is no fragment."""
    assert table.write(iter([])) == []


def test_many_batches_become_one_fragment(table: Table) -> None:
    """Small batches are combined into one fragment."""
    fragments = table.write(batch({f"{n}": "x"}) for n in range(50))
    assert len(fragments) == 1
    keys, versions = table.contents(fragments)
    assert keys.tolist() == digests(f"{n}" for n in range(50)).tolist()
    assert set(versions.tolist()) == set(words(["1"]).tolist())


def test_an_error_while_writing_is_passed_on(table: Table) -> None:
    """An error from the iterator of rows is raised unchanged."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch({"x": "x"})
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        table.write(batches())


# Committing


def test_changed_rows_replace_their_old_ones(table: Table, database: str) -> None:
    """A key at another version replaces its row; everything else stays."""
    commit(table, some("x", 5))
    commit(table, {"x001": "new", "y": "new"}, "2")
    assert texts_of(database) == some("x", 5) | {"x001": "new", "y": "new"}


def test_the_same_fragments_again_change_nothing(table: Table, database: str) -> None:
    """A second commit makes no new version, in this object or in another."""
    fragments = written(table, some("x", 5))
    table.commit(fragments)
    version = lance.dataset(table.uri).version
    other = Table.open(database, "scripted")
    assert other is not None
    for again in (table, other):
        assert len(again.commit(fragments)) == 5
    assert lance.dataset(table.uri).version == version


def test_the_same_items_in_other_fragments_are_dropped(table: Table, database: str) -> None:
    """If some rows are there already at their version, only the rest of the fragment is added."""
    commit(table, some("x", 6))
    table.commit(table.write(iter([batch({"x004": "mine", "x005": "mine", "x006": "new"})])))
    assert texts_of(database) == some("x", 6) | {"x006": "new"}


def test_an_item_in_two_fragments_of_one_commit_is_added_once(table: Table, database: str) -> None:
    """Two tasks that did the same item, committed together, leave one row, that of the first."""
    fragments = written(table, {"x": "1", "y": "1"}) + written(table, {"y": "2", "z": "2"}) + written(table, {"y": "3"})
    table.commit(fragments)
    assert texts_of(database) == {"x": "1", "y": "1", "z": "2"}


def at(version: str, *keys: str) -> Drop:
    """The rows of these keys at this version, to be dropped."""
    return Drop(digests(keys), words([version] * len(keys)))


def test_dropped_keys_go_unless_at_the_version_to_keep(table: Table, database: str) -> None:
    """A failed item's row is dropped, unless it has the version that failed."""
    commit(table, some("x", 3))
    table.commit([], Drop(digests(["x000", "x001", "absent"]), words(["2", "1", "1"]), all_but=True))
    assert sorted(rows(database)) == ["x001", "x002"]
    table.commit([], at("1", "x001"))
    assert sorted(rows(database)) == ["x002"]


def test_adding_and_dropping_is_one_step(table: Table) -> None:
    """One commit makes one version, even if it adds and drops."""
    commit(table, some("x", 4))
    before = lance.dataset(table.uri).version
    table.commit(written(table, {"x000": "new", "y": "new"}, "2"), at("1", "x001", "x002"))
    assert lance.dataset(table.uri).version == before + 1


def test_a_table_can_be_emptied_and_filled_again(table: Table, database: str) -> None:
    """A commit to a table without fragments is safe as well."""
    other = Table.open(database, "scripted")
    assert other is not None
    for number in range(3):
        commit(table, some("x", 3), f"{number}")
        other.commit([], at(f"{number}", *some("x", 3)))
        assert rows(database) == {}
        commit(other, some("y", 2), f"{number}")
        commit(table, {"x001": f"{number}"}, f"{number}.5")
        assert sorted(rows(database)) == ["x001", "y000", "y001"]
        table.commit([], at(f"{number}", "y000", "y001"))
        table.commit([], at(f"{number}.5", "x001"))


def looked_at(database: str) -> dict[str, tuple[int, int]]:
    """What a fresh index holds of the table as it is now."""
    table = Table.open(database, "scripted")
    assert table is not None
    table.refresh()
    return held(table.index)


def test_a_commit_knows_where_its_rows_are(table: Table, database: str) -> None:
    """After commits of whole, cut, dropped and replacing fragments, the index equals a fresh one."""
    commit(table, {f"{n}": "" for n in range(10)})
    parts = [written(table, {f"{n}": "" for n in some}) for some in ([20, 21], [9, 22, 8, 23], [1, 2], [24])]
    table.commit([fragment for part in parts for fragment in part])
    assert held(table.index) == looked_at(database)
    parts = [written(table, {f"{n}": "" for n in some}, "2") for some in ([21, 3, 22], [25])]
    table.commit([fragment for part in parts for fragment in part], at("1", "5", "24"))
    assert held(table.index) == looked_at(database)
    assert len(rows(database)) == 10 + 5 + 1 - 2


def test_a_commit_after_another_drivers_looks_again(table: Table, database: str) -> None:
    """Fragments of other drivers are in the index after the next commit."""
    other = Table.open(database, "scripted")
    assert other is not None
    for number in range(3):
        commit(other, {f"{number}": ""})
        commit(table, {f"{number + 10}": ""})
        assert held(table.index) == looked_at(database)


def test_nothing_new_is_not_looked_at(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh reads no fragment while the version stays the same, or after the table's own commit."""
    commit(table, some("x", 3))
    monkeypatch.setattr(Table, "_scan", lambda *_: pytest.fail("looked"))
    table.refresh()
    commit(table, some("y", 3))
    table.refresh()


steps = st.lists(
    st.tuples(
        st.booleans(),  # which of two table objects
        st.dictionaries(st.integers(0, 8), st.just(""), max_size=5),  # keys to add
        st.integers(0, 2),  # at which version
        st.sets(st.integers(0, 8), max_size=3),  # keys to drop
    ),
    max_size=6,
)


@given(steps)
@settings(max_examples=settings.default.max_examples // 3)  # each takes a tenth of a second or more
def test_two_objects_taking_turns_are_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[bool, dict[int, str], int, set[int]]]
) -> None:
    """After any commits by two drivers in turns, the table equals a dictionary."""
    database = str(tmp_path_factory.mktemp("turns"))
    both = [Table.create(database, "scripted", SCHEMA), Table.create(database, "scripted", SCHEMA)]
    told: dict[str, str] = {}
    for which, keys, version, drop in turns:
        table = both[which]
        dropped = {f"{key}" for key in drop} - {f"{key}" for key in keys}
        fragments = written(table, {f"{key}": "" for key in keys}, f"{version}") if keys else []
        table.commit(fragments, Drop(digests(dropped), words(["never"] * len(dropped)), all_but=True))
        told = {key: v for key, v in told.items() if key not in dropped} | {f"{key}": f"{version}" for key in keys}
        assert {key: row["version"] for key, row in rows(database).items()} == told
        assert held(table.index) == looked_at(database)


def hold_once(database: str, names: str) -> None:
    """Check that no row is there twice and none is missing."""
    found = rows(database)  # no key twice
    assert {f"{n}" for n in range(20)} <= found.keys()
    for name in names:
        alone = sorted(int(key[1:]) for key in found if key[0] == name)
        assert alone
        assert alone == list(range(len(alone)))


@pytest.mark.usefixtures("table")
def test_processes_that_commit_the_same_keys(database: str) -> None:
    """Three processes that race for the same keys duplicate none, and none loses its own."""
    together(race, [(database, name, 0.7) for name in "abc"])
    hold_once(database, "abc")


def test_processes_that_commit_the_same_keys_on_s3(bucket: str) -> None:
    """The same on an object store."""
    Table.create(bucket, "scripted", SCHEMA)
    together(race, [(bucket, name, 1.5) for name in "ab"])
    hold_once(bucket, "ab")


def test_a_reader_sees_every_key_once_at_any_moment(table: Table, database: str) -> None:
    """While rows are replaced, every version has each key exactly once."""
    keys = some("x", 12)
    commit(table, keys)

    def look() -> tuple[int, list[str]]:
        dataset = lance.dataset(table.uri)
        return dataset.version, sorted(dataset.to_table(columns=["key"])["key"].to_pylist())

    with watching(look) as seen:
        for version in range(2, 12):
            commit(table, dict(list(keys.items())[version % 3 :]), f"{version}")
    commit(table, keys, "last")
    versions = lance.dataset(table.uri).versions()
    assert len(versions) > 10
    for number in range(2, versions[-1]["version"] + 1):  # include versions that no look caught
        seen.append((number, sorted(lance.dataset(table.uri, version=number).to_table()["key"].to_pylist())))
    assert {tuple(found) for _, found in seen} == {tuple(sorted(keys))}  # type: ignore[misc]
    assert len(rows(database)) == 12


def test_lances_own_upserts_double_nothing(table: Table, database: str) -> None:
    """With the key as primary key, `merge_insert` from two processes leaves every key once."""
    commit(table, {"x": "x"})
    together(merge, [(database, name) for name in "ab"])
    assert len(rows(database)) == 31


def test_a_swept_fragment_is_passed_over(table: Table, database: str) -> None:
    """A fragment whose file is gone is an error to its own run, but not to a run that recovers it."""
    gone, there = written(table, {"x": "x"}), written(table, {"y": "y"})
    (Path(table.uri) / "data" / gone[0]["files"][0]["path"]).unlink()
    with pytest.raises(StorageError, match="disappeared before its commit"):
        table.commit(gone + there)
    missing: list[Fragment] = []
    assert table.commit(gone + there, fill=True, missing=missing).tolist() == digests(["y"]).tolist()
    assert missing == gone
    assert texts_of(database) == {"y": "y"}


@pytest.mark.parametrize("content", [b"", b"x", bytes(5000), b"LANC" * 400])
def test_a_torn_object_is_passed_over(content: bytes, bucket: str) -> None:
    """A fragment on an object store that cannot be read is treated as missing."""
    table = Table.create(bucket, "scripted", SCHEMA)
    torn, there = written(table, {"x": "x"}), written(table, {"y": "y"})
    open_store(join(table.uri, "data")).put(torn[0]["files"][0]["path"], content)
    missing: list[Fragment] = []
    assert table.commit(torn + there, missing=missing).tolist() == digests(["y"]).tolist()
    assert missing == torn
    assert texts_of(bucket) == {"y": "y"}


def test_fragments_have_sums_and_need_none(table: Table, database: str) -> None:
    """Fragments without checksums, from older versions, are committed; one with a wrong checksum is skipped."""
    old, other = written(table, {"x": "x"}), written(table, {"y": "y"})
    del old[0]["crc32"]
    other[0]["crc32"][0] += 1
    missing: list[Fragment] = []
    table.commit(old + other, missing=missing)
    assert missing == other
    assert texts_of(database) == {"x": "x"}


def test_a_swept_fragment_is_passed_over_on_s3(bucket: str) -> None:
    """The same on an object store."""
    table = Table.create(bucket, "scripted", SCHEMA)
    gone, there = written(table, {"x": "x"}), written(table, {"y": "y"})
    open_store(f"{bucket}/scripted.lance").delete(f"data/{gone[0]['files'][0]['path']}")
    table.commit(gone + there, fill=True)
    assert texts_of(bucket) == {"y": "y"}


def test_a_table_that_vanishes_is_an_error(table: Table, database: str) -> None:
    """Committing to a table that is gone is an error that names it."""
    fragments = written(table, {"x": "x"})
    Path(table.uri).rename(f"{database}/elsewhere")
    with pytest.raises(StorageError, match=r"scripted\.lance"):
        table.commit(fragments)


def test_tables_that_share_failures_do_not_mix(database: str) -> None:
    """Each table sees only its own rows of the failures table, whatever its name, and drops only those."""
    both = [Table.create(database, "failures", FAILURES, scope=scope) for scope in ("one", "o'ther")]
    for number, table in enumerate(both):
        row = {name: f"{number}" for name in FAILURES.names if name != "when"}
        row |= {"table": table.scope, "key": "x", "when": None}
        rows = pa.Table.from_pylist([row | {"when": 0}], FAILURES)
        table.commit(table.write(iter(rows.to_batches())))
    for table in both:
        table.refresh()
        assert len(table.index.keys()) == 1
    both[1].commit([], at("1", "x"))
    both[0].refresh()
    assert both[0].dataset.to_table()["table"].to_pylist() == ["one"]
    assert len(both[0].index.keys()) == 1


def test_keys_in_both_tables_are_found(database: str) -> None:
    """Only the keys that both tables have are found."""
    one, other = Table.create(database, "one", SCHEMA), Table.create(database, "other", SCHEMA)
    commit(one, some("x", 5))
    commit(other, {"x001": "", "x004": "", "y": ""})
    assert set(in_both(one, other).keys.tolist()) == set(digests(["x001", "x004"]).tolist())


# Upkeep


def test_optimize_joins_fragments_and_forgets_versions(table: Table, database: str) -> None:
    """Many small commits become one fragment and one version, with the same rows."""
    for n in range(6):
        commit(table, some(f"{n}", 3))
    before = texts_of(database)
    done = optimize_table(table, timedelta(0), lambda: False)
    assert (done["fragments_before"], done["fragments"]) == (6, 1)
    assert done["old_versions"] >= 6
    assert done["bytes_removed"] > 0
    assert texts_of(database) == before
    assert len(lance.dataset(table.uri).versions()) == 1
    assert len(files_of(database)) == 1


def test_optimize_keeps_young_versions(table: Table) -> None:
    """Versions younger than `keep` can still be read."""
    for n in range(3):
        commit(table, some(f"{n}", 2))
    assert optimize_table(table, timedelta(hours=1), lambda: False)["old_versions"] == 0
    assert lance.dataset(table.uri, version=2).count_rows() == 2


def test_only_a_sweep_takes_litter(table: Table, database: str) -> None:
    """An uncommitted fragment stays until a sweep, since its commit may still come."""
    commit(table, some("x", 2))
    written(table, some("y", 2))
    optimize_table(table, timedelta(0), lambda: False)
    assert len(files_of(database)) == 2
    optimize_table(table, timedelta(0), lambda: True)
    assert len(files_of(database)) == 1
    assert len(rows(database)) == 2


def test_commits_go_on_after_a_compaction(table: Table, database: str) -> None:
    """A driver whose index is older than another's compaction still replaces the right rows."""
    for n in range(4):
        commit(table, some(f"{n}", 3))
    fragments = written(table, some("0", 3))
    other = Table.open(database, "scripted")
    assert other is not None
    optimize_table(other, timedelta(0), lambda: False)
    commit(table, {"1000": "new", "2001": "new"}, "2")
    table.commit(fragments)
    assert len(rows(database)) == 12
    assert texts_of(database)["1000"] == texts_of(database)["2001"] == "new"


@pytest.mark.usefixtures("table")
def test_compacting_while_others_commit(database: str) -> None:
    """A compaction between commits loses and duplicates nothing."""
    together(act, [("a", database, 0.7), ("compact", database, 0.7)])
    hold_once(database, "a")


def test_lancedb_opens_the_tables(table: Table, database: str) -> None:
    """The database is a LanceDB database that LanceDB opens without fanfold."""
    commit(table, some("x", 3))
    import lancedb  # late: it takes seconds to import

    opened: Any = lancedb.connect(database).open_table("scripted")
    assert opened.count_rows() == 3
    assert opened.search().where("key = 'x001'").to_list()[0]["text"] == "text of x001"


def test_lancedb_opens_the_tables_on_s3(bucket: str) -> None:
    """The same on an object store."""
    import lancedb

    commit(Table.create(bucket, "scripted", SCHEMA), some("x", 3))
    assert lancedb.connect(bucket).open_table("scripted").count_rows() == 3


@pytest.mark.usefixtures("table")
def test_table_names(database: str) -> None:
    """The tables of a database, by name; a missing database has none."""
    Table.create(database, "another", SCHEMA)
    assert table_names(database) == ["another", "scripted"]
    assert table_names(database + "2") == []


def test_whether_to_sweep_is_asked_after_joining(table: Table) -> None:
    """A run may begin while fragments are joined, so only then is it decided what is litter."""
    for number in range(4):
        table.commit(written(table, {f"{number}": "text"}))
    waiting = written(table, {"5": "of a run that began meanwhile"})
    seen = []

    def may_sweep() -> bool:
        seen.append(len(lance.dataset(table.uri).get_fragments()))
        return False

    optimize_table(table, timedelta(0), may_sweep)
    assert seen == [1]
    table.commit(waiting)
    assert table.dataset.count_rows() == 5
