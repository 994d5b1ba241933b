"""Does cells: measures or simulates their handshakes, and answers each with a row."""

import os
import platform
import statistics
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from fanfold.job import Item, Opener
from fanfold.tls.cells import Cell, cell_of
from fanfold.tls.flights import predicted
from fanfold.tls.simulate import extra_round_trips, handshake
from fanfold.tls.zoo import Zoo

FIELDS: "list[pa.Field[Any]]" = [
    pa.field("backend", pa.string(), nullable=False),
    pa.field("rtt_ms", pa.float64()),
    pa.field("down_mbit", pa.float64()),
    pa.field("up_mbit", pa.float64()),
    pa.field("loss", pa.float64()),
    pa.field("queue_kb", pa.float64()),
    pa.field("initcwnd", pa.int32()),
    pa.field("mss", pa.int32()),
    pa.field("cc", pa.string()),
    pa.field("tls", pa.string()),
    pa.field("kex", pa.string()),
    pa.field("scheme", pa.string()),
    pa.field("profile", pa.string()),  # null for a chain without one
    pa.field("dummies", pa.int32()),  # certificates beside the chain
    pa.field("dummy_bytes", pa.int32()),
    pa.field("reps", pa.int32()),
    pa.field("seed", pa.int64()),
    pa.field("first_flight_bytes", pa.int64()),  # of the server; predicted, where nothing is sent
    pa.field("predicted_flight_bytes", pa.int64()),
    pa.field("control_flight_bytes", pa.int64()),
    pa.field("live_ms", pa.list_(pa.float32())),  # as the server sees it: first byte of the hello to the client's end
    pa.field("control_ms", pa.list_(pa.float32())),
    pa.field("live_p50_ms", pa.float32()),
    pa.field("live_p75_ms", pa.float32()),
    pa.field("control_p50_ms", pa.float32()),
    pa.field("control_p75_ms", pa.float32()),
    pa.field("slowdown_p50", pa.float32()),  # 0.02 for 2 % more than the control
    pa.field("slowdown_p75", pa.float32()),
    pa.field("simulated_ms", pa.float32()),
    pa.field("simulated_slowdown", pa.float32()),
    pa.field("extra_round_trips", pa.int32()),  # null below 20 ms of round trip: noise would decide
    pa.field("host", pa.string()),
    pa.field("kernel", pa.string()),
    pa.field("load", pa.float32()),  # average of a minute, when the cell was done
    pa.field("at", pa.timestamp("s", "UTC")),
]
"""The columns of a cell, after its key and its version."""
_SHORTEST_RTT_MS = 20

Row = dict[str, Any]


class Measuring:
    """Measures cells."""

    def __init__(self, schema: pa.Schema, backend: str, zoo: Zoo) -> None:
        self.schema, self.backend, self.zoo = schema, backend, zoo
        self.seconds = {"simulate": 0.0}

    def __call__(
        self,
        items: Iterable[Item],
        source: Opener,  # noqa: ARG002 - cells have no content to read
    ) -> Iterator[pa.RecordBatch]:
        for item in items:
            started = time.perf_counter()
            row = self._row(item, cell_of(item.key))
            self.seconds["simulate"] += time.perf_counter() - started
            yield row

    def _row(self, item: Item, cell: Cell) -> pa.RecordBatch:
        row = {"key": item.key, "version": item.version} | self._asked(cell) | simulated(cell, self.zoo) | self._here()
        return pa.RecordBatch.from_pylist([row], schema=self.schema)

    def _asked(self, cell: Cell) -> Row:
        """What the cell says."""
        chain = cell.parsed
        names = [field.name for field in FIELDS if hasattr(cell, field.name)]
        values = {name: getattr(cell, name) for name in names}
        more = {"scheme": chain.scheme, "profile": chain.profile or None}
        return values | more | {"dummies": chain.dummies, "dummy_bytes": chain.dummy_bytes, "backend": self.backend}

    def _here(self) -> Row:
        """Where and when a cell was done."""
        return self._host | {"load": os.getloadavg()[0], "at": datetime.now(UTC)}

    @cached_property
    def _host(self) -> Row:
        return {"host": platform.node(), "kernel": platform.release()}


def simulated(cell: Cell, zoo: Zoo) -> Row:
    """The row of a cell whose handshake is simulated."""
    live, control = predicted(cell, zoo)
    network = cell.network
    seconds, usual = handshake(live, network), handshake(control, network)
    more = extra_round_trips(seconds, live, usual, control, network)
    found = {"first_flight_bytes": live, "predicted_flight_bytes": live, "control_flight_bytes": control}
    slowdown = seconds / usual - 1
    return (
        found
        | timed([seconds * 1000], [usual * 1000])
        | {
            "simulated_ms": seconds * 1000,
            "simulated_slowdown": slowdown,
            "extra_round_trips": more if cell.rtt_ms >= _SHORTEST_RTT_MS else None,
        }
    )


def timed(live: list[float], control: list[float]) -> Row:
    """The times of a cell's handshakes and of their controls, in ms, and their quantiles."""
    row: Row = {"live_ms": live, "control_ms": control}
    for name, times in (("live", live), ("control", control)):
        row |= {f"{name}_p50_ms": statistics.median(times), f"{name}_p75_ms": _upper_quartile(times)}
    for name in ("p50", "p75"):
        row[f"slowdown_{name}"] = row[f"live_{name}_ms"] / row[f"control_{name}_ms"] - 1
    return row


def _upper_quartile(times: list[float]) -> float:
    return statistics.quantiles(times, n=4, method="inclusive")[2] if len(times) > 1 else times[0]
