"""Queries of a table: neighbours, duplicates, vectors."""

from pathlib import Path
from typing import Any

import lance
import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.core.database import open_table
from fanfold.core.ledger import Ledger
from fanfold.errors import UsageError
from fanfold.images import Images
from fanfold.images.cli.tables import query_vector
from fanfold.images.search import duplicates as finding
from fanfold.images.search import neighbours as search
from fanfold.images.search import rows as rows_of_a_table

RANDOM = np.random.default_rng(3)


def table(path: Path, vectors: np.ndarray, keys: list[str] | None = None, **options: Any) -> lance.LanceDataset:
    """A dataset with these vectors, float32[n, dimension]."""
    names = keys or [f"k{number}" for number in range(len(vectors))]
    values = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    columns = {
        "key": pa.array(names),
        "uri": pa.array([f"file:///{name}" for name in names]),
        "vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
    }
    return lance.write_dataset(pa.table(columns), str(path / "t.lance"), **options)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows, scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_nearest(tmp_path: Path) -> None:
    """The nearest rows are those of highest cosine, best first, whatever their lengths."""
    vectors = RANDOM.normal(size=(500, 24)) * RANDOM.uniform(0.1, 10, (500, 1))
    query = RANDOM.normal(size=24)
    hits = search.nearest(table(tmp_path, vectors), query, 10)
    exact = unit(vectors) @ query / np.linalg.norm(query)
    best = np.argsort(-exact)[:10]
    assert [hit.key for hit in hits] == [f"k{row}" for row in best]
    assert np.allclose([hit.cosine for hit in hits], exact[best], atol=1e-5)
    assert hits[0].uri == f"file:///{hits[0].key}"


def test_nearest_of_few(tmp_path: Path) -> None:
    """Asking for more rows than there are returns all of them."""
    assert len(search.nearest(table(tmp_path, RANDOM.normal(size=(3, 8))), RANDOM.normal(size=8), 10)) == 3


def test_nearest_after_deleting(tmp_path: Path) -> None:
    """A deleted row is not found, and the rows after it keep their keys."""
    dataset = table(tmp_path, np.eye(8), max_rows_per_file=3)
    dataset.delete("key IN ('k1', 'k4')")
    hits = search.nearest(lance.dataset(dataset.uri), np.eye(8)[6] + np.eye(8)[1], 2)
    assert hits[0].key == "k6"
    assert hits[1].cosine == 0


def test_nearest_in_bounded_memory(tmp_path: Path) -> None:
    """Searching a table of 160 MB takes much less memory than that."""
    dataset = table(tmp_path, np.tile(RANDOM.normal(size=(1000, 1024)).astype(np.float32), (40, 1)))
    process = psutil.Process()
    before = process.memory_info().rss
    search.nearest(lance.dataset(dataset.uri), np.ones(1024), 5)
    assert process.memory_info().rss - before < 100 << 20


def test_nearest_of_nothing(tmp_path: Path) -> None:
    """An empty table has no neighbours."""
    assert search.nearest(table(tmp_path, np.ones((0, 8))), np.ones(8), 3) == []


def test_nearest_by_index(tmp_path: Path) -> None:
    """A table with a vector index is searched through it."""
    dataset = table(tmp_path, RANDOM.normal(size=(2000, 16)))
    dataset.create_index("vector", "IVF_FLAT", metric="cosine", num_partitions=4)
    vector = search.vectors(dataset, ["k7"])[1][0]
    assert search.nearest(lance.dataset(dataset.uri), vector, 1)[0].key == "k7"


def test_query_of_another_model(tmp_path: Path) -> None:
    """A vector of another length is refused."""
    with pytest.raises(UsageError, match="16 values, but the table's vectors have 8"):
        search.nearest(table(tmp_path, RANDOM.normal(size=(3, 8))), RANDOM.normal(size=16), 1)


def test_vectors(tmp_path: Path) -> None:
    """Vectors come back in the order asked, and missing keys are listed."""
    vectors = RANDOM.normal(size=(20, 8)).astype(np.float32)
    found, matrix, missing = search.vectors(table(tmp_path, vectors), ["k3", "nothing", "k19", "k0", "k3"])
    assert found == ["k3", "k19", "k0"]
    assert np.array_equal(matrix, vectors[[3, 19, 0]])
    assert missing == ["nothing"]


def test_no_vectors(tmp_path: Path) -> None:
    """Asking only for missing keys returns an empty matrix."""
    found, matrix, missing = search.vectors(table(tmp_path, RANDOM.normal(size=(2, 8))), ["x"])
    assert (found, matrix.shape, missing) == ([], (0, 8), ["x"])


ODD = ["it's", "a''b", 'say "hi"', "back\\slash", "new\nline", "🐈.jpg", "%_*?[x]", "", " ", "DROP TABLE t; --", "k%20"]


