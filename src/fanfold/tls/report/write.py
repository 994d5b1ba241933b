"""Writes the report on a table of cells to a folder: plots, a table and a page."""

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from fanfold.errors import StorageError
from fanfold.tls import pages
from fanfold.tls.article import claims
from fanfold.tls.report.rows import COLUMNS, Row, name_of, panels, rows_of

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


def report(database: str, folder: Path, *, table: str = "tls", article: bool = False) -> list[Row]:
    """Write plots (SVG and PNG), `table.csv` and `index.html` on the cells of a table. Returns their rows.

    Args:
        database: Where the table is.
        folder: Where to write; made if it is not there.
        table: Its name.
        article: Add the claims of the article of 2021, each beside what is computed.

    Raises:
        UsageError: The table is not there, is of another job, or is empty.
        StorageError: The folder cannot be written to.
        MissingExtra: matplotlib is not installed.
    """
    rows = rows_of(database, table)
    pages.made(folder)
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
    made = {"curves": draw.curves(found), "walls": draw.round_trips(found)}
    if some := [row for row in rows if row["profile"]]:
        made["schemes"] = draw.schemes(some)
    return plots.inline({name: plots.save(figure, folder, name, _SAYS[name]) for name, figure in made.items()})


def _write_csv(rows: Sequence[Row], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [name for name in COLUMNS if name in rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def _page(rows: Sequence[Row], drawn: Mapping[str, str], article: bool) -> str:
    how = ", ".join(sorted({_how(row) for row in rows}))
    links = len([*panels(rows)])
    intro = f"<p>{len(rows):,} cells on {links} link{'s' * (links > 1)}: {escape(how)}.</p>"
    judged = "".join(
        f"<dt>{escape(claim.says)}</dt><dd>{claim.verdict}: {escape(claim.ours)}</dd>" for claim in claims()
    )
    said = f"<h2>The claims of the article</h2><dl>{judged}</dl>" if article else ""
    numbers = pages.table(_HEADS, [_line(row) for row in rows])
    content = f"{intro}{pages.figures(drawn, _SAYS)}{said}<h2>The numbers</h2>{numbers}"
    return pages.page("Signatures and TLS handshakes", content, _FOOTER)


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
        f"{row['slowdown_p50']:+.0%}",
        "" if trips is None else f"{trips}",
    )
