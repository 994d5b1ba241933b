"""How fast workers are, told from the outcomes of their tasks; and how long a run then takes. Pure arithmetic.

    worker 1  start ▕ warm-up ▕ task │ task ──────── │ task │ ...      what a task costs whatever its size,
    worker 2  start ──▕ warm-up ▕ task ──────── │ task │ ...           and what an item costs
              └─ startup ───────┘

A worker's first task takes longer than its later ones (libraries are loaded, buffers allocated): what it takes longer
counts as start-up.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fanfold.plan import share
from fanfold.runs import Outcome

READ, WRITE = "read", "write"
BY_TASK = frozenset({READ, WRITE})
"""Stages that cost something whatever a task's size: nothing is read ahead of its first items, and its fragment and
receipt are written once. The others are arithmetic on items."""


@dataclass(frozen=True)
class Pace:
    """How fast workers were, while all of them worked."""

    startup: float
    """Seconds from asking for workers until they are warm."""
    per_task: Mapping[str, float]
    """Seconds a task, whatever its size, by stage."""
    per_item: Mapping[str, float]
    """Seconds of a worker an item, by stage."""
    error: float | None
    """Standard error of the seconds an item, as a share of them; None if too little was seen to tell."""

    @property
    def item(self) -> float:
        """Seconds of a worker an item, all stages together."""
        return sum(self.per_item.values())

    @property
    def task(self) -> float:
        """Seconds a task, whatever its size."""
        return sum(self.per_task.values())

    def stages(self, items_a_task: float) -> dict[str, float]:
        """Seconds of a worker an item by stage, a task's own cost shared among its items."""
        return {stage: self.per_item[stage] + self.per_task[stage] / items_a_task for stage in self.per_item}


def pace(outcomes: Iterable[Outcome], began: float) -> Pace | None:
    """What outcomes tell of the pace, if any of them tells anything; `began` is when workers were asked for."""
    told = [outcome for outcome in outcomes if outcome.status == "done" and outcome.seconds and outcome.items]
    if not told:
        return None
    by_worker: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(told, key=lambda outcome: outcome.started):
        by_worker[outcome.worker].append(outcome)
    steady = [outcome for tasks in by_worker.values() for outcome in tasks[1:]] or told
    lines = {stage: _line(stage, steady) for stage in sorted({stage for one in steady for stage in one.seconds})}
    per_task = {stage: line[0] for stage, line in lines.items()}
    per_item = {stage: line[1] for stage, line in lines.items()}
    gaps = [max(0.0, b.started - a.ended) for tasks in by_worker.values() for a, b in pairwise(tasks)]
    if gaps and WRITE in per_task:  # between two tasks a worker waits for its driver
        per_task[WRITE] += sum(gaps) / len(gaps)
    task, item = sum(per_task.values()), sum(per_item.values())
    ready = [
        tasks[0].started - began + max(0.0, tasks[0].ended - tasks[0].started - task - tasks[0].items * item)
        for tasks in by_worker.values()
    ]
    return Pace(max(0.0, sum(ready) / len(ready)), per_task, per_item, _error(steady, task))


def _line(stage: str, outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Seconds a task and an item at a stage; by least squares, neither below 0."""
    points = [(outcome.items, outcome.seconds.get(stage, 0.0)) for outcome in outcomes]
    items, seconds = (sum(column) for column in zip(*points, strict=True))
    mean = items / len(points)
    scatter = sum((n - mean) ** 2 for n, _ in points)
    if stage not in BY_TASK or not scatter:
        return 0.0, seconds / items
    slope = max(0.0, sum((n - mean) * s for n, s in points) / scatter)
    offset = seconds / len(points) - slope * mean
    return (offset, slope) if offset > 0 else (0.0, sum(n * s for n, s in points) / sum(n * n for n, _ in points))


def _error(outcomes: Sequence[Outcome], task: float) -> float | None:
    """Standard error of the mean seconds an item, as a share of it, from how tasks differ; None below three tasks.

    A task's mean varies less the more items it has, so each counts by its items (the weighted ratio estimate of
    Cochran, "Sampling Techniques", 3rd ed., 1977, section 6.4).
    """
    points = [(outcome.items, max(0.0, sum(outcome.seconds.values()) - task)) for outcome in outcomes]
    items = sum(n for n, _ in points)
    mean = sum(s for _, s in points) / items
    if len(points) < 3 or not mean:
        return None
    variance = sum(n * (s / n - mean) ** 2 for n, s in points) / (len(points) - 1)
    return math.sqrt(variance / items) / mean


def task_sizes(items: int, task_size: int, workers: int) -> list[int]:
    """The sizes of the tasks that `cut` makes of so many items."""
    sizes = [task_size] * max(0, -(-items // task_size) - workers)  # those cut while more is to come
    left = items - sum(sizes)
    while left:
        sizes.append(min(left, share(left, task_size, workers)))
        left -= sizes[-1]
    return sizes


def makespan(sizes: Iterable[int], workers: int, startup: float, per_task: float, per_item: float) -> float:
    """Seconds until tasks of these sizes are done, each taken up by the worker that is free first."""
    free = [startup] * workers
    for size in sizes:
        heapq.heapreplace(free, free[0] + per_task + size * per_item)
    return max(free)


def shares(stages: Mapping[str, float]) -> dict[str, float]:
    """Each stage's share of the whole, the largest first."""
    whole = sum(stages.values())
    largest_first = sorted(stages.items(), key=lambda stage: -stage[1])
    return {stage: seconds / whole for stage, seconds in largest_first} if whole else {}
