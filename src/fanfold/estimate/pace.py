"""The pace of workers, from the outcomes of their tasks, and the time of a run at that pace. Pure arithmetic.

    worker 1  start ▕ warm-up ▕ task │ task ──────── │ task │ ...      the cost per task of any size,
    worker 2  start ──▕ warm-up ▕ task ──────── │ task │ ...           and the cost per item
              └─ startup ───────┘

A worker's first task takes longer than its later ones (libraries are loaded, buffers allocated). The difference
counts as startup.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, linear_regression

from more_itertools import map_reduce

from fanfold.core.plan import next_size
from fanfold.core.runs import Outcome

READ, WRITE = "read", "write"
BY_TASK = frozenset({READ, WRITE})
"""Stages with a cost per task: its first items are not read ahead, and its fragment and receipt are written once. Other
stages have only a cost per item."""


@dataclass(frozen=True)
class Pace:
    """The pace of workers, while all of them work."""

    startup: float
    """Seconds from the request for workers until they are warm."""
    per_task: Mapping[str, float]
    """Worker seconds per task of any size, by stage."""
    per_item: Mapping[str, float]
    """Worker seconds per item, by stage."""
    error: float | None
    """Standard error of the seconds per item, as a fraction of them; None for too few tasks."""

    @property
    def item(self) -> float:
        """Worker seconds per item, over all stages."""
        return sum(self.per_item.values())

    @property
    def task(self) -> float:
        """Worker seconds per task of any size, over all stages."""
        return sum(self.per_task.values())

    def stages(self, items_a_task: float) -> dict[str, float]:
        """Worker seconds per item, by stage, with the task's cost spread over its items."""
        return {stage: self.per_item[stage] + self.per_task[stage] / items_a_task for stage in self.per_item}


def pace(outcomes: Iterable[Outcome], began: float) -> Pace | None:
    """The pace in these outcomes, or None if none of them was timed; `began` is the time of the request for workers."""
    timed = [outcome for outcome in outcomes if outcome.status == "done" and outcome.seconds and outcome.items]
    if not timed:
        return None
    by_worker = map_reduce(sorted(timed, key=lambda outcome: outcome.started), lambda outcome: outcome.worker)
    steady = [outcome for tasks in by_worker.values() for outcome in tasks[1:]] or timed
    lines = {stage: _line(stage, steady) for stage in sorted({stage for one in steady for stage in one.seconds})}
    per_task = {stage: task for stage, (task, _) in lines.items()}
    per_item = {stage: item for stage, (_, item) in lines.items()}
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
    """Seconds per task and seconds per item at a stage, by least squares, neither below 0."""
    items = [outcome.items for outcome in outcomes]
    seconds = [outcome.seconds.get(stage, 0.0) for outcome in outcomes]
    if stage not in BY_TASK or len(set(items)) == 1:
        return 0.0, sum(seconds) / sum(items)
    slope = max(0.0, linear_regression(items, seconds).slope)
    offset = fmean(seconds) - slope * fmean(items)
    return (offset, slope) if offset > 0 else (0.0, linear_regression(items, seconds, proportional=True).slope)


def _error(outcomes: Sequence[Outcome], task: float) -> float | None:
    """Standard error of the mean seconds per item, as a fraction of it, from the differences of tasks; None for fewer
    than three tasks.

    The mean of a larger task varies less, so each task counts by its items (the weighted ratio estimate of Cochran,
    "Sampling Techniques", 3rd ed., 1977, section 6.4).
    """
    points = [(outcome.items, max(0.0, sum(outcome.seconds.values()) - task)) for outcome in outcomes]
    items = sum(n for n, _ in points)
    mean = sum(s for _, s in points) / items
    if len(points) < 3 or not mean:
        return None
    variance = sum(n * (s / n - mean) ** 2 for n, s in points) / (len(points) - 1)
    return math.sqrt(variance / items) / mean


def task_sizes(items: int, task_size: int, workers: int) -> list[int]:
    """The sizes of the tasks that `cut` makes of this number of items."""
    sizes = [task_size] * max(0, -(-items // task_size) - workers)  # cut while more items follow
    left = items - sum(sizes)
    while left:
        sizes.append(min(left, next_size(left, task_size, workers)))
        left -= sizes[-1]
    return sizes


def makespan(sizes: Iterable[int], workers: int, startup: float, per_task: float, per_item: float) -> float:
    """Seconds until tasks of these sizes are done, each by the first free worker."""
    free = [startup] * workers
    for size in sizes:
        heapq.heapreplace(free, free[0] + per_task + size * per_item)
    return max(free)
