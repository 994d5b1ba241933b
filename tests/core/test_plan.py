"""Planning: the standing of items, and how they are cut into tasks."""

import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanfold import Item
from fanfold.core.index import Index, digests, words
from fanfold.core.plan import SMALLEST, Held, Standing, classify, cut

counts = st.integers(0, 1500)
task_sizes = st.integers(1, 200)
hands = st.integers(1, 6)
tables = st.dictionaries(st.integers(0, 30), st.integers(0, 3))


def items(count: int) -> Iterator[Item]:
    """This many items, made lazily."""
    return (Item(f"folder/{n:09d}.jpg", n, f"{n:x}", f"folder/{n:09d}.jpg") for n in range(count))


def index_of(table: dict[int, int]) -> Index:
    """The index of a table of keys and versions."""
    index = Index()
    keys, versions = digests(f"{key}" for key in table), words(f"{version}" for version in table.values())
    index.add(keys, versions, np.arange(len(table), dtype=np.uint64))
    return index


def classified(listed: Iterable[Item], held: Held) -> Iterator[tuple[Item, Standing]]:
    """Every item with its standing."""
    standings = tuple(Standing)
    for some, codes in classify(listed, held):
        yield from zip(some, [standings[code] for code in codes], strict=True)


@given(counts, task_sizes, hands)
def test_every_item_is_in_one_task_in_order(count: int, task_size: int, workers: int) -> None:
    """The tasks, in order, contain exactly the items."""
    tasks = list(cut(items(count), task_size, workers))
    assert [item for task in tasks for item in task] == list(items(count))


@given(counts, task_sizes, hands)
def test_no_task_is_empty_or_too_large(count: int, task_size: int, workers: int) -> None:
    """Every task has between one item and `task_size`."""
    assert all(1 <= len(task) <= task_size for task in cut(items(count), task_size, workers))


@given(counts, task_sizes, hands)
def test_the_same_items_are_cut_the_same_way(count: int, task_size: int, workers: int) -> None:
    """Cutting depends only on its arguments."""
    assert list(cut(items(count), task_size, workers)) == list(cut(items(count), task_size, workers))


@given(counts, task_sizes, hands)
def test_tasks_get_smaller_towards_the_end(count: int, task_size: int, workers: int) -> None:
    """Sizes never grow, and the last task is small, so that workers finish at about the same time."""
    sizes = [len(task) for task in cut(items(count), task_size, workers)]
    assert sizes == sorted(sizes, reverse=True)
    assert not sizes or sizes[-1] <= SMALLEST


@given(counts, task_sizes, hands)
def test_reading_ahead_is_bounded(count: int, task_size: int, workers: int) -> None:
    """At most `workers` tasks' worth of items are read before the first of them is handed out."""
    taken = given_out = 0

    def counted() -> Iterator[Item]:
        nonlocal taken
        for item in items(count):
            taken += 1
            yield item

    for task in cut(counted(), task_size, workers):
        assert taken - given_out <= workers * task_size + 1
        given_out += len(task)


def test_a_small_collection_still_feeds_all_workers() -> None:
    """A hundred items are more than one task, even if `task_size` is a thousand."""
    assert len(list(cut(items(100), 1000, 4))) >= 4


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3))), tables, tables, st.sets(st.integers(0, 40)))
def test_standings_are_those_of_two_dictionaries(
    listed: list[tuple[int, int]], rows: dict[int, int], failed: dict[int, int], unread: set[int]
) -> None:
    """An item's standing is the one that dictionaries of the two tables give."""

    def expected(key: int, version: int) -> Standing:
        if rows.get(key) == version:
            return Standing.UNCHANGED
        if failed.get(key) == version:
            return Standing.UNREAD if key in unread else Standing.FAILED
        return Standing.CHANGED if key in rows or key in failed else Standing.NEW

    passing = {key: version for key, version in failed.items() if key in unread}
    held = Held(index_of(rows), index_of(failed), index_of(passing))
    found = classified((Item(f"{k}", 1, f"{v}", f"{k}") for k, v in listed), held)
    assert [standing for _, standing in found] == [expected(*pair) for pair in listed]


def test_classifying_keeps_the_order_of_many_items() -> None:
    """Items keep their order, however many are looked up at once."""
    listed = list(items(10_000))
    index = Index()
    known = [item for item in listed if item.size % 3 == 0]
    keys, versions = digests(item.key for item in known), words(item.version for item in known)
    index.add(keys, versions, np.arange(len(known), dtype=np.uint64))
    found = list(classified(listed, Held(index)))
    assert [item for item, _ in found] == listed
    assert {item.size % 3 == 0 for item, standing in found if standing is Standing.UNCHANGED} == {True}
    assert sum(standing is Standing.UNCHANGED for _, standing in found) == len(known)


def test_planning_streams() -> None:
    """50,000 items are classified and cut in memory that could not hold half of them."""
    tracemalloc.start()
    try:
        pairs = classified(items(50_000), Held())
        planned = sum(len(task) for task in cut((item for item, _ in pairs), 1000, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert planned == 50_000
    assert peak < 4 << 20


@given(counts, task_sizes)
def test_without_workers_all_tasks_are_full(count: int, task_size: int) -> None:
    """Without workers, tasks have `task_size` items, except for a shorter last one."""
    tasks = list(cut(items(count), task_size, 0))
    assert [item for task in tasks for item in task] == list(items(count))
    assert [len(task) for task in tasks[:-1]] == [task_size] * (len(tasks) - 1)
    assert all(tasks)
