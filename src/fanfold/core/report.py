"""Reports: where every listed item went.

report.json ──▶ the report, final
plan.json, receipts, lost ──Count──▶ the report so far, of a run that has not ended, or not here
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fanfold.core.runs import Outcome, RunDirectory

REASONS = 5
"""Reasons that a report names for what is lost: a list of a million errors would not help."""


def bounded(reasons: Mapping[str, int]) -> dict[str, int]:
    """The reasons that most items are lost for, each cut off where it is long, and how many items there are besides."""
    short: Counter[str] = Counter()
    for why, items in reasons.items():
        short[" ".join(why.split())[:300]] += items
    most = dict(short.most_common(REASONS))
    rest = short.total() - sum(most.values())
    return most | ({"other reasons": rest} if rest else {})


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
    """What it took to keep mirrors in sync, by address; `refused` names the rows they cannot hold."""

    unread: int = 0
    """Failed items that could not be read: the next run tries them again without being asked."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why items are lost, as far as is known: reason -> items. A few of the reasons, each in one line."""

    @property
    def lost(self) -> int:
        """Items that ended in no table because their task failed. A later run plans them again."""
        return self.listed - self.unchanged - self.ok - self.failed

    @property
    def refused(self) -> dict[str, str]:
        """Rows that a mirror cannot hold: key -> why."""
        return {key: why for mirror in self.mirror.values() for key, why in mirror.get("refused", {}).items()}

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


class Count:
    """Adds up the receipts of a run, each item once."""

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[int, int, int]] = {}
        """Task -> its items ok, failed and unread."""
        self._first, self._last = float("inf"), 0.0
        self._stages: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count a receipt."""
        self._tasks[outcome.task] = outcome.ok, outcome.failed, outcome.unread
        self._first, self._last = min(self._first, outcome.started), max(self._last, outcome.ended)
        self._stages.update(outcome.seconds)
        if outcome.error:
            self._reasons[outcome.error] += outcome.items - outcome.ok - outcome.failed

    def _counted(self, planned: int | None) -> tuple[int, int, int]:
        """Items ok, failed and (of those) unread.

        A share that is repeated while it goes on may split a task that the other one does as a whole. Given how many
        tasks a detached run was planned with, and so how those that were split are numbered, these count once.
        """
        wholes = [count for task, count in self._tasks.items() if planned is None or not self._within(task, planned)]
        ok, failed, unread = (sum(column) for column in zip((0, 0, 0), *wholes, strict=True))
        return ok, failed, unread

    def _within(self, task: int, planned: int) -> bool:
        """Whether a task is a part of one that is counted: see `fanfold.core.detached` for the numbers."""
        while task >= planned:
            task = (task - planned) // 2
            if task in self._tasks:
                return True
        return False

    def report(self, run: RunDirectory, mirrored: Mapping[str, Any] | None = None) -> Report:
        """The report of the run; until there is a plan, what it will have listed is not known."""
        plan = run.get("plan.json") or {}
        ok, failed, unread = self._counted(plan.get("tasks") if run.asked.detached else None)
        listed, failed_before = plan.get("listed", ok + failed), plan.get("failed_before", 0)
        unchanged = plan.get("unchanged", 0)
        lost = listed - unchanged - ok - failed - failed_before
        return Report(
            run=run.id,
            listed=listed,
            unchanged=unchanged,
            ok=ok,
            failed=failed + failed_before,
            unread=unread,
            left_out=plan.get("left_out", {}),
            seconds=round(max(0.0, self._last - self._first), 3),
            database=run.database,
            table=run.asked.table,
            complete=bool(plan),
            stages={stage: round(seconds, 3) for stage, seconds in self._stages.items()},
            mirror=mirrored or {},
            reasons=_reasons(run, lost, self._reasons) if lost else {},
        )


def account(run: RunDirectory) -> tuple[Report, str]:
    """The report of a run, and its state: `complete`, `interrupted`, `cancelled` or `running`."""
    if content := run.get("report.json"):
        return Report.from_json(content), content["ended"]
    count = Count()
    for outcome in run.receipts():
        count.add(outcome)
    return count.report(run), "running" if run.is_alive() else "interrupted"


def is_under_way(run: RunDirectory) -> bool:
    """Whether a run's driver lives and has not written the end. That others took it for dead does not count."""
    report = run.get("report.json")
    return (report is None or report["ended"] == "interrupted") and run.is_alive()


def _reasons(run: RunDirectory, lost: int, known: Counter[str]) -> dict[str, int]:
    """Why items of a run are lost, as far as is known or was written down: reason -> items."""
    reasons = known.copy()
    for task, items, why in run.given_up():
        if run.receipt(task) is None:  # else a later attempt has done it
            reasons[why] += items
    stopped = (run.get("stopped.json") or {}).get("why")
    if stopped and (rest := lost - reasons.total()) > 0:
        reasons[stopped] += rest
    return bounded(reasons)
