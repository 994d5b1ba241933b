"""The verbs for runs that continue without their driver: follow, cancel, and the work of containers."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Database, Json, RunId, show
from fanfold.core import detached, recovery
from fanfold.core.catalog import find_run
from fanfold.core.progress import Tally
from fanfold.core.report import account
from fanfold.core.run import Run
from fanfold.core.runs import RunDirectory
from fanfold.executors import executor_of, open_executor
from fanfold.executors.local import Local
from fanfold.storage import absolute


def follow(run: RunDirectory) -> None:
    """Show the progress of a run until it has ended. Commits work that is not committed yet."""
    executor, tally = executor_of(run), detached.planned(run)
    with leaving(run), show.progress(tally):
        for _ in detached.follow(run, executor, tally):
            pass


@contextmanager
def leaving(run: RunDirectory) -> Iterator[None]:
    """When the block is interrupted, show how to return to a submitted run, which continues."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not run.get("jobs.json"):
            raise
        where = f"{run.database} {run.id}"
        show.error(
            f"The run continues. Follow it with: fanfold report {where} --follow. "
            f"Cancel it with: fanfold cancel {where}"
        )
        sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])


def cancel(database: Database, run: RunId = None, /, *, json: Json = False) -> int:
    """Cancel a run that continues without its driver, and commit its finished work."""
    found = find_run(absolute(database), run)
    detached.cancel(found, executor_of(found))
    show.report(*account(found), json)
    return 0


def work(
    database: Database,
    run: str,
    /,
    *,
    share: Annotated[int, Parameter(env_var="AWS_BATCH_JOB_ARRAY_INDEX")] = 0,
    of: int = 1,
    workers: int = 1,
    worker_cpus: int = 1,
) -> int:
    """Process one share of a run's tasks, as a container does. Exit code 1 means: try again, perhaps elsewhere.

    For example: `fanfold work db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    tally = Tally()
    with show.progress(tally):
        for outcome in detached.work(found, share, of, Local(workers, worker_cpus), tally):
            if outcome.error:
                show.error(f"task {outcome.task} failed after {outcome.attempt} tries: {outcome.error}")
    show.out.print(f"Share {share} of {of}: {tally.ok:,} ok, {tally.failed:,} failed, {tally.lost:,} lost.")
    return 1 if tally.lost else 0


def commit(database: Database, run: str, /) -> int:
    """Commit the finished work of a run and write its report, as the last container does.

    For example: `fanfold commit db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    recovery.finish(found)
    show.report(*account(found), as_json=False)
    return 0


def launch(database: Database, run: str, /) -> int:
    """Plan a run and submit it, as a container does when planning takes longer than a Lambda can run.

    For example: `fanfold launch db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    begun = Run.resume(found, open_executor("aws-batch"))
    with show.progress(begun.tally):
        begun.launch()
    show.out.print(f"{detached.planned(found).planned:,} items planned.")
    return 0
