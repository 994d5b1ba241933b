"""The rows of cells that a report shows, by their links."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

import fanfold
from fanfold.errors import UsageError
from fanfold.tls.cells import Chain
from fanfold.tls.network import Network
from fanfold.tls.simulate import handshake

COLUMNS = (
    "key", "backend", "rtt_ms", "down_mbit", "up_mbit", "loss", "queue_kb", "initcwnd", "mss", "cc", "tls", "kex",
    "scheme", "profile", "dummies", "dummy_bytes", "reps", "crypto_bytes", "first_flight_bytes", "control_flight_bytes",
    "live_p50_ms", "live_p75_ms", "control_p50_ms", "slowdown_p50", "slowdown_p75", "simulated_ms",
    "extra_round_trips", "host", "kernel", "at",
)  # fmt: skip
"""The columns of a row that a report needs."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """The cells of one link with one initial window."""

    initcwnd: int
    mss: int
    rows: tuple[Row, ...]
    """By the bytes of their first flights."""

    @property
    def network(self) -> Network:
        """What is between client and server."""
        return link_of(self.rows[0])

    @property
    def offset(self) -> float:
        """Milliseconds that a control takes beyond its simulation: computation, and what the machine adds."""
        return fmean(
            row["control_p50_ms"] - 1000 * handshake(row["control_flight_bytes"], self.network) for row in self.rows
        )


@dataclass(frozen=True)
class Panel:
    """The lines of one link."""

    title: str
    lines: tuple[Line, ...]


def rows_of(database: str, table: str) -> list[Row]:
    """All cells of a table, by their links. Raises UsageError for a table of another job, or an empty one."""
    opened = fanfold.open_table(database, table)
    if not {"first_flight_bytes", "slowdown_p50"} <= set(opened.schema.names):
        raise UsageError(f"The table '{table}' in {database} was not made by the job 'tls'.")
    rows = opened.to_table(columns=[name for name in COLUMNS if name in opened.schema.names]).to_pylist()
    if not rows:
        raise UsageError(f"The table '{table}' in {database} is empty. To fill it: fanfold tls measure GRID {database}")
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[Any, ...]:
    return _link(row), row["initcwnd"], row["mss"], row["first_flight_bytes"]


def _link(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("rtt_ms", "down_mbit", "up_mbit", "loss", "queue_kb", "cc"))


def panels(rows: Sequence[Row]) -> Iterator[Panel]:
    """The links, each with a line for each initial window."""
    for link, some in groupby(rows, _link):
        lines = [Line(*of, tuple(same)) for of, same in groupby(some, lambda row: (row["initcwnd"], row["mss"]))]
        yield Panel(_title(*link), tuple(lines))


def _title(rtt: float, down: float, up: float, loss: float, queue: float, cc: str) -> str:
    """20 ms, 10 Mbit/s, and what else is not as usual."""
    more = [
        f"{up:g} Mbit/s up" if up else "",
        f"{loss:.1%} lost" if loss else "",
        f"queue of {queue:g} kB" if queue else "",
    ]
    return ", ".join(filter(None, (f"{rtt:g} ms", f"{down:g} Mbit/s", *more, cc if cc != "cubic" else "")))


def link_of(row: Row) -> Network:
    """The link of a cell, to be simulated."""
    rates = {"down": row["down_mbit"] * 1e6, "up": row["up_mbit"] * 1e6}
    return Network(rtt=row["rtt_ms"] / 1000, initcwnd=row["initcwnd"], mss=row["mss"], **rates)


def name_of(row: Row) -> str:
    """The chain of a cell, as grids write it."""
    return str(Chain(row["scheme"], row["profile"] or "", row["dummies"], row["dummy_bytes"]))


def slower(slowdown: float) -> str:
    """A slowdown in percent, with its sign: +12%."""
    return f"{round(slowdown, 2) + 0.0:+.0%}"  # + 0.0: not -0%
