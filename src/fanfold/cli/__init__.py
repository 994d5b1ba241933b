"""The command line: `fanfold images ...` and the verbs that serve every job. Only this package prints.

Results go to stdout, progress and errors to stderr. Exit codes: 0 all done, 1 the run failed, 2 the command was
wrong, 3 finished with failed items, 128 and the signal's number when stopped by one.
"""

import signal
import sys
from datetime import timedelta
from types import FrameType
from typing import Annotated, Any, NoReturn

from cyclopts import App, Parameter

import fanfold
from fanfold.cli import draw, numbers, streams
from fanfold.errors import FanfoldError, UsageError
from fanfold.limits import advice

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for scripts.")]
Database = Annotated[str, Parameter(help="The database: a folder, or a URL such as s3://bucket/db.")]
MOST_HOURS = 1_000_000
"""A century: more would be before dates begin."""
RunId = Annotated[str | None, Parameter(help="The run's id; the newest by default.")]

app = App(
    name="fanfold",
    help="Fan one job out over many items; fold the results into one table, exactly once.",
    version=fanfold.__version__,
    suppress_keyboard_interrupt=False,  # `main` says something better
    config=numbers.check,
    console=streams.help_out,
    error_console=streams.help_err,
)


def _help(does: str, example: str) -> str:
    """The help of a command whose docstring Cyclopts does not see; the others' docstrings have the same form."""
    return f"{does}\n\nFor example: `{example}`"


app.register_install_completion_command(
    help=_help(
        "Set up completion by Tab for your shell: bash, zsh, fish or PowerShell.", "fanfold --install-completion"
    )
)
# Loaded when called for: the other verbs work without the jobs' dependencies.
app.command("fanfold.cli.images:app", name="images", help="Embed pictures as vectors, and search them.")
plan = App(name="plan", help="Say what a run would do, how long it would take, and what it would cost.")
plan.command(
    "fanfold.cli.images:plan",
    name="images",
    help=_help(
        "Say what `fanfold images embed` would do.\n\n"
        "Nothing is written. Some pictures, drawn at random, are embedded to measure it.",
        "fanfold plan images photos db",
    ),
)
app.command(plan)
app.command(
    "fanfold.cli.doctor:doctor",
    name="doctor",
    help=_help("Say what this machine offers, and what will be used of it.", "fanfold doctor"),
)
app.command(
    "fanfold.cli.detached:cancel",
    name="cancel",
    help=_help("End a run on a cluster, and commit what it has done.", "fanfold cancel db"),
)
for verb in ("work", "commit", "launch"):  # what containers do
    app.command(f"fanfold.cli.detached:{verb}", name=verb, show=False)


@app.command
def runs(database: Database, /, *, json: Json = False) -> int:
    """List the runs of a database, newest first.

    For example: `fanfold runs db`
    """
    from fanfold.account import account
    from fanfold.runs import RunDirectory, list_runs
    from fanfold.storage import absolute

    where = absolute(database)
    draw.runs((account(RunDirectory(where, id)) for id in reversed(list_runs(where))), json)
    return 0


@app.command
def report(
    database: Database,
    run: RunId = None,
    /,
    *,
    follow: Annotated[bool, Parameter(negative="", help="Wait for its end: of a run on a cluster.")] = False,
    json: Json = False,
) -> int:
    """Say where every item of a run went; of one that is under way, how far it is.

    For example: `fanfold report db`
    """
    from fanfold.account import account
    from fanfold.runs import find_run
    from fanfold.storage import absolute

    found = find_run(absolute(database), run)
    if follow and not found.get("report.json"):
        from fanfold.cli import detached

        detached.follow(found)
    told, ended = account(found)
    draw.report(told, ended, json)
    return 0 if ended == "running" else told.exit_code


@app.command
def failures(
    database: Database,
    /,
    *,
    table: Annotated[str | None, Parameter(help="Only those of this table.")] = None,
    check: Annotated[
        bool, Parameter(negative="", help="List the sources again, and mark the items that are gone from them.")
    ] = False,
    json: Json = False,
) -> int:
    """List the items that failed, each with the stage and the reason.

    For example: `fanfold failures db`
    """
    from fanfold.failed import failed
    from fanfold.storage import absolute

    draw.failures(failed(absolute(database), table, check=check), json)
    return 0


@app.command
def mirror(
    database: Database,
    address: Annotated[str, Parameter(help="The mirror: dynamodb://NAME.")],
    /,
    *,
    table: Annotated[str, Parameter(help="The table to be mirrored.")] = "images",
    replace: Annotated[
        bool, Parameter(negative="", help="Empty the mirror first, whatever it holds: it is of this table from now on.")
    ] = False,
    json: Json = False,
) -> int:
    """Bring a table elsewhere in step with a whole table of the database. Runs with --mirror do so for their items.

    For example: `fanfold mirror db dynamodb://vectors`
    """
    from fanfold.database import check_name
    from fanfold.ledger import Ledger
    from fanfold.mirror import mirror_all
    from fanfold.storage import absolute

    check_name(table)
    ledger = Ledger.open(absolute(database), table)
    if ledger is None:
        raise UsageError(f"There is no table '{table}' of fanfold's in {database}.")
    rows = mirror_all(ledger.rows, ledger.mirror(address, replace=replace))
    draw.mirrored(ledger.mirrored, rows, json)
    return 3 if ledger.mirrored[address]["refused"] else 0


@app.command
def optimize(
    database: Database,
    /,
    *,
    keep: Annotated[float, Parameter(help="Hours for which old versions stay readable.")] = 1.0,
    json: Json = False,
) -> int:
    """Join small fragments, complete indexes, forget old versions, and sweep up what killed workers left behind.

    For example: `fanfold optimize db`
    """
    from fanfold.ledger import optimize
    from fanfold.storage import absolute

    if not 0 <= keep <= MOST_HOURS:
        raise UsageError(f"--keep takes hours, from 0 up to {MOST_HOURS:,}, not {keep:g}.")
    draw.optimized(optimize(absolute(database), timedelta(hours=keep)), json)
    return 0


@app.command
def repair(database: Database, /, *, json: Json = False) -> int:
    """Take out of damaged tables what cannot be read, so that the next run does those items again.

    For example: `fanfold repair db`
    """
    from fanfold.repair import repair
    from fanfold.storage import absolute

    draw.repaired(repair(absolute(database)), json)
    return 0


def main() -> NoReturn:
    """Run the command line and exit."""
    streams.in_utf8()
    streams.take_any_text()
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(_exit_code())


def _exit_code() -> int:
    """Perform the command. Every error that a user can meet becomes a sentence and an exit code here."""
    try:
        code: int | None = app(sys.argv[1:], result_action="return_value")
        return code or 0
    except FanfoldError as error:
        draw.error(str(error))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        draw.error("Stopped. What is done is kept; the same command goes on from here.")
        return int(128 + (interrupt.args or (signal.SIGINT,))[0])
    except BrokenPipeError:  # the reader of stdout had enough, e.g. `| head`
        streams.into_nothing(sys.stdout.fileno())
        return 0
    except OSError as error:  # of stdout, such as a full disk: those of sources and databases are FanfoldErrors
        draw.error(str(error))
        return 1
    except BaseException as error:
        if not (said := advice(error)):
            raise
        draw.error(said)
        return 1


def _stop(number: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt(number)
