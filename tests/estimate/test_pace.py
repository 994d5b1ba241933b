"""The arithmetic of estimates, for outcomes that are defined here."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.core.plan import cut
from fanfold.core.progress import proportions
from fanfold.core.runs import Outcome
from fanfold.estimate.pace import makespan, pace, task_sizes
from fanfold.estimate.sample import ITEMS, WARM_UP, Reservoir, parts, size
from fanfold.job import Item

few = st.integers(1, 40)


def worker(
    name: str, sizes: list[int], start: float, item: dict[str, float], task: dict[str, float], warm: float = 0.0
) -> list[Outcome]:
    """The outcomes of a worker with these seconds per item and per task, and `warm` more for its first task."""
    outcomes, now = [], start
    for number, n in enumerate(sizes):
        seconds = {stage: item[stage] * n + task.get(stage, 0.0) for stage in item}
        if not number:
            seconds["write"] = seconds.get("write", 0.0) + warm
        end = now + sum(seconds.values())
        outcomes.append(Outcome(number, 1, n, "done", n, 0, (), (), seconds, now, end, name))
        now = end
    return outcomes


def items(count: int) -> list[Item]:
    """This many items."""
    return [Item(f"{number}", number, "1", f"{number}") for number in range(count)]


ITEM = {"read": 0.002, "decode": 0.02, "embed": 0.05, "write": 0.001}
TASK = {"read": 0.3, "write": 0.1}


def test_the_pace_is_told_exactly_where_it_is_even() -> None:
    """Seconds per item, per task, and until a worker is warm come out exactly as they were put in."""
    told = worker("a", [4, 4, 12, 4, 12], 101.0, ITEM, TASK, 0.7) + worker("b", [4, 12, 4], 103.0, ITEM, TASK, 0.7)
    seen = pace(told, 100.0)
    assert seen is not None
    assert seen.per_item == pytest.approx(ITEM)
    assert seen.per_task == pytest.approx({"decode": 0, "embed": 0} | TASK)
    assert seen.startup == pytest.approx((1.0 + 3.0) / 2 + 0.7)
    assert seen.error == pytest.approx(0, abs=1e-6)


def test_waiting_for_the_driver_counts_as_writing() -> None:
    """The time between two tasks of a worker is part of a task's cost."""
    first, second, third = worker("a", [4, 4, 12], 0.0, ITEM, TASK)
    late = [
        Outcome(1, 1, 4, "done", 4, 0, (), (), second.seconds, second.started + 0.5, second.ended + 0.5, "a"),
        Outcome(2, 1, 12, "done", 12, 0, (), (), third.seconds, third.started + 1.0, third.ended + 1.0, "a"),
    ]
    seen = pace([first, *late], 0.0)
    assert seen is not None
    assert seen.per_task["write"] == pytest.approx(0.1 + 0.5)


def test_a_task_each_is_all_there_is_of_a_small_sample() -> None:
    """If no worker did a second task, the first tasks define the pace, and the error is unknown."""
    seen = pace(worker("a", [4], 2.0, ITEM, {}) + worker("b", [3], 2.0, ITEM, {}), 1.0)
    assert seen is not None
    assert seen.item == pytest.approx(sum(ITEM.values()))
    assert (seen.startup, seen.error) == (pytest.approx(1.0), None)


def test_tasks_that_failed_tell_nothing() -> None:
    """Failed and crashed tasks do not affect the pace; without any other task there is none."""
    bad = [Outcome(9, 3, 50, "failed", error="no"), Outcome(8, 2, 50, "crashed", error="killed", worker="a")]
    good = worker("a", [4, 4, 12], 0.0, ITEM, TASK)
    assert pace([*good, *bad], 0.0) == pace(good, 0.0)
    assert pace(bad, 0.0) is None
    assert pace([], 0.0) is None


def test_the_more_items_differ_the_less_is_claimed() -> None:
    """The error is that of a mean of items, checked by hand for tasks of 4 at 1 and 3 seconds per item in turn."""
    sizes = [4] * 9
    told = worker("a", sizes, 0.0, {"work": 1.0}, {})
    uneven = [
        Outcome(o.task, 1, 4, "done", 4, 0, (), (), {"work": 4.0 * (1 + 2 * (o.task % 2))}, o.started, o.ended, "a")
        for o in told
    ]
    seen = pace(uneven, 0.0)
    assert seen is not None
    # Eight steady tasks: four of 1 s per item, four of 3 s. Mean 2, variance of an item 8 x 4 x 1 / 7, over 32 items.
    assert seen.error == pytest.approx((8 * 4 / 7 / 32) ** 0.5 / 2)


