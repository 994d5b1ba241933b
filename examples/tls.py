"""What post-quantum signatures cost a TLS handshake: a grid of cells is done, and its slowdowns are shown.

python examples/tls.py [GRID.toml] [DATABASE]
"""

import sys
from pathlib import Path

import fanfold
from fanfold.tls import Tls

OURS = Path(__file__).with_name("first.grid.toml")
AXES = ("rtt_ms", "down_mbit", "initcwnd")


def slowdowns(database: str) -> dict[str, dict[tuple[float, ...], float]]:
    """How much longer a handshake takes than with ECDSA: by its scheme and profile, then by its link."""
    found: dict[str, dict[tuple[float, ...], float]] = {}
    rows = fanfold.open_table(database, Tls.name).to_table(columns=["scheme", "profile", "slowdown_p50", *AXES])
    for row in rows.sort_by([(axis, "ascending") for axis in AXES]).to_pylist():
        found.setdefault(f"{row['scheme']}:{row['profile']}", {})[tuple(row[axis] for axis in AXES)] = row[
            "slowdown_p50"
        ]
    return found


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    grid, database = given.get(1, str(OURS)), given.get(2, "demo/tls")
    for outcome in fanfold.run(Tls(), source=grid, database=database):
        print(f"task {outcome.task}: {outcome.ok} cells done")
    found = slowdowns(database)
    links = [*next(iter(found.values()))]
    print(f"{'slowdown':28}", *(f"{name:>18}" for name in found))
    for link in links:
        rtt, down, window = link
        print(f"{f'{rtt:g} ms, {down:g} Mbit/s, iw{window}':28}", *(f"{found[name][link]:>+18.0%}" for name in found))