def test_odd_keys(tmp_path: Path) -> None:
    """Keys with quotes, newlines, emoji and wildcards are taken literally."""
    vectors = RANDOM.normal(size=(len(ODD), 8)).astype(np.float32)
    found, matrix, missing = search.vectors(table(tmp_path, vectors, ODD), ODD)
    assert (found, missing) == (ODD, [])
    assert np.array_equal(matrix, vectors)


def test_many_vectors(tmp_path: Path) -> None:
    """More keys than fit into one query are split over several."""
    vectors = RANDOM.normal(size=(1200, 8)).astype(np.float32)
    found, matrix, _ = search.vectors(table(tmp_path, vectors), [f"k{row}" for row in reversed(range(1200))])
    assert len(found) == 1200
    assert np.array_equal(matrix, vectors[::-1])


def test_a_picture_sought_where_there_is_no_gpu(tmp_path: Path, photos: dict[str, Path]) -> None:
    """A table that was made on a GPU can be searched by a picture on any machine."""
    Ledger.create(str(tmp_path), "images", Images(provider="cuda"), str(tmp_path), "key")
    dataset = open_table(str(tmp_path), "images")
    vector = query_vector(dataset, "images", str(photos["chelsea"]))
    assert np.allclose(vector, Images().embed_one(photos["chelsea"].read_bytes()))


# -- duplicates -----------------------------------------------------------------------------------------------------


def naive(vectors: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """Groups from spreading labels over the whole matrix of cosines until nothing changes."""
    alike = unit(vectors) @ unit(vectors).T >= threshold - 1e-6
    labels = np.arange(len(vectors))
    while True:
        spread = np.array([labels[row].min() for row in alike])
        if np.array_equal(spread, labels):
            break
        labels = spread
    groups = [frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return {group for group in groups if len(group) > 1}


def rows_of(groups: list[search.Group]) -> set[frozenset[int]]:
    """The groups as row numbers."""
    return {frozenset(int(key[1:]) for key in group.keys) for group in groups}


def clustered(rows: int, centres: int, noise: float, seed: int) -> np.ndarray:
    """Vectors around some centres, and as many again at random."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, 12))
    near = middle[random.integers(0, centres, rows // 2)] + random.normal(size=(rows // 2, 12)) * noise
    return random.permutation(np.concatenate([near, random.normal(size=(rows - rows // 2, 12))]))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 300), st.integers(1, 40), st.sampled_from([0.0, 0.05, 0.2]), st.integers(0, 99))
def test_groups(tmp_path_factory: pytest.TempPathFactory, rows: int, centres: int, noise: float, seed: int) -> None:
    """The groups are the connected components, whatever blocks they are found in."""
    vectors = clustered(rows, centres, noise, seed)
    dataset = table(tmp_path_factory.mktemp("t"), vectors, max_rows_per_file=70)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_of_a_table, "STREAMED", 32)
        patch.setattr(finding, "HELD", 4 * 12 * 96)
        groups = search.duplicates(dataset, 0.97)
    assert rows_of(groups) == naive(vectors, 0.97)
    for group in groups:
        inside = unit(vectors[[int(key[1:]) for key in group.keys]])
        pairs = (inside @ inside.T)[np.triu_indices(len(inside), 1)]
        assert abs(group.least - pairs[pairs >= 0.97 - 1e-6].min()) < 1e-5


def test_order(tmp_path: Path) -> None:
    """The largest group comes first, and its keys are in the table's order."""
    base = np.eye(4, 8)
    vectors = base[[0, 1, 2, 1, 0, 1, 3]]
    groups = search.duplicates(table(tmp_path, vectors))
    assert [group.keys for group in groups] == [("k1", "k3", "k5"), ("k0", "k4")]
    assert groups[0].least == pytest.approx(1)


def test_exact_copies_only(tmp_path: Path) -> None:
    """At a threshold of 1, copies are found despite rounding, and nothing else."""
    vectors = RANDOM.normal(size=(50, 64))
    vectors[30] = vectors[4] * 3
    assert rows_of(search.duplicates(table(tmp_path, vectors), 1.0)) == {frozenset({4, 30})}


def test_all_alike(tmp_path: Path) -> None:
    """A table with copies of one picture is one group, found without a list of its pairs."""
    vectors = np.ones((6000, 8))
    (group,) = search.duplicates(table(tmp_path, vectors))
    assert len(group.keys) == 6000


def test_zeros_are_like_nothing(tmp_path: Path) -> None:
    """A vector of zeros has no direction, so it is not a duplicate."""
    vectors = np.concatenate([np.zeros((3, 8)), np.ones((2, 8))])
    assert rows_of(search.duplicates(table(tmp_path, vectors))) == {frozenset({3, 4})}


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few(tmp_path: Path, rows: int) -> None:
    """A table without two rows has no duplicates."""
    assert search.duplicates(table(tmp_path, np.ones((rows, 8)))) == []


def test_deleted_rows(tmp_path: Path) -> None:
    """Deleted rows are in no group, and the other keys stay right."""
    dataset = table(tmp_path, np.eye(8)[[0, 1, 2, 0, 1, 2, 0, 1]])
    dataset.delete("key IN ('k0', 'k4')")
    groups = search.duplicates(lance.dataset(dataset.uri))
    assert rows_of(groups) == {frozenset({3, 6}), frozenset({1, 7}), frozenset({2, 5})}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 30), max_size=5)), max_size=40))
