"""Real handshakes over emulated links, compared with the simulation: the cells of tests/tls/steps.csv, measured again.

    .venv/bin/python benches/tls.py [--reps 7]        seven minutes; as root, other work of the machine matters less

How far the simulation is off is what remains after the difference in the control, which is CPU time, is subtracted.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import measure
import results

import fanfold
from fanfold.tls import Tls
from fanfold.tls.lab import Lab

STEPS = measure.ROOT / "tests" / "tls" / "steps.csv"
LINK = ("rtt_ms", "down_mbit", "initcwnd")
HANDSHAKES = 400
"""Of the test of speed."""


def grid(reps: int) -> str:
    """The cells, as a grid."""
    lines = [f'[fixed]\nreps = {reps}\nkex = "x25519"']
    for row in csv.DictReader(STEPS.open()):
        count, size = row["dummy_certs"], row["dummy_bytes"]
        chain = f"ed25519+{count}x{size}" if count != "0" else "ed25519"
        asked = [f"{name} = {row[name]}" for name in LINK]
        lines.append("\n".join(["[[cells]]", *asked, f'chain = "{chain}"']))
    return "\n".join(lines)


def measured(reps: int) -> tuple[list[dict[str, Any]], float]:
    """The rows of the cells, and the seconds that they took."""
    with tempfile.TemporaryDirectory() as name:
        file, database = Path(name, "steps.grid.toml"), str(Path(name, "db"))
        file.write_text(grid(reps))
        started = time.perf_counter()
        for _ in fanfold.run(Tls(), source=str(file), database=database, task_size=100):
            pass
        seconds = time.perf_counter() - started
        return fanfold.open_table(database, "tls").to_table().to_pylist(), seconds


def differences(rows: Sequence[dict[str, Any]]) -> list[float]:
    """How far the simulation is off, as a fraction, for each cell of a link."""
    control = next(row for row in rows if not row["dummies"])
    usual = control["live_p50_ms"] - control["simulated_ms"]
    return [abs(row["live_p50_ms"] - usual - row["simulated_ms"]) / row["simulated_ms"] for row in rows]


def ideal(rows: Sequence[dict[str, Any]]) -> float:
    """The seconds of all handshakes on an ideal machine; connecting and the hello take one and a half round trips."""
    usual = [row["simulated_ms"] / (1 + row["simulated_slowdown"]) for row in rows]
    each = [row["simulated_ms"] + other + 3 * row["rtt_ms"] for row, other in zip(rows, usual, strict=True)]
    return sum(row["reps"] * ms for row, ms in zip(rows, each, strict=True)) / 1000


def speeds() -> list[tuple[str, str]]:
    """Handshakes per second where the network takes no time, by chain."""
    found, lab = [], Lab(None)
    for chain in ("ed25519", "ecdsa-p256:2021", "ml-dsa-44:2021", "ml-dsa-65:2021"):
        key = f"rtt_ms=0.1,down_mbit=1000,initcwnd=10,chain={chain},reps={HANDSHAKES // 2}"
        started = time.perf_counter()
        lab.measure([key])
        found.append((f"handshakes/s, {chain}", f"{HANDSHAKES / (time.perf_counter() - started):,.0f}"))
    lab.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=7, help="handshakes of each cell, and as many of its control")
    args = parser.parse_args()
    busy = measure.idle()
    rows, seconds = measured(args.reps)
    links: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        links.setdefault(tuple(row[name] for name in LINK), []).append(row)
    lines = []
    for (rtt, down, window), some in sorted(links.items()):
        off = differences(some)
        again = sum(row["retransmitted"] for row in some)
        lines.append([f"{rtt:g} ms, {down:g} Mbit/s, window of {window}", len(some), f"{mean(off):.1%}",
                      f"{max(off):.1%}", again])  # fmt: skip
    off = [one for some in links.values() for one in differences(some)]
    again = sum(row["retransmitted"] for row in rows)
    lines.append(["all", len(rows), f"{mean(off):.1%}", f"{max(off):.1%}", again])
    table = results.markdown(["link", "cells", "simulation is off, mean", "at most", "segments sent again"], lines)
    wrong = sum(row["first_flight_bytes"] != row["predicted_flight_bytes"] for row in rows)
    facts = [
        ("flights that are not as predicted, to the byte", str(wrong)),
        ("takes, beside an ideal machine", f"{seconds / ideal(rows):.2f}x"),
        ("ms that a control takes beyond the simulation", f"{median(_beyond(links.values())):.1f}"),
        *speeds(),
    ]
    print(results.record("tls", table, results.markdown(["beside", ""], facts), busy))


def _beyond(links: Any) -> list[float]:
    controls = [next(row for row in rows if not row["dummies"]) for rows in links]
    return [row["live_p50_ms"] - row["simulated_ms"] for row in controls]


if __name__ == "__main__":
    main()
