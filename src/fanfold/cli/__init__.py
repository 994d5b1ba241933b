"""The command line: the verbs that serve every job, and the verbs of each job in `JOBS`. Only this package prints.

Results go to stdout, progress and errors to stderr. Exit codes: 0 all done, 1 the run failed, 2 the command was
wrong, 3 finished with failed items, 128 and the signal's number when stopped by one.
"""

import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Annotated, Any, NoReturn

from cyclopts import App, Parameter

import fanfold
from fanfold.cli import arguments, show, streams
from fanfold.errors import FanfoldError, UsageError
from fanfold.job import JOBS
from fanfold.limits import advice

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for scripts.")]
Database = Annotated[str, Parameter(help="The database: a folder, or a URL such as s3://bucket/db.")]
MOST_HOURS = 1_000_000
"""More than a century. A far longer time is out of the range of dates."""
RunId = Annotated[str | None, Parameter(help="The run's id; by default the newest run.")]
OneTable = Annotated[str | None, Parameter(help="The table's name; not needed if the database has only one.")]

app = App(
    name="fanfold",
    help="Fan one job out over many items; fold the results into one table, exactly once.",
    version=fanfold.__version__,
    suppress_keyboard_interrupt=False,  # `main` says something better
    config=arguments.check,
    error_formatter=arguments.said,
    console=streams.help_out,
    error_console=streams.help_err,
)


def described(does: str, example: str) -> str:
    """The help of a command whose docstring Cyclopts does not see; the others' docstrings have the same form."""
    return f"{does}\n\nFor example: `{example}`"


app.register_install_completion_command(
    help=described(
        "Set up Tab completion for your shell: bash, zsh, fish or PowerShell.", "fanfold --install-completion"
    )
)
run = App(
    name="run",
    help=described(
        "Run a job over new and changed items: one of fanfold's jobs, or your own as module:Class.",
        "fanfold run my_jobs:Words texts db",
    ),
)
plan = App(name="plan", help="Show what a run of a job would do, how long it would take, and what it would cost.")
app.command(run)
app.command(plan)
for name, known in JOBS.items():  # loaded when called for: the other verbs work without the jobs' dependencies
    module = known.address.partition(":")[0] + ".cli"
    app.command(f"{module}:app", name=name, help=known.help)
    run.command(
        f"{module}:run",
        name=name,
        help=described(
            f"Run the job '{name}' over new and changed items. Run it again to resume or to update.",
            f"fanfold run {name} SOURCE DATABASE",
        ),
    )
    plan.command(
        f"{module}:plan",
        name=name,
        help=described(
            f"Show what a run of the job '{name}' would do.\n\n"
            "Nothing is written to the database. For the estimate, a random sample of the items is processed.",
            f"fanfold plan {name} SOURCE DATABASE",
        ),
    )
app.command(
    "fanfold.cli.doctor:doctor",
    name="doctor",
    help=described("Show what this machine has, and what fanfold will use.", "fanfold doctor"),
)
app.command(
    "fanfold.cli.clusters:cancel",
    name="cancel",
    help=described("Cancel a run on a cluster, and commit its finished work.", "fanfold cancel db"),
)
for verb in ("work", "commit", "launch"):  # what containers do
    app.command(f"fanfold.cli.clusters:{verb}", name=verb, show=False)


@app.command
def runs(database: Database, /, *, json: Json = False) -> int:
    """List the runs of a database, newest first.

    For example: `fanfold runs db`
    """
    from fanfold.core.catalog import list_runs
    from fanfold.core.report import account
    from fanfold.core.runs import RunDirectory
    from fanfold.storage import absolute

    where = absolute(database)
    show.runs((account(RunDirectory(where, id)) for id in reversed(list_runs(where))), json)
    return 0


@app.command
def report(
    database: Database,
    run: RunId = None,
    /,
    *,
    follow: Annotated[bool, Parameter(negative="", help="Follow a run on a cluster until it has ended.")] = False,
    json: Json = False,
) -> int:
    """Show the report of a run, or its progress if it has not ended.

    For example: `fanfold report db`
    """
    from fanfold.core.catalog import find_run
    from fanfold.core.report import account
    from fanfold.storage import absolute

    found = find_run(absolute(database), run)
    if follow and not found.get("report.json"):
        from fanfold.cli import clusters

        clusters.follow(found)
    counts, ended = account(found)
    show.report(counts, ended, json)
    return 0 if ended == "running" else counts.exit_code