def test_joining(joins: list[tuple[int, list[int]]]) -> None:
    """For joins of any rows in any order, the groups are those of a naive union."""
    joined, sets = finding._Joined(31), [{row} for row in range(31)]
    for row, others in joins:
        joined.join(row, np.array(others, np.int64))
        touched = [one for one in sets if one & {row, *others}]
        sets = [one for one in sets if not one & {row, *others}] + [set().union(*touched)]
    assert {frozenset(group) for group in joined.members.values()} == {frozenset(one) for one in sets if len(one) > 1}


def test_a_group_grows_in_place() -> None:
    """Joining 20,000 rows one by one, from either side, never copies the rows that are already together."""
    joined = finding._Joined(20_000)
    joined.join(0, np.array([1]))
    (kept,) = joined.members.values()
    for row in range(2, 20_000):
        joined.join(*((0, np.array([row])) if row % 2 else (row, np.array([0]))))
    (members,) = joined.members.values()
    assert members is kept
    assert sorted(members) == list(range(20_000))


# -- likely pairs ---------------------------------------------------------------------------------------------------


def likely(dataset: lance.LanceDataset, **settings: Any) -> set[frozenset[int]]:
    """The groups found among likely pairs at 0.95, with a few rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_of_a_table, "STREAMED", 64)
        for name, value in {"EXACT_BELOW": 0, "HELD": 4 * 12 * 100, **settings}.items():
            patch.setattr(finding, name, value)
        return rows_of(search.duplicates(dataset, 0.95))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 900),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([1, 5, 12]),
    st.integers(0, 99),
)
def test_sketches_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: int, centres: int, noise: float, sketch: int, seed: int
) -> None:
    """In a single partition, all groups are found, however short the sketches are."""
    vectors = clustered(rows, centres, noise, seed)
    dataset = table(tmp_path_factory.mktemp("t"), vectors, max_rows_per_file=200)
    assert likely(dataset, SKETCH=sketch) == naive(vectors, 0.95)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 400), st.integers(1, 60), st.sampled_from([0.05, 0.2]), st.integers(0, 3), st.integers(0, 99))
def test_partitions_make_nothing_up(
    tmp_path_factory: pytest.TempPathFactory, rows: int, centres: int, noise: float, visits: int, seed: int
) -> None:
    """For any partitions, the rows of a group belong together."""
    vectors = clustered(rows, centres, noise, seed)
    dataset = table(tmp_path_factory.mktemp("t"), vectors)
    true = naive(vectors, 0.95)
    for found in likely(dataset, PARTITION=8, VISITS=visits):
        assert any(found <= group for group in true)


def test_nearly_all_of_many_partitions(tmp_path: Path) -> None:
    """With rows in 60 partitions, at least 99 of 100 groups are found whole."""
    vectors = clustered(6000, 3000, 0.03, 1)
    dataset = table(tmp_path, vectors)
    found, true = likely(dataset, PARTITION=100), rows_of(search.duplicates(dataset, 0.95))
    assert len(true) > 500
    assert len(found & true) >= 0.99 * len(true)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_likely_pairs(tmp_path: Path, rows: int) -> None:
    """Tables too small for partitions need no special treatment."""
    groups = likely(table(tmp_path, np.ones((rows, 12))))
    assert groups == ({frozenset({0, 1})} if rows == 2 else set())


@pytest.mark.parametrize("ones", [0, 2000])
def test_copies_and_zeros(tmp_path: Path, ones: int) -> None:
    """A table with only copies is one group, found without comparing its pairs; rows of zeros are in none."""
    dataset = table(tmp_path, np.concatenate([np.zeros((300, 12)), np.ones((ones, 12))]))
    assert likely(dataset, PARTITION=50) == ({frozenset(range(300, 2300))} if ones else set())


def test_few_among_many_copies(tmp_path: Path) -> None:
    """Near-duplicates are found beside so many copies that a sample of the rows has nothing else."""
    vectors = np.ones((5000, 12))
    vectors[[1234, 4321]] = np.eye(12)[0] + [np.eye(12)[1] * 0.1, np.eye(12)[2] * 0.1]
    apart = frozenset({1234, 4321})
    assert likely(table(tmp_path, vectors), PARTITION=5000) == {apart, frozenset(range(5000)) - apart}


def test_progress(tmp_path: Path) -> None:
    """The reported progress grows to 1, exact or not."""
    dataset = table(tmp_path, clustered(2000, 100, 0.1, 1))
    for exact in (True, False):
        told: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finding, "EXACT_BELOW", 0)
            search.duplicates(dataset, exact=exact, progress=told.append)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1)
