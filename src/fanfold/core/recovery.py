"""The ends of runs: what has a receipt is committed, mirrors follow, and the report is written.

    receipts ──which fragments are not in the tables?──▶ commit ──▶ mirror ──▶ fold ──▶ report.json

A driver ends its own run; the last container ends a detached one (`finish`); the next run, on whichever machine, ends
those whose driver is dead (`recover`). All may be done again, at any time, by several at once: then nothing changes.
"""

from collections.abc import Callable, Iterator

from fanfold.core.catalog import list_runs, unended
from fanfold.core.fold import fold_if_due
from fanfold.core.ledger import Ledger, slices
from fanfold.core.report import Count, Report
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.errors import FanfoldError, MirrorMismatch, UsageError


def recover(ledger: Ledger, but: str = "", check: Callable[[], None] = lambda: None) -> None:
    """Commit what runs that never ended have receipts for; write the end of those whose driver is dead.

    That only fills gaps. A receipt may be older than what later runs have put into the tables, so of a key that
    is there at any version nothing is replaced: if that version is not the one listed, planning does it again.
    A run whose mirror cannot be reached now is left to a later one.
    `check` is called now and then, and may raise to end it early: after a run of millions it takes minutes.
    """
    ledger.refresh()
    for run in unended(ledger.database, but):
        if run.asked.table != ledger.name:
            continue
        count, trouble = commit_receipts(ledger, run, fill=True, check=check)
        if trouble and not isinstance(trouble, MirrorMismatch):  # a mirror of another table stays that
            continue
        check()
        if not run.is_alive() and run.get("report.json") is None:
            run.end(count.report(run).to_json(), "interrupted")
    ledger.refresh()
    ledger.mend(but)


def commit_receipts(
    ledger: Ledger, run: RunDirectory, *, fill: bool, check: Callable[[], None] = lambda: None
) -> tuple[Count, FanfoldError | None]:
    """Commit what a run has receipts for, and bring its mirror in sync; with `fill`, replace nothing.

    Reads each receipt once. Returns the count of those that hold, and why the mirror is not in sync, if it is not:
    everything is committed all the same. See `recover` for `check`.
    """
    count, trouble = Count(), None

    def conclude(outcome: Outcome) -> None:
        nonlocal trouble
        count.add(outcome)
        if run.asked.mirror and trouble is None:
            try:
                ledger.keep_in_step(run, [outcome])
            except FanfoldError as error:
                trouble = error

    def uncommitted() -> Iterator[Outcome]:
        for outcome in run.receipts():
            check()
            if ledger.holds(outcome):
                conclude(outcome)
            else:
                yield outcome

    ledger.refresh()
    for some in slices(uncommitted()):
        check()
        for outcome in ledger.fill(some, run) if fill else ledger.publish(some, run):
            if outcome.task not in run.withdrawn:
                conclude(outcome)
    ledger.refresh()
    return count, trouble


def finish(run: RunDirectory, ended: str = "") -> Report:
    """Commit what a run has receipts for, bring its mirror in sync, and write its report. May be done again.

    The report has `ended` as the state, else `complete`, or `interrupted` if the run never was planned to the end.
    Where a later run works on the same table, only gaps are filled: it may have put newer rows there, and it has
    looked at the source after this one. Raises UsageError for a run whose table is gone, StorageError.
    """
    ledger = Ledger.open(run.database, run.asked.table)
    if ledger is None:
        raise UsageError(f"The table of run {run.id} is no longer in {run.database}.")
    count, trouble = commit_receipts(ledger, run, fill=not is_newest(ledger, run))
    if trouble:
        raise trouble
    before = run.get("report.json")
    if before and before["ended"] != "interrupted":  # the receipts it was made from may be pruned by now
        fold_if_due(ledger, run)
        return Report.from_json(before)
    report = count.report(run, ledger.mirrored)
    end(ledger, run, report, ended or ("complete" if report.complete else "interrupted"))
    return report


def end(ledger: Ledger, run: RunDirectory, report: Report, ended: str) -> None:
    """Do the fold, if there is one to do, and write the end of a run whose rows are committed.

    The report comes last, so that a reader who waits for it finds the derived tables. A fold that fails raises
    FanfoldError, once the report is written.
    """
    try:
        fold_if_due(ledger, run)
    finally:
        run.end(report.to_json(), ended)


def is_newest(ledger: Ledger, run: RunDirectory) -> bool:
    """Whether no later run on the same table has had anything to do, as far as is known."""
    later = (RunDirectory(run.database, id) for id in reversed(list_runs(run.database)) if id > run.id)
    on_same = (other for other in later if other.asked.table == ledger.name)
    return all((other.get("plan.json") or {}).get("planned") == 0 for other in on_same)
