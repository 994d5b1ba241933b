"""Real handshakes over emulated links, compared with the simulation.

    .venv/bin/python benches/tls.py [--reps 7]        eight minutes; as root, other work of the machine matters less

The walls: a flight that fills the initial window to the byte, and one with a byte more, which takes a round trip more.
The times: the cells of tests/tls/steps.csv, measured again. How far the simulation is off is what remains after the
difference in the control, which is CPU time, is subtracted.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import measure
import results

import fanfold
from fanfold.tls import Tls
from fanfold.tls.cells import Cell
from fanfold.tls.flights import predicted
from fanfold.tls.lab import Lab
from fanfold.tls.simulate import handshake, walls
from fanfold.tls.zoo import load

STEPS = measure.ROOT / "tests" / "tls" / "steps.csv"
LINK = ("rtt_ms", "down_mbit", "initcwnd")
HANDSHAKES = 400
"""Of the test of speed."""
WINDOWS = [(10, 1448), (10, 1200), (30, 1448), (30, 1200)]
"""Initial windows in segments, and bytes of a segment."""
LARGEST = 100_000
"""Bytes of a flight: OpenSSL's clients take 102,400 of certificates."""
RTT = 100  # ms
STEP = 0.85, 1.5
"""Round trips that a wall takes, at least and at most."""


def grid(reps: int) -> str:
    """The cells, as a grid."""
    lines = [f'[fixed]\nreps = {reps}\nkex = "x25519"']
    for row in csv.DictReader(STEPS.open()):
        count, size = row["dummy_certs"], row["dummy_bytes"]
        chain = f"ed25519+{count}x{size}" if count != "0" else "ed25519"
        asked = [f"{name} = {row[name]}" for name in LINK]
        lines.append("\n".join(["[[cells]]", *asked, f'chain = "{chain}"']))
    return "\n".join(lines)


def around_walls() -> Iterator[Cell]:
    """Cells whose flights fill what the window lets out, and cells with a byte more."""
    for window, mss in WINDOWS:
        plain = Cell(RTT, 100, window, "ed25519", reps=5, mss=mss)
        for wall in walls(plain.network, 2):
            yield from (with_flight(plain, flight) for flight in (wall, wall + 1) if flight < LARGEST)


def with_flight(cell: Cell, flight: int) -> Cell:
    """The cell with a certificate more, so that its first flight has so many bytes."""
    zoo = load()
    sizes = range(flight - 2500, flight - 1900)  # a plain flight has 1,999 bytes
    return next(made for size in sizes if predicted(made := replace(cell, chain=f"ed25519+1x{size}"), zoo)[0] == flight)


def steps() -> list[list[object]]:
    """For each wall, the times at it and a byte above it."""
    lab, lines = Lab(None), []
    cells = [*around_walls()]
    for within, beyond in zip(cells[::2], cells[1::2], strict=True):
        facts = lab.measure([within.key, beyond.key])
        flights = [one["first_flight_bytes"] for one in facts]
        live = [min(one["live_ms"]) for one in facts]  # other work of the machine only adds to a time
        computed = [handshake(flight, within.network) * 1000 for flight in flights]
        trips = (live[1] - live[0]) / RTT
        exact = flights[1] == flights[0] + 1 and STEP[0] <= trips <= STEP[1]
        times = (f"{at:.1f}, {above:.1f}" for at, above in (computed, live))
        wall = f"window of {within.initcwnd}, segments of {within.mss:,} B"
        lines.append([wall, f"{flights[0]:,}", *times, f"{trips:.2f}", "yes" if exact else "NO"])
    lab.close()
    return lines


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


def compared(rows: Sequence[dict[str, Any]]) -> tuple[list[list[object]], list[float]]:
    """A line for each link: how far the simulation is off; and that for each cell."""
    links: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        links.setdefault(tuple(row[name] for name in LINK), []).append(row)
    lines, every = [], []
    for (rtt, down, window), some in sorted(links.items()):
        off = differences(some)
        again = sum(row["retransmitted"] for row in some)
        lines.append([f"{rtt:g} ms, {down:g} Mbit/s, window of {window}", len(some), f"{mean(off):.1%}",
                      f"{max(off):.1%}", again])  # fmt: skip
        every += off
    return lines, every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=7, help="handshakes of each cell, and as many of its control")
    args = parser.parse_args()
    busy = measure.idle()
    found = steps()
    rows, seconds = measured(args.reps)
    lines, off = compared(rows)
    exact = sum(line[-1] == "yes" for line in found)
    wrong = sum(row["first_flight_bytes"] != row["predicted_flight_bytes"] for row in rows)
    says = (
        f"Real handshakes over emulated links, beside their simulation: {mean(off):.1%} apart in the mean of "
        f"{len(rows)} cells, {max(off):.1%} at most; {exact} of {len(found)} walls, where another round trip begins, "
        f"are where they are computed, to the byte; {len(rows) - wrong} of {len(rows)} first flights have the computed "
        "bytes."
    )
    walls_table = results.markdown(
        ["wall", "B", "simulated at it and a byte above, ms", "measured, ms", "round trips more", "exact"], found
    )
    table = results.markdown(["link", "cells", "simulation is off, mean", "at most", "segments sent again"], lines)
    facts = [
        ("takes, beside an ideal machine", f"{seconds / ideal(rows):.2f}x"),
        ("ms that a control takes beyond the simulation", f"{median(_beyond(rows)):.1f}"),
        *speeds(),
    ]
    beside = results.markdown(["beside", ""], facts)
    print(results.record("tls", says, f"{walls_table}\n\n{table}\n\n{beside}", busy))


def _beyond(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["live_p50_ms"] - row["simulated_ms"] for row in rows if not row["dummies"]]


if __name__ == "__main__":
    main()
