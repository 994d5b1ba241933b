"""What post-quantum signatures cost a TLS handshake: a grid of cells is measured, and shown as a table and as a page.

python examples/tls.py [GRID.toml] [DATABASE]

The handshakes are real ones, over an emulated link. A system that does not allow that gets a simulation, and a note.
"""

import sys
from pathlib import Path

import fanfold
from fanfold.errors import UsageError
from fanfold.tls import Tls
from fanfold.tls.api import report
from fanfold.tls.lab import check

OURS = Path(__file__).with_name("first.grid.toml")
AXES = ("rtt_ms", "down_mbit", "initcwnd")


def slowdowns(rows: list[dict[str, object]]) -> dict[tuple[object, ...], dict[str, float]]:
    """How much longer a handshake takes than with ECDSA: by its link, then by its scheme and profile."""
    found: dict[tuple[object, ...], dict[str, float]] = {}
    for row in rows:
        link = tuple(row[axis] for axis in AXES)
        found.setdefault(link, {})[f"{row['scheme']}:{row['profile']}"] = row["slowdown_p50"]
    return found


def measured(grid: str, database: str) -> str:
    """Do the cells of a grid. Returns the database, which is another one if they had to be simulated."""
    try:
        check()
        job = Tls()
    except UsageError as error:
        print(f"{error}\nHere, they are simulated instead.", file=sys.stderr)
        job, database = Tls(backend="simulate"), f"{database}-simulated"
    for outcome in fanfold.run(job, source=grid, database=database):
        print(f"task {outcome.task}: {outcome.ok} cells done", file=sys.stderr)
    return database


def main(grid: str = str(OURS), database: str = "demo/tls") -> None:
    """Do the grid, show it, and write its report beside the database."""
    database = measured(grid, database)
    folder = Path(f"{database}-report")
    found = slowdowns(report(database, folder))
    names = [*next(iter(found.values()))]
    print(f"{'longer than with ECDSA':32}", *(f"{name:>18}" for name in names))
    for (rtt, down, window), slower in found.items():
        link = f"{rtt:g} ms, {down:g} Mbit/s, window of {window}"
        print(f"{link:32}", *(f"{slower[name]:>+18.0%}" for name in names))
    print(f"The report as a page: {folder / 'index.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