@given(
    st.lists(st.tuples(few, st.floats(0, 100), st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=20),
    st.integers(1, 4),
)
def test_no_outcome_gives_a_pace_that_cannot_be(told: list[tuple[int, float, float, float]], workers: int) -> None:
    """For any measurements, no cost is negative, and the sample's own mix of tasks gives its own seconds again."""
    outcomes, now = [], Counter[str]()
    for number, (n, read, work, write) in enumerate(told):
        name = f"w{number % workers}"
        seconds = {"read": read, "work": work, "write": write}
        started, now[name] = now[name], now[name] + sum(seconds.values())  # type: ignore[assignment]
        outcomes.append(Outcome(number, 1, n, "done", n, 0, (), (), seconds, started, now[name], name))
    seen = pace(outcomes, 0.0)
    assert seen is not None
    assert min([*seen.per_item.values(), *seen.per_task.values(), seen.startup]) >= 0
    assert seen.error is None or seen.error >= 0
    steady = [one for one in outcomes if one.task >= workers] or outcomes
    assert seen.per_item["work"] * sum(one.items for one in steady) == pytest.approx(
        sum(one.seconds["work"] for one in steady)
    )


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(1, 12))
def test_task_sizes_are_those_that_cut_makes(count: int, task_size: int, workers: int) -> None:
    """The task sizes are computed without the items."""
    made = [len(part) for part in cut(range(count), task_size, workers)]
    assert task_sizes(count, task_size, workers) == made


@given(st.lists(few, min_size=1, max_size=60), st.integers(1, 8), st.floats(0, 10), st.floats(0, 1), st.floats(0.01, 1))
def test_makespan_lies_between_what_is_possible(
    sizes: list[int], workers: int, startup: float, per_task: float, per_item: float
) -> None:
    """A run ends no earlier than its evenly shared work or its largest task, and not long after (Graham's bound)."""
    costs = [per_task + size * per_item for size in sizes]
    least = startup + max(sum(costs) / workers, max(costs))
    took = makespan(sizes, workers, startup, per_task, per_item)
    assert least <= took + 1e-9
    assert took <= startup + sum(costs) / workers + max(costs) + 1e-9


def test_shares_are_of_the_whole_and_the_largest_comes_first() -> None:
    """Proportions add up to one, and are empty if there is nothing."""
    assert list(proportions({"a": 1.0, "b": 3.0}).items()) == [("b", 0.75), ("a", 0.25)]
    assert proportions({}) == proportions({"a": 0.0}) == {}


@given(st.integers(0, 300), st.integers(1, 50))
def test_a_reservoir_keeps_so_many_of_the_stream(count: int, kept: int) -> None:
    """A reservoir holds distinct items of the stream, all of a short one, and the same ones each time."""
    first, second = Reservoir(kept), Reservoir(kept)
    for item in items(count):
        first.offer(item)
        second.offer(item)
    drawn = first.shuffled()
    assert len(set(drawn)) == len(drawn) == min(count, kept)
    assert (drawn, first.offered) == (second.shuffled(), count)


def test_a_reservoir_draws_from_the_whole_stream() -> None:
    """The mean position is the middle of the stream, so neither the start nor the end is preferred."""
    drawn = Reservoir(2000)
    for item in items(20_000):
        drawn.offer(item)
    places = [item.size for item in drawn.kept]
    assert sum(places) / len(places) == pytest.approx(10_000, rel=0.05)


@given(st.integers(1, 500), st.integers(1, 64))
def test_a_sample_is_cut_so_that_workers_warm_up_first(count: int, workers: int) -> None:
    """Every item is in one part, and as many small parts as workers come first, while items last."""
    some = items(count)
    made = list(parts(some, workers))
    assert list(itertools.chain(*made)) == some
    assert all(len(part) == WARM_UP for part in made[: min(workers, count // WARM_UP)])


def test_a_sample_gives_every_worker_something_to_be_measured_by() -> None:
    """A sample has 64 items beyond the warm-up, and more for many workers."""
    assert size(1) == ITEMS + WARM_UP
    assert size(2) == ITEMS + 2 * WARM_UP
    assert size(64) >= 64 * (WARM_UP + 16)
