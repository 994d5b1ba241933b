"""`fanfold evidence scan`: a run that lists what was given, then runs that read it, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import fanfold
from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.cli.jobs import PlanOptions, RunOptions, Sources, performed
from fanfold.cli.streams import even_unread
from fanfold.core.executor import Detached, Executor, Size
from fanfold.errors import RecipeMismatch, SourceMismatch, UsageError
from fanfold.evidence import Evidence, show, tables
from fanfold.evidence.containers import Containers
from fanfold.evidence.copies import ShadowCopies
from fanfold.evidence.disk import shadow
from fanfold.evidence.units import OLDER, ONLY, Units, place_of
from fanfold.executors import keeping, open_executor
from fanfold.job import Job
from fanfold.storage import absolute, is_url

_DOES = {
    ("live",): "Reading the logs, and the files beside them.",
    ("shadow",): "Reading the logs in the newest shadow copy of each volume.",
    (OLDER,): "Reading the logs in older shadow copies.",
    ("deleted",): "Reading the logs that were deleted.",
    ("carved",): "Looking for logs in all bytes of the disks.",
    ("verify",): "Verifying each disk image.",
    ("chunks",): "Checking each chunk of every disk image.",
    ("carved", "verify"): "Looking for logs in all bytes of the disks, and verifying each image.",
    ("carved", "chunks"): "Looking for logs in all bytes of the disks, and checking each chunk.",
}
"""What a scan says before it does some stages."""
_VERIFYING = {"full": ["verify"], "chunks": ["chunks"], "none": []}
_TASK = 256 << 20
"""Bytes of a task's units, at most, more or less: what a worker does again when it was killed."""


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """The flags of `scan`, with those of `Size`."""

    carve: Annotated[bool, Parameter(help="Look for event logs in all bytes of a disk image, free space included.")] = (
        True
    )
    shadow_copies: Annotated[
        Literal["all", "newest", "none"],
        Parameter(help="Read the logs in all shadow copies of a volume, in the newest one, or in none."),
    ] = "all"
    verify: Annotated[
        Literal["full", "chunks", "none"],
        Parameter(help="Verify each disk image: its chunks and the digests of the whole, its chunks only, or nothing."),
    ] = "full"
    only: Annotated[
        list[str] | None,
        Parameter(
            help="Only logs of this name or channel, such as Security; repeat the flag for several. "
            "A later scan without it reads the rest, carves and verifies.",
            negative="",
        ),
    ] = None
    on: str = field(default="local", metadata=RunOptions.__dataclass_fields__["on"].metadata)
    task_size: int = field(default=100, metadata=PlanOptions.__dataclass_fields__["task_size"].metadata)
    retry_failed: Annotated[bool, Parameter(negative="")] = field(
        default=False, metadata=PlanOptions.__dataclass_fields__["retry_failed"].metadata
    )

    def stages(self) -> list[list[str]]:
        """The stages of units, in the order in which they are read; those together are read side by side."""
        if self.only:  # to carve, all logs must have been read
            return [["live"], ["deleted"]]
        last = [*(["carved"] if self.carve else []), *_VERIFYING[self.verify]]
        copies = {"all": [["shadow"], [OLDER]], "newest": [["shadow"]], "none": []}[self.shadow_copies]
        return [["live"], *copies, ["deleted"], *([last] if last else [])]


def run(
    source: Sources,
    database: Database,
    /,
    *,
    options: Annotated[ScanOptions, Parameter(name="*")] = ScanOptions(),
    size: Annotated[Size, Parameter(name="*")] = Size(),  # noqa: B008 - frozen
    json: Json = False,
) -> int:
    """List what is in a disk image, a folder, an archive or a file; then read it."""
    _check_outside(source, database)
    executor = open_executor(options.on, size)
    scan = _Scan(database, options, executor, json)
    with keeping(executor, database):
        scan.list_containers(source)
        there = tables.stages(database)
        for stages in options.stages():
            if found := [stage for stage in stages if stage in there]:
                scan.read(found, there)
    show.failures(tables.failures(database), database)
    if there and options.only and not _has_logs(database, options.only):
        shown.note(f"No log is called {' or '.join(options.only)}. Name its file or its channel: --only Security")
    if there:
        scan.codes.append(_scanned(database, options, json))
    else:
        shown.note("No event log is in any of these files, and none of them is a disk image that can be read.")
    return min(filter(None, scan.codes), default=0)  # 1, the run failed, says more than 3, some items failed


