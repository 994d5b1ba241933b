"""What post-quantum signatures cost a TLS handshake: a grid of cells is done, and shown as a table and as a page.

python examples/tls.py [GRID.toml] [DATABASE]
"""

import sys
from pathlib import Path

import fanfold
from fanfold.tls import Tls
from fanfold.tls.report.write import report

OURS = Path(__file__).with_name("first.grid.toml")
AXES = ("rtt_ms", "down_mbit", "initcwnd")


def slowdowns(rows: list[dict[str, object]]) -> dict[tuple[object, ...], dict[str, float]]:
    """How much longer a handshake takes than with ECDSA: by its link, then by its scheme and profile."""
    found: dict[tuple[object, ...], dict[str, float]] = {}
    for row in rows:
        link = tuple(row[axis] for axis in AXES)
        found.setdefault(link, {})[f"{row['scheme']}:{row['profile']}"] = row["slowdown_p50"]
    return found


def main(grid: str = str(OURS), database: str = "demo/tls") -> None:
    """Do the grid, show it, and write its report beside the database."""
    for outcome in fanfold.run(Tls(), source=grid, database=database):
        print(f"task {outcome.task}: {outcome.ok} cells done", file=sys.stderr)
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
