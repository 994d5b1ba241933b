"""Writes the report on a table of cells to a folder: plots, a table and a page."""

import csv
import os
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

from fanfold.errors import StorageError
from fanfold.tls import pages
from fanfold.tls.report.claims import judged
from fanfold.tls.report.rows import COLUMNS, Row, name_of, panels, rows_of, slower

_SAYS = {
    "curves": "The time of a handshake by the size of the server's first flight. Points are cells; lines are the "
    "simulation, moved by what the control takes longer than its own; dotted lines are the walls, in kB.",
    "walls": "How many round trips a handshake takes more than its control, once the time to send its bytes is "
    "subtracted, by how often its first flight fills the initial window.",
    "schemes": "How much longer each handshake takes than its control; a point for each link.",
}
_FOOTER = (
    "Time: from the first byte of the client's hello to its Finished, as the server sees it; the median of a cell's "
    "handshakes. The control is the same chain without what was added, or the same profile with ECDSA."
)
_HEADS = ("chain", "link", "window", "first flight", "handshake", "control", "slowdown", "more round trips")


def report(database: str, folder: str | os.PathLike[str], *, table: str = "tls", article: bool = False) -> list[Row]:
    """Write plots (SVG and PNG), `table.csv` and `index.html` on the cells of a table. Returns their rows.

    Args:
        database: Where the table is.
        folder: Where to write; made if it is not there.
        table: Its name.
        article: Add the claims of the article of 2021, each beside what is computed and what the cells say.

    Raises:
        UsageError: The table is not there, is of another job, or is empty.
        StorageError: The folder cannot be written to.
        MissingExtra: matplotlib is not installed.
    """
    rows = rows_of(database, table)
    folder = pages.made(Path(folder))
    try:
        drawn = _drawn(rows, folder)
        _write_csv(rows, folder / "table.csv")
        (folder / "index.html").write_text(_page(rows, drawn, article), "utf-8")
    except OSError as error:
        raise StorageError(f"Cannot write to {folder}: {error.strerror}.") from error
    return rows


def _drawn(rows: Sequence[Row], folder: Path) -> Mapping[str, str]:
    """Write the plots; the SVG of each, for a page."""
    from fanfold.tls import plots  # matplotlib takes a while, and is an extra
    from fanfold.tls.report import draw

    found = [*panels(rows)]
    draws = {"curves": partial(draw.curves, found), "walls": partial(draw.round_trips, found)}
    if some := [row for row in rows if row["profile"]]:
        draws["schemes"] = partial(draw.schemes, some)
    saved = {name: plots.save(make(), folder, name, _SAYS[name]) for name, make in draws.items()}
    for name, make in draws.items():
        saved[name + pages.NARROW] = plots.as_svg(make(width=draw.NARROW), _SAYS[name])
    return plots.inline(saved)


def _write_csv(rows: Sequence[Row], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [name for name in COLUMNS if name in rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def _page(rows: Sequence[Row], drawn: Mapping[str, str], article: bool) -> str:
    how = ", ".join(sorted({_how(row) for row in rows}))
    links = len([*panels(rows)])
    intro = f"<p>{len(rows):,} cells on {links} link{'s' * (links > 1)}: {escape(how)}.</p>"
    said = f"<h2>The claims of the article</h2>{_claims(rows)}" if article else ""
    numbers = pages.table(_HEADS, [_line(row) for row in rows])
    content = f"{intro}{pages.figures(drawn, _SAYS)}{said}<h2>The numbers</h2>{numbers}"
    return pages.page("Signatures and TLS handshakes", content, _FOOTER)


def _claims(rows: Sequence[Row]) -> str:
    """Each claim, with what is computed, and with what the cells say."""
    parts = []
    for one in judged(rows):
        both = (("Computed", one.claim.verdict, one.claim.ours), ("In these cells", one.verdict, one.cells))
        says = "".join(f"<dd>{what}: <b>{verdict}</b>. {escape(text)}</dd>" for what, verdict, text in both)
        parts.append(f"<dt>{escape(one.claim.says)}</dt>{says}")
    return f"<dl>{''.join(parts)}</dl>"


def _how(row: Row) -> str:
    return (
        "simulated"
        if row["backend"] == "simulate"
        else f"measured ({row['backend']}) on {row['host']}, {row['kernel']}"
    )


def _line(row: Row) -> tuple[str, ...]:
    """A row's cells in the table of the page."""
    trips = row["extra_round_trips"]
    return (
        name_of(row),
        f"{row['rtt_ms']:g} ms, {row['down_mbit']:g} Mbit/s",
        f"{row['initcwnd']}",
        f"{row['first_flight_bytes']:,} B",
        f"{row['live_p50_ms']:.1f} ms",
        f"{row['control_p50_ms']:.1f} ms",
        slower(row["slowdown_p50"]),
        "" if trips is None else f"{trips}",
    )
