"""What the verbs of `tls` show."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fanfold.cli import show
from fanfold.tls.article import claims as article_claims
from fanfold.tls.model import Model
from fanfold.tls.report.claims import judged
from fanfold.tls.report.rows import Row
from fanfold.tls.sizes import BUDGET, Sizes, Timed
from fanfold.tls.sizes import Row as Counted

_STEP = 5000  # bytes from one line of a curve to the next


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def back_end(workers: int, most: int) -> None:
    """How handshakes are made, and whether there are too many workers."""
    count = "1 worker" if workers == 1 else f"{workers} workers"
    show.note(f"Back end: emulate (network namespaces, veth, our relay), with {count}.")
    if workers > most:
        show.note(
            f"{workers} workers on this machine will disturb each other's times: a relay, a server and a client each "
            f"want a core. Use --workers {most}."
        )


def sizes(found: Sizes, slots: bool, as_json: bool) -> None:
    """A line for each handshake, the smallest first; what a planner must know of it below."""
    if as_json:
        show.put_json(_sizes_as_json(found))
        return
    windows = [timed.initcwnd for timed in found.rows[0].times] if found.rows else []
    table = _table(
        "", "signatures + keys", "more", f"≤ {BUDGET // 1000} kB", "first flight", *map("iw{}".format, windows)
    )
    for row in found.rows:
        fits = "yes" if row.fits else "no"
        counts = (f"{row.handshake.size:,} B", f"{row.more:+,}", fits, f"{row.first_flight:,} B")
        table.add_row(Text(show.harmless(row.handshake.name)), *counts, *map(_time, row.times))
        for part in row.handshake.parts if slots else ():
            key = f" and the {part.whose}'s key" if part.keys else ""
            slot = show.harmless(f"  {part.slot}: {part.signatures} x {part.scheme.name}{key}")
            table.add_row(Text(slot), f"{part.size:,} B")
        for name, size in row.handshake.extra.items() if slots else ():
            table.add_row(Text(show.harmless(f"  {name}")), f"{size:,} B")
    show.out.print(table)
    _remarks(found)


def _time(timed: Timed) -> str:
    """51.2 ms +4% 1 RT: the time, the slowdown, and the extra round trips."""
    slower = f"{timed.slowdown:+5.0%}" if abs(timed.slowdown) >= 0.005 else "     "
    trips = f"{timed.extra_round_trips} RT" if timed.extra_round_trips else "    "
    return f"{timed.ms:,.1f} ms {slower} {trips}"


def _remarks(found: Sizes) -> None:
    """What the numbers do not say."""
    remarks = [(row.handshake.name, sentence) for row in found.rows for sentence in row.handshake.warnings()]
    for name, sentence in remarks:
        show.line(sentence if sentence.startswith(name) else f"{name}: {sentence}")
    rooms = ", ".join(
        f"{f'{room:,} B' if room > 0 else 'none'} with a window of {window}" for window, room in found.room.items()
    )
    show.out.print(f"Room for signatures and keys before another round trip: {rooms}.", soft_wrap=True)


def _sizes_as_json(found: Sizes) -> dict[str, Any]:
    return {
        "profile": found.profile,
        "link": asdict(found.network) if found.network else None,
        "room_bytes": found.room,
        "rows": [_row_as_json(row) for row in found.rows],
    }


def _row_as_json(row: Counted) -> dict[str, Any]:
    parts = [
        {"slot": part.slot, "scheme": part.scheme.name, "signatures": part.signatures, "keys": part.keys,
         "bytes": part.size, "key_of": part.whose or None}
        for part in row.handshake.parts
    ]  # fmt: skip
    return {
        "name": row.handshake.name,
        "profile": row.handshake.profile,
        "bytes": row.handshake.size,
        "more_bytes": row.more,
        "fits_9_kb": row.fits,
        "first_flight_bytes": row.first_flight,
        "times": [asdict(timed) for timed in row.times],
        "slots": parts,
        "extra": dict(row.handshake.extra),
        "warnings": row.handshake.warnings(),
    }


def model(found: Model, curve: bool, walls: bool, as_json: bool) -> None:
    """The walls, and the times by size."""
    if as_json:
        show.put_json(asdict(found) | {"curves": [asdict(one) for one in found.curves.values()]})
        return
    if walls:
        show.out.print("Another round trip begins above a first flight of:")
        for window, one in found.curves.items():
            show.out.print(f"  iw{window}: {', '.join(f'{wall:,}' for wall in one.walls)} B")
    if curve:
        table = _table("signatures + keys", "first flight", *(f"iw{window}" for window in found.curves))
        for number, size in enumerate(found.sizes):
            if size % _STEP == 0:
                times = (f"{one.ms[number]:,.1f} ms" for one in found.curves.values())
                table.add_row(f"{size:,} B", f"{found.base + size:,} B", *times)
        show.out.print(table)


def claims(as_json: bool) -> None:
    """The article's claims, each beside what is computed here."""
    found = article_claims()
    if as_json:
        show.put_json({"claims": [asdict(claim) for claim in found]})
        return
    for claim in found:
        show.line(f"{claim.verdict}: {claim.says}")
        show.line(f"  {claim.ours}")


def reported(rows: Sequence[Row], folder: Path, article: bool, as_json: bool) -> None:
    """Where a report is, and what its cells say of the article's claims."""
    found = judged(rows) if article else []
    if as_json:
        claimed = {"claims": [asdict(one) for one in found]} if article else {}
        show.put_json({"cells": len(rows), "folder": str(folder), **claimed})
        return
    for one in found:
        show.line(f"{one.verdict}: {one.claim.says}")
        show.line(f"  {one.cells}")
        show.line(f"  Computed, {one.claim.verdict}: {one.claim.ours}")
    show.line(f"{len(rows):,} cells: {folder / 'index.html'}, table.csv, and each plot as SVG and PNG.")