@app.command
def failures(
    database: Database,
    /,
    *,
    table: Annotated[str | None, Parameter(help="List only the items of this table.")] = None,
    check: Annotated[bool, Parameter(negative="", help="List the sources again, and mark deleted items.")] = False,
    json: Json = False,
) -> int:
    """List the failed items, each with its stage and its reason.

    For example: `fanfold failures db`
    """
    from fanfold.core.database import open_table
    from fanfold.core.failures import failed
    from fanfold.storage import absolute

    if check:  # which loads the job
        from fanfold.cli.jobs import look_here

        look_here()
    found = failed(absolute(database), table, check=check)
    if table is not None:
        open_table(database, table)  # raises for a table that is not there
    show.failures(found, json)
    return 0


@app.command
def mirror(
    database: Database,
    address: Annotated[str, Parameter(help="The external table: dynamodb://NAME.")],
    /,
    *,
    table: OneTable = None,
    replace: Annotated[
        bool,
        Parameter(negative="", help="Empty the external table, and make it the mirror of this table."),
    ] = False,
    json: Json = False,
) -> int:
    """Bring an external table in sync with a table of the database. Runs with --mirror do this for their own items.

    For example: `fanfold mirror db dynamodb://vectors`
    """
    from fanfold.core.ledger import ledger_of
    from fanfold.core.mirror import mirror_all

    ledger = ledger_of(database, table)
    rows = mirror_all(ledger.rows, ledger.mirror(address, replace=replace))
    show.mirrored(ledger.mirrored, rows, json)
    return 3 if ledger.mirrored[address]["refused"] else 0


@app.command
def fold(database: Database, /, *, table: OneTable = None, json: Json = False) -> int:
    """Make the derived tables of a job again. Every run does this at its end.

    For example: `fanfold fold db`
    """
    from importlib import import_module

    from fanfold.cli.jobs import look_here

    look_here()
    show.folded(import_module("fanfold.api").fold(database, table), json)
    return 0


@app.command
def optimize(
    database: Database,
    /,
    *,
    keep: Annotated[float, Parameter(help="Hours to keep old versions.")] = 1.0,
    json: Json = False,
) -> int:
    """Merge small fragments, update indexes, and delete old versions and the files that killed workers left.

    For example: `fanfold optimize db`
    """
    from fanfold.core.optimize import optimize
    from fanfold.storage import absolute

    if not 0 <= keep <= MOST_HOURS:
        raise UsageError(f"--keep takes a number of hours from 0 to {MOST_HOURS:,}, not {keep:g}.")
    show.optimized(optimize(absolute(database), timedelta(hours=keep)), json)
    return 0


@app.command
def repair(database: Database, /, *, json: Json = False) -> int:
    """Remove unreadable data from damaged tables. The next run does those items again.

    For example: `fanfold repair db`
    """
    from fanfold.core.repair import repair
    from fanfold.storage import absolute

    show.repaired(repair(absolute(database)), json)
    return 0


def main() -> NoReturn:
    """Run the command line and exit."""
    streams.in_utf8()
    streams.take_any_text()
    signal.signal(signal.SIGTERM, _stop)
    code = exit_code(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command is done, and ends with its own exit code
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback, should an exit handler take long
    sys.exit(code)


def exit_code(words: list[str]) -> int:
    """Run a command. Every error that a user can meet becomes a sentence and an exit code here."""
    try:
        if words[:1] in (["run"], ["plan"]):
            from fanfold.cli.jobs import admit

            admit(app, words)
        command = _parsed(words)
        return command() or 0
    except FanfoldError as error:
        show.error(str(error))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        show.error("Stopped. Finished work is kept. Run the same command again to continue.")
        return int(128 + (interrupt.args or (signal.SIGINT,))[0])
    except BrokenPipeError:  # the reader of stdout had enough, e.g. `| head`
        streams.into_nothing(sys.stdout.fileno())
        return 0
    except OSError as error:  # of stdout, such as a full disk: those of sources and databases are FanfoldErrors
        message = str(error) if error.filename else f"Cannot write the output: {error.strerror or error}."
        show.error(message if isinstance(error, BlockingIOError) else advice(error) or message)
        return 1
    except BaseException as error:
        if not (message := advice(error)):
            raise
        show.error(message)
        return 1


def _parsed(words: list[str]) -> Callable[[], int | None]:
    """The command that these arguments name. Raises UsageError for options that a job refuses."""
    try:
        command, bound, _ = app.parse_args(words)
    except ValueError as error:  # of a job's `__post_init__`
        raise UsageError(str(error)) from error
    return partial(command, *bound.args, **bound.kwargs)


def _stop(number: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt(number)
