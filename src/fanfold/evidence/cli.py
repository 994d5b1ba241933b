"""`fanfold evidence ...`: the verbs of the job, and its `run` and `plan`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from cyclopts import App, Parameter

import fanfold
from fanfold.cli import Database, Json, described
from fanfold.cli import show as shown
from fanfold.cli.jobs import PlanOptions, RunOptions, Sources, performed
from fanfold.cli.planned import leaving_nothing, show_plan
from fanfold.cli.progress import fraction
from fanfold.core.executor import Size
from fanfold.core.progress import Tally
from fanfold.errors import SourceMismatch, UsageError
from fanfold.evidence import Evidence, show, tables, verification
from fanfold.evidence import extract as extraction
from fanfold.evidence.containers import Containers
from fanfold.evidence.copies import ShadowCopies
from fanfold.evidence.coverage import logs
from fanfold.evidence.disk import shadow
from fanfold.evidence.references import named
from fanfold.evidence.report.case import CLOCK
from fanfold.evidence.report.exports import l2tcsv, timesketch
from fanfold.evidence.report.load import Machines, load, machines
from fanfold.evidence.report.report import QUESTIONS, all_made
from fanfold.evidence.units import OLDER, ONLY, Units, nothing_in, place_of, quoted
from fanfold.executors import open_executor
from fanfold.job import Job
from fanfold.storage import absolute, is_url

app = App(name="evidence")
_DOES = {
    ("live",): "Reading the logs, and the files beside them.",
    ("shadow",): "Reading the logs in the newest shadow copy of each volume.",
    (OLDER,): "Reading the logs in older shadow copies.",
    ("deleted",): "Reading the logs that were deleted.",
    ("carved",): "Looking for logs in all bytes of the disks.",
    ("verify",): "Verifying each disk image.",
    ("chunks",): "Checking each chunk of the disk images.",
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

    def done(job: Job, addresses: list[str], task_size: int) -> int:
        begun = fanfold.run(
            job,
            source=addresses,
            database=database,
            executor=executor,
            task_size=task_size,
            retry_failed=options.retry_failed,
        )
        return shown_run(begun, json)

    shown.note("Listing what is there.")
    try:
        codes = [done(Containers(), source, options.task_size)]
    except SourceMismatch as error:
        raise UsageError(
            f"{database} holds the evidence of {error.args[1]}, and {error.args[2]} is not inside it. "
            f"Scan all in one command (fanfold evidence scan SOURCE SOURCE {database}), or into another database."
        ) from error
    if _wants_copies(database, options):
        shown.note("Listing what is in shadow copies.")
        codes.append(done(ShadowCopies(), [database], options.task_size))
    there = tables.stages(database)
    for stages in options.stages():
        if found := [stage for stage in stages if stage in there]:
            shown.note(_DOES[tuple(found)])
            chosen = [ONLY + name for name in options.only or ()]
            task_size = units_of_a_task(there, found, options.task_size)
            codes.append(done(Evidence(), [database, *found, *chosen], task_size))
    show.failures(tables.failures(database), database)
    if there and options.only and not _has_logs(database, options.only):
        shown.note(f"No log is called {' or '.join(options.only)}. Name its file or its channel: --only Security")
    if there:
        codes.append(_scanned(database, options))
    else:
        shown.note("No event log is in any of these files, and none of them is a disk image that can be read.")
    return min(filter(None, codes), default=0)  # 1, the run failed, says more than 3, some items failed


def _has_logs(database: str, names: list[str]) -> bool:
    """Whether any log, a deleted one included, has one of these names."""
    units = Units.open([database, "live", "deleted", *(ONLY + name for name in names)])
    return any(place_of(unit).kind == "log" for unit in units.list(frozenset()))


def _wants_copies(database: str, options: ScanOptions) -> bool:
    """Whether shadow copies are to be listed: there are some, and a library that reads them."""
    wanted = options.shadow_copies != "none" and shadow.is_installed()
    return bool(wanted and tables.stages(database) and tables.copies(database))


def _scanned(database: str, options: ScanOptions) -> int:
    """Show what a scan has read, and what it could not. Returns the exit code."""
    is_lacking = options.shadow_copies != "none" and not shadow.is_installed()
    unsearched = tables.unsearched(database) if is_lacking else []
    code = show.problems([*unsearched, *tables.problems(database)])
    show.machines(tables.totals(database))
    shown.note(f"To read what the records show: fanfold evidence report {database}")
    return code


app.command(
    run,
    name="scan",
    help=described(
        "Read the event logs of a disk image, a folder, an archive or a file. Run it again to resume or to update.",
        "fanfold evidence scan disk.E01 db",
    ),
)


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


def plan(
    source: Sources,
    database: Database,  # noqa: ARG001 - every `plan` takes it
    /,
    *,
    workers: Annotated[int | None, Parameter(help=Size.__dataclass_fields__["workers"].metadata["help"])] = None,
    prices: Annotated[Path | None, Parameter(help="A price table to use instead of fanfold's own.")] = None,
    json: Json = False,
) -> int:
    """Show what a scan into an empty database would do."""
    tally = Tally()
    with leaving_nothing(), TemporaryDirectory(prefix="fanfold-plan-") as folder, shown.progress(tally):
        for _ in (listing := fanfold.run(Containers(), source=source, database=folder, workers=workers)):
            pass
        if listing.report.failed:
            shown.note(f"{listing.report.failed:,} files cannot be read; a scan says why.")
        preview = fanfold.preview(
            Evidence(), source=folder, database=f"{folder}/new", workers=workers, prices=prices, tally=tally
        )
    show_plan(preview, json, {"decode": "more workers", "read": "more workers"})
    return 0


_CONDITION = "A condition in SQL: event_id = 4625 AND time > timestamp '2021-05-23 22:00:00' (in UTC)."
Format = Literal["table", "jsonl", "csv", "parquet"]


@app.command
def events(
    database: Database,
    /,
    *,
    where: Annotated[str | None, Parameter(help=_CONDITION)] = None,
    columns: Annotated[list[str], Parameter(negative="", help="Columns to show; repeat the flag for several.")]
    | None = None,
    limit: Annotated[int | None, Parameter(help="Most records to show; for `table` 100 by default.")] = None,
    format: Annotated[Format, Parameter(help="table, jsonl, csv, or parquet (with --out).")] = "table",
    out: Annotated[Path | None, Parameter(help="The file to write, instead of printing.")] = None,
) -> int:
    """Show the records that meet a condition, log by log. A file gets all columns, unless some are chosen.

    For example: `fanfold evidence events db --where "event_id = 4625"`
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit takes a whole number of at least 1, not {limit}.")
    if format == "table":
        if out:
            raise UsageError("--out needs a --format: jsonl, csv or parquet.")
        show.events(tables.events(database, where, columns or show.COLUMNS, limit or show.ROWS + 1), limit)
        return 0
    found = tables.events(database, where, columns or (), limit)
    if format == "parquet" and not out:
        raise UsageError("--format parquet needs a file to write: --out FILE")
    show.export(found, format, out)
    return 0