@dataclass
class _Scan:
    """A scan under way: a run after the other."""

    database: str
    options: ScanOptions
    executor: Executor | Detached
    json: bool
    codes: list[int] = field(default_factory=list)
    """The exit codes of its runs."""

    def list_containers(self, source: list[str]) -> None:
        """List what is in the files that were given, and in their shadow copies. Raises UsageError."""
        shown.note("Listing what is there.")
        try:
            self._do(Containers(), source, self.options.task_size)
        except SourceMismatch as error:
            raise UsageError(
                f"{self.database} holds the evidence of {error.args[1]}, and {error.args[2]} is not inside it. "
                f"Scan all in one command (fanfold evidence scan SOURCE SOURCE {self.database}), or into another "
                "database."
            ) from error
        if _wants_copies(self.database, self.options):
            shown.note("Listing what is in shadow copies.")
            self._do(ShadowCopies(), [self.database], self.options.task_size)

    def read(self, stages: list[str], there: Mapping[str, tuple[int, int]]) -> None:
        """Read the units of some stages."""
        shown.note(_DOES[tuple(stages)])
        chosen = [ONLY + name for name in self.options.only or ()]
        self._do(Evidence(), [self.database, *stages, *chosen], units_of_a_task(there, stages, self.options.task_size))

    def _do(self, job: Job, addresses: list[str], task_size: int) -> None:
        """Do a run. Raises UsageError for a database of another version of fanfold."""
        try:
            begun = fanfold.run(
                job,
                source=addresses,
                database=self.database,
                executor=self.executor,
                task_size=task_size,
                retry_failed=self.options.retry_failed,
            )
        except RecipeMismatch as error:
            raise UsageError(
                f"{self.database} was made by another version of fanfold, which read evidence otherwise. "
                "Scan again, into a new database: fanfold evidence scan SOURCE... DATABASE"
            ) from error
        self.codes.append(shown_run(begun, self.json))


def _has_logs(database: str, names: list[str]) -> bool:
    """Whether any log, a deleted one included, has one of these names."""
    units = Units.open([database, "live", "deleted", *(ONLY + name for name in names)])
    return any(place_of(unit).kind == "log" for unit in units.list(frozenset()))


def _wants_copies(database: str, options: ScanOptions) -> bool:
    """Whether shadow copies are to be listed: there are some, and a library that reads them."""
    wanted = options.shadow_copies != "none" and shadow.is_installed()
    return bool(wanted and tables.stages(database) and tables.copies(database))


def _scanned(database: str, options: ScanOptions, json: bool) -> int:
    """Show what a scan has read, and what it could not. Returns the exit code."""
    is_lacking = options.shadow_copies != "none" and not shadow.is_installed()
    unsearched = tables.unsearched(database) if is_lacking else []
    code = show.problems([*unsearched, *tables.problems(database)])
    with even_unread():
        show.machines(tables.totals(database), json)
    shown.note(f"To read what the records show: fanfold evidence report {database}")
    return code


def units_of_a_task(there: Mapping[str, tuple[int, int]], stages: list[str], most: int) -> int:
    """How many units of some stages a task has, given the number of all units of each stage and their bytes."""
    units, size = (sum(there[stage][of] for stage in stages) for of in (0, 1))
    return min(most, max(1, _TASK * units // max(1, size)))


def shown_run(begun: fanfold.Run, json: bool) -> int:
    """Do a run, and show how it ended: in a line, unless something is lost or the run was stopped.

    Returns the exit code, which is 3 also if a folder could not be listed: evidence may be in it.
    """
    report, ended = performed(begun)
    if json or report.exit_code == 1:
        with even_unread():
            shown.report(report, ended, json)
    else:
        shown.note(f"  {_ended(report)}, in {shown.duration(report.seconds)}.")
    code = show.left_out(report.left_out)
    return report.exit_code or code


def _ended(report: fanfold.Report) -> str:
    """How a run ended: 12 read, 3 unchanged, 1 failed."""
    counts = ((report.ok, "read"), (report.unchanged, "unchanged"), (report.failed, "failed"))
    return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing to do"


def _check_outside(sources: list[str], database: str) -> None:
    """Raise UsageError for a database that would be written among the evidence."""
    where = absolute(database)
    for source in map(absolute, sources):
        if f"{where}/".startswith(f"{source}/"):
            raise UsageError(f"The database {database} would be inside the evidence. Choose a place outside of it.")
    if is_url(where) or not Path(where).is_dir():
        return
    names = {file.name for file in Path(where).iterdir()}
    if names and not any(name == "_runs" or name.endswith(".lance") for name in names):
        raise UsageError(
            f"The folder {database} has files in it, and is not a database. Was the database forgotten? "
            "The command is: fanfold evidence scan SOURCE... DATABASE"
        )
