"""`fanfold tls ...`: the verbs of the job, and its `run` and `plan`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fanfold.cli import Database, Json, described
from fanfold.cli.jobs import Asked, Preparation, verbs
from fanfold.cli.show import leaving_nothing
from fanfold.errors import UsageError
from fanfold.executors.local import Local
from fanfold.machine import cores
from fanfold.tls import Tls, lab, show
from fanfold.tls import model as models
from fanfold.tls import sizes as counting
from fanfold.tls.analysis.cli import analyze
from fanfold.tls.report import write as reports
from fanfold.tls.serve.cli import serve

TASK_SIZE = 32
"""Cells of a task, at most: each takes seconds where it is measured."""


@dataclass(frozen=True)
class Bench(Preparation):
    """Sees that handshakes can be measured here, before a run is made."""

    @contextmanager
    def prepared(self, job: Tls, asked: Asked) -> Iterator[Tls]:
        """The job with its back end. Raises UsageError where that is not possible, MissingExtra."""
        chosen = replace(job, backend=job.chosen)
        if chosen.backend == "emulate" and (asked.executor is None or isinstance(asked.executor, Local)):
            lab.stack()
            lab.check()
            workers = asked.executor.workers if asked.executor else 1
            show.back_end(workers, max(1, cores() // job.worker_cpus))
        yield chosen


app = App(name="tls")
run, plan = verbs(Tls, Bench(), TASK_SIZE)
app.command(
    run,
    name="measure",
    help=described(
        "Measure the handshakes of a grid of cells. Run it again to resume or to update.",
        "fanfold tls measure first.grid.toml db",
    ),
)

app.command(analyze)
app.command(serve)

Link = Annotated[str, Parameter(help="A link: rtt, down, up, mss, quickack and cpu, such as rtt=50ms,down=20Mbit.")]
Windows = Annotated[
    list[int] | None,
    Parameter(negative="", help="An initial window in segments, 10 and 30 by default; repeat the flag for several."),
]
Base = Annotated[int, Parameter(help="Bytes of the server's first flight that are neither signatures nor keys.")]
Table = Annotated[str, Parameter(help="The table's name.")]
ZooFile = Annotated[
    Path | None, Parameter(name="--zoo", help="A TOML file of schemes, profiles and mixes beside fanfold's own.")
]
_WINDOWS = (10, 30)


@app.command
def sizes(
    scheme: Annotated[
        list[str] | None, Parameter(help="Signature schemes; by default all that are not broken.")
    ] = None,
    /,
    *,
    profile: Annotated[
        str, Parameter(help="Which signatures a handshake has: 2021, 2026, suppressed, mtc-landmark, ...")
    ] = "2026",
    mix: Annotated[
        list[str] | None,
        Parameter(negative="", help="Several schemes: a name, or handshake=ML-DSA-44,leaf=Falcon-512,..."),
    ] = None,
    link: Annotated[str, Parameter(help="A link for the times, such as rtt=50ms,down=20Mbit.")] = "",
    initcwnd: Windows = None,
    slots: Annotated[bool, Parameter(negative="", help="Show each slot, and whose key is sent for it.")] = False,
    base: Annotated[
        int | None,
        Parameter(help="Bytes of the first flight that are neither signatures nor keys; by default as measured here."),
    ] = None,
    zoo: ZooFile = None,
    json: Json = False,
) -> int:
    """Count the bytes of signatures and keys in a handshake, and compute what they cost on a link.

    For example: `fanfold tls sizes ML-DSA-44 --link rtt=50ms,down=20Mbit`
    """
    counted = counting.sizes(
        scheme or (),
        profile=profile,
        mix=mix or (),
        link=link,
        initcwnd=initcwnd or _WINDOWS,
        base=base,
        zoo=str(zoo) if zoo else None,
    )
    show.sizes(counted, slots, json)
    return 0


@app.command
def model(
    *,
    link: Link = "",
    over: Annotated[models.Over, Parameter(help="TCP, or QUIC with its limit before the address is proven.")] = "tcp",
    initcwnd: Windows = None,
    curve: Annotated[bool, Parameter(negative="", help="Show the times by size.")] = False,
    walls: Annotated[bool, Parameter(negative="", help="Show where another round trip begins.")] = False,
    like_article: Annotated[
        bool, Parameter(negative="", help="Show the claims of the article of 2021, each beside what is computed here.")
    ] = False,
    base: Base = counting.FIXED,
    json: Json = False,
) -> int:
    """Compute the time of a handshake by its size, and the walls where it takes another round trip.

    For example: `fanfold tls model --link rtt=50ms,down=20Mbit --walls`
    """
    if like_article:
        if link or initcwnd or curve or walls or over != "tcp":
            raise UsageError("--like-article shows claims, which have links of their own. Leave the other flags out.")
        show.claims(json)
        return 0
    if over == "quic" and initcwnd:
        raise UsageError(f"--initcwnd is of TCP; QUIC begins with {models.QUIC_WINDOW} datagrams. Leave it out.")
    found = models.model(link, over=over, initcwnd=initcwnd or _WINDOWS, base=base)
    show.model(found, curve or not walls, walls or not curve, json)
    return 0


@app.command
def report(
    database: Database,
    /,
    *,
    out: Annotated[Path, Parameter(help="The folder to write to.")] = Path("report"),
    article: Annotated[
        bool, Parameter(negative="", help="Add the claims of the article of 2021, each beside what the cells say.")
    ] = False,
    table: Table = "tls",
    json: Json = False,
) -> int:
    """Write curves with their walls, a table and one page on the cells of a table.

    For example: `fanfold tls report db --out report`
    """
    with leaving_nothing(f"The files in {out} may not be complete."):
        rows = reports.report(database, out, table=table, article=article)
    show.reported(rows, out, article, json)
    return 0


app.command(
    "fanfold.tls.probe.cli:probe",
    name="probe",
    help=described(
        "Find how many certificates a TLS client accepts, how many bytes of them, and which signature schemes.",
        "fanfold tls probe -- curl -sS --cacert {ca} {url}",
    ),
)
