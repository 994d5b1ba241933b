"""Accounts: what a run's directory tells of it, whether it has ended or not.

report.json ──▶ the account, final
plan.json, receipts, lost ──▶ the account so far
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.report import Report, bounded, counted
from fanfold.runs import Outcome, RunDirectory


def account(run: RunDirectory) -> tuple[Report, str]:
    """The report of a run, and how it stands: `complete`, `interrupted`, `cancelled` or `running`."""
    if content := run.get("report.json"):
        return Report.from_json(content), content["ended"]
    return so_far(run), "running" if run.is_alive() else "interrupted"


def so_far(run: RunDirectory, mirrored: Mapping[str, Any] | None = None) -> Report:
    """A run as its plan and its receipts tell it; until there is a plan, what it will have listed is not known."""
    asked, plan = run.get("run.json") or {}, run.get("plan.json") or {}
    first, last = float("inf"), 0.0
    stages: Counter[str] = Counter()

    def timed() -> Iterator[Outcome]:
        nonlocal first, last
        for outcome in run.receipts():
            first, last = min(first, outcome.started), max(last, outcome.ended)
            stages.update(outcome.seconds)
            yield outcome

    ok, failed, unread = counted(timed(), plan.get("tasks") if asked.get("detached") else None)
    listed = plan.get("listed", ok + failed)
    lost = listed - plan.get("unchanged", 0) - ok - failed - plan.get("failed_before", 0)
    return Report(
        run=run.id,
        listed=listed,
        unchanged=plan.get("unchanged", 0),
        ok=ok,
        failed=failed + plan.get("failed_before", 0),
        unread=unread,
        left_out=plan.get("left_out", {}),
        seconds=round(max(0.0, last - first), 3),
        database=run.database,
        table=asked.get("table", ""),
        complete=bool(plan),
        stages={stage: round(seconds, 3) for stage, seconds in stages.items()},
        mirror=mirrored or {},
        reasons=_reasons(run, lost) if lost else {},
    )


def _reasons(run: RunDirectory, lost: int) -> dict[str, int]:
    """Why items of a run are lost, as far as was written down: reason -> items."""
    reasons: Counter[str] = Counter()
    for task, items, why in run.given_up():
        if run.receipt(task) is None:  # else a later attempt has done it
            reasons[why] += items
    stopped = (run.get("stopped.json") or {}).get("why")
    if stopped and (rest := lost - reasons.total()) > 0:
        reasons[stopped] += rest
    return bounded(reasons)


def is_under_way(run: RunDirectory) -> bool:
    """Whether a run's driver lives and has not written the end. That others took it for dead does not count."""
    report = run.get("report.json")
    return (report is None or report["ended"] == "interrupted") and run.is_alive()
