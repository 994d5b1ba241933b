"""Reports, pure: where every listed item went."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fanfold.runs import Outcome

REASONS = 5
"""Reasons that a report names for what is lost: a table of a million errors would help nobody."""


def bounded(reasons: Mapping[str, int]) -> dict[str, int]:
    """The reasons that most items are lost for, each cut off where it is long, and how many items there are besides."""
    short: Counter[str] = Counter()
    for why, items in reasons.items():
        short[" ".join(why.split())[:300]] += items
    most = dict(short.most_common(REASONS))
    rest = short.total() - sum(most.values())
    return most | ({"other reasons": rest} if rest else {})


def counted(outcomes: Iterable[Outcome], planned: int | None) -> tuple[int, int, int]:
    """Items ok, failed and (of those) unread in these outcomes of a run, each once.

    A share that is repeated while it goes on may split a task that the other one does as a whole. Given how many tasks
    a detached run was planned with, and so how those that were split are numbered, what was done twice counts once.
    """
    counts = {outcome.task: (outcome.ok, outcome.failed, outcome.unread) for outcome in outcomes}
    wholes = [count for task, count in counts.items() if planned is None or not _within(task, counts, planned)]
    ok, failed, unread = (sum(column) for column in zip((0, 0, 0), *wholes, strict=True))
    return ok, failed, unread


def _within(task: int, counts: Container[int], planned: int) -> bool:
    """Whether a task is a part of one that is counted: see `fanfold.detached` for the numbers."""
    while task >= planned:
        task = (task - planned) // 2
        if task in counts:
            return True
    return False


@dataclass(frozen=True)
class Report:
    """The account of a run: `listed == unchanged + ok + failed + lost`, and `lost` should be 0."""

    run: str
    listed: int
    """Items found in the source, those left out not counted."""
    unchanged: int
    """Items that were in the table before, at the version listed."""
    ok: int
    """Items this run put into the table."""
    failed: int
    """Items in the failures table: tried now, or before and not asked to be tried again."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What listing passed over, by reason."""
    seconds: float = 0.0
    database: str = ""
    table: str = ""
    complete: bool = True
    """Whether the listing was finished; a run that was stopped may not have seen every item."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of all workers together, by stage."""
    mirror: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What tables elsewhere took to be kept in step, by address; `refused` names the rows they cannot hold."""

    unread: int = 0
    """Of the failed items, those that could not be read: the next run tries them again without being asked."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why items are lost, as far as is known: reason -> items. A few of the reasons, each in one line."""

    @property
    def lost(self) -> int:
        """Items that ended in no table because their task failed. A later run plans them again."""
        return self.listed - self.unchanged - self.ok - self.failed

    @property
    def refused(self) -> dict[str, str]:
        """Rows that a mirror cannot hold: key -> why."""
        return {key: why for told in self.mirror.values() for key, why in told.get("refused", {}).items()}

    @property
    def items_per_second(self) -> float:
        """Items put into the table per second, from start to end."""
        return self.ok / self.seconds if self.seconds else 0.0

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some items are in no table, 3 finished with failed items."""
        if self.lost or not self.complete:
            return 1
        return 3 if self.failed or self.refused else 0

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        content = asdict(self)
        content["left_out"] = dict(sorted(self.left_out.items()))
        content["seconds"] = round(self.seconds, 3)
        content["stages"] = {stage: round(seconds, 3) for stage, seconds in self.stages.items()}
        return content | {"lost": self.lost, "items_per_second": round(self.items_per_second, 2)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Report":
        """The report that `to_json` wrote."""
        return cls(**{name: content[name] for name in cls.__dataclass_fields__ if name in content})
