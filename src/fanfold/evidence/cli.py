"""`fanfold evidence ...`: the verbs of the job, and its `run` and `plan`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from cyclopts import App, Parameter

import fanfold
from fanfold.cli import Database, Json, described
from fanfold.cli import show as shown
from fanfold.cli.jobs import Sources
from fanfold.cli.progress import fraction
from fanfold.core.executor import Size
from fanfold.core.progress import Tally
from fanfold.errors import UsageError
from fanfold.evidence import Evidence, show, tables, verification
from fanfold.evidence import extract as extraction
from fanfold.evidence.containers import Containers
from fanfold.evidence.coverage import logs
from fanfold.evidence.references import named
from fanfold.evidence.report.case import CLOCK
from fanfold.evidence.report.exports import l2tcsv, timesketch
from fanfold.evidence.report.load import Machines, load, machines
from fanfold.evidence.report.report import QUESTIONS, all_made
from fanfold.evidence.scan import run
from fanfold.evidence.units import CONTAINERS, quoted

app = App(name="evidence")
app.command(
    run,
    name="scan",
    help=described(
        "Read the event logs of a disk image, a folder, an archive or a file. Run it again to resume or to update.",
        "fanfold evidence scan disk.E01 db",
    ),
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
    from fanfold.cli.planned import show_plan
    from fanfold.cli.show import leaving_nothing

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
    with shown.leaving_nothing():
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
    tables.table_of(database, CONTAINERS)  # raises, if there is none
    with shown.leaving_nothing(f"Some logs are missing in {to}. Delete it, and extract again."):
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
        raise UsageError(tables.why_none(database))
    if len(names) > 1 and (html or md):
        raise UsageError(f"A page is on one machine. Name one of: {', '.join(map(shown.printable, names))}.")
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
    if not names:
        raise UsageError(tables.why_none(database))
    if image is None and len(names) != 1:
        raise UsageError(f"A timeline is of one machine. Name one of: {', '.join(map(shown.printable, names))}.")
    name = image or names[0]
    clock = load(database, name, CLOCK, zone).clock
    chosen = f"image = {quoted(name)}" + (f" AND ({where})" if where else "")
    rows = (row for batch in tables.in_time(database, chosen) for row in batch.to_pylist())
    show.timeline((l2tcsv if format == "l2tcsv" else timesketch)(rows, clock), format, out)
    return 0