@app.command
def coverage(database: Database, /, *, json: Json = False) -> int:
    """Show how far each log reaches, and what of it is missing, damaged or could not be decoded.

    For example: `fanfold evidence coverage db`
    """
    show.coverage(logs(tables.units(database)), json)
    for image, sentence in () if json else tables.unsearched(database):
        shown.note(f"{shown.printable(image)}: {sentence}")
    return 0


@app.command(name="show")
def show_record(
    database: Database,
    record: Annotated[str, Parameter(name="LOG#ID", help="A record: the name or path of its log, and its id.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Show a record, with all of its columns.

    For example: `fanfold evidence show db Security.evtx#51234`
    """
    show.records(named(database, record), json)
    return 0


@app.command
def verify(
    source: Sources,
    /,
    *,
    digests: Annotated[bool, Parameter(help="Compute the digests of the whole, and not only check each chunk.")] = True,
    json: Json = False,
) -> int:
    """Verify disk images: each chunk of data, and the digests of the whole. No database is needed.

    Exit code 3 if one is damaged, incomplete, or not what its digests say; 1 if it cannot be read.

    For example: `fanfold evidence verify disk.E01`
    """
    codes = [show.verified(checked, json) for checked in verification.check(source, fraction, whole=digests)]
    if not codes:
        raise UsageError(f"There is no disk image in {', '.join(source)}.")
    return max(codes)


@app.command
def extract(
    database: Database,
    /,
    *,
    to: Annotated[Path, Parameter(help="The folder to write to: a new or an empty one.")],
    origin: Annotated[
        list[Literal["live", "shadow", "deleted", "carved"]],
        Parameter(negative="", help="Only logs of this origin; repeat the flag for several."),
    ]
    | None = None,
) -> int:
    """Write logs as .evtx files for other tools: also those of shadow copies, deleted ones, and those of free space.

    For example: `fanfold evidence extract db --to logs --origin carved`
    """
    return show.extracted(extraction.extract(database, to, origin or ()), to)


@app.command
def report(
    database: Database,
    image: Annotated[str | None, Parameter(help="A machine; all, if none is named.")] = None,
    /,
    *,
    html: Annotated[Path | None, Parameter(help="A page to write: one file, without script or network.")] = None,
    md: Annotated[Path | None, Parameter(help="A Markdown file to write.")] = None,
    zone: Annotated[str | None, Parameter(help="The time zone to use, such as America/Denver.")] = None,
    question: Annotated[
        list[str], Parameter(negative="", help=f"Only this question; repeat the flag for several: {QUESTIONS}.")
    ]
    | None = None,
    json: Json = False,
) -> int:
    """Tell what the records show, sentence by sentence, each with its records; and what they cannot show.

    For example: `fanfold evidence report db --html report.html`
    """
    there = Machines(database)
    names = [image] if image else there.names
    if not names:
        raise UsageError(nothing_in(database))
    if len(names) > 1 and (html or md):
        raise UsageError(f"A page is on one machine. Name one of: {', '.join(names)}.")
    for number, made in enumerate(all_made(there, names, zone, question or ())):
        if number and not json:
            shown.out.print()
        show.reported(made, json, html, md)
    return 0


@app.command
def timeline(
    database: Database,
    image: Annotated[str | None, Parameter(help="A machine; not needed if there is only one.")] = None,
    /,
    *,
    where: Annotated[str | None, Parameter(help=_CONDITION)] = None,
    format: Annotated[
        Literal["jsonl", "csv", "l2tcsv"],
        Parameter(help="jsonl and csv are as Timesketch imports them; l2tcsv is log2timeline's."),
    ] = "jsonl",
    out: Annotated[Path | None, Parameter(help="The file to write, instead of printing.")] = None,
    zone: Annotated[str | None, Parameter(help="The time zone to use, such as America/Denver.")] = None,
) -> int:
    """Write the records of a machine in the order of time, for Timesketch and other tools.

    For example: `fanfold evidence timeline db --format csv --out timeline.csv`
    """
    names = machines(database)
    if image is None and len(names) != 1:
        raise UsageError(f"A timeline is of one machine. Name one of: {', '.join(names) or 'none'}.")
    name = image or names[0]
    clock = load(database, name, CLOCK, zone).clock
    chosen = f"image = {quoted(name)}" + (f" AND ({where})" if where else "")
    rows = (row for batch in tables.in_time(database, chosen) for row in batch.to_pylist())
    show.timeline((l2tcsv if format == "l2tcsv" else timesketch)(rows, clock), format, out)
    return 0
