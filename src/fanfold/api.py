"""The library's functions: `run` does a job, `preview` estimates a run, `open_table` opens a table, and `fold` makes
derived tables again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanfold.core import fold as folds
from fanfold.core.database import open_table as open_table
from fanfold.core.executor import Detached, Executor
from fanfold.core.plan import Options
from fanfold.core.progress import Tally
from fanfold.core.run import Run, begin
from fanfold.executors.local import Local
from fanfold.job import Job, worker_cpus_of
from fanfold.source import Source

if TYPE_CHECKING:
    from fanfold.estimate.preview import Preview


def run(
    job: Job,
    *,
    source: str | Sequence[str] | Source,
    database: str,
    table: str | None = None,
    workers: int | None = None,
    executor: Executor | Detached | None = None,
    **options: Any,
) -> Run:
    """Do `job` for every item of `source` that is not in `database` yet.

        for outcome in fanfold.run(Images(), source="photos", database="db"):
            print(outcome.ok, outcome.failed)

    Args:
        job: What to do.
        source: A folder, a file, a text file of addresses, a URL or a table; or several folders or prefixes; or
            addresses for the job's own `source`; or a `Source` object that workers can make again from its addresses.
        database: A folder or a URL; created if it does not exist.
        table: The table's name. By default the job's name; on AWS Batch, the deployment's choice.
        workers: Number of worker processes of the default executor; by default one per core, or fewer
            if a worker of this job keeps several busy.
        executor: Where to run; by default on this machine.
        options: See `Options`.

    Returns:
        A `Run`. Iterate over it to do the work; it yields each task's outcome once that is committed.

    Raises:
        UsageError: The source does not exist, or the table holds items of another recipe or another source.
        StorageError: The source or the database cannot be used.
    """
    return begin(job, source, database, table, Options(**options), executor or Local(workers, worker_cpus_of(job)))


def preview(
    job: Job,
    *,
    source: str | Sequence[str] | Source,
    database: str,
    table: str | None = None,
    workers: int | None = None,
    prices: str | Path | None = None,
    tally: Tally | None = None,
    before: float = 0.0,
    **options: Any,
) -> "Preview":
    """Estimate what `run` would do with the same arguments. Nothing is written to the database.

    A sample of the items is processed into a temporary database.

    Args:
        prices: A file to use instead of `fanfold/estimate/prices.toml`.
        tally: Progress counters, updated during the preview.
        before: Seconds spent before this call, which the run will need, too.

    Raises:
        UsageError: As for `run`, or the prices cannot be read.
    """
    from fanfold.estimate.preview import previewed  # with Pydantic, for the prices: a third of what a run imports

    options_, here = Options(**options), Local(workers, worker_cpus_of(job))
    return previewed(job, source, database, table, options_, here, prices, tally or Tally(), before)


def fold(database: str, table: str | None = None) -> dict[str, int]:
    """Make the derived tables of a job again. Every run does this at its end, if needed.

    Args:
        table: The table's name; not needed if runs fill only one table.

    Returns:
        The names of the derived tables, each with its number of rows; empty if the job has no `fold`.

    Raises:
        UsageError: The table does not exist, or its job is not known.
        StorageError: The database cannot be used.
        FanfoldError: The job's `fold` failed.
    """
    return folds.fold_again(database, table)
