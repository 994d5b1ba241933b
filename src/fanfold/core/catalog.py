"""The runs of a database: all of them, those without a report, one by its id."""

from fanfold.core.runs import ENDED, RunDirectory
from fanfold.errors import UsageError
from fanfold.storage import errors_of, exists, open_store, side_by_side


def list_runs(database: str) -> list[str]:
    """List the ids of a database's runs, oldest first. Raises UsageError if the database does not exist."""
    if not exists(database):
        raise UsageError(f"No database at {database}. Create one with: fanfold run JOB SOURCE {database}")
    with errors_of(database):
        found = open_store(database).list_with_delimiter("_runs")
    return sorted(prefix.rsplit("/", 1)[-1] for prefix in found["common_prefixes"])


def unended(database: str, but: str = "") -> list[RunDirectory]:
    """The runs without a report, oldest first, save one. Looks only at those that are not marked as ended.

    Runs of older versions are not marked: they are looked at once, side by side, and marked then.
    """
    ids = list_runs(database)
    with errors_of(database):
        marked = {meta["path"] for chunk in open_store(database).list(ENDED) for meta in chunk}
    runs = [RunDirectory(database, id) for id in ids if id != but and f"{ENDED}/{id}" not in marked]

    def is_unended(run: RunDirectory) -> bool:
        if ended := run.get("report.json") is not None:
            run.mark_ended()
        return not ended

    return [run for run, is_open in zip(runs, side_by_side(is_unended, runs, 16), strict=True) if is_open]


def find_run(database: str, id: str | None) -> RunDirectory:
    """The run called `id`, or the newest. Raises UsageError when there is none."""
    ids = list_runs(database)
    if not ids:
        raise UsageError(f"There are no runs in {database}. Start one with: fanfold run JOB SOURCE {database}")
    if id is not None and id not in ids:
        raise UsageError(f"There is no run {id} in {database}. The newest run is {ids[-1]}.")
    return RunDirectory(database, id or ids[-1])
