"""Does cells: simulates their handshakes, or has them measured, and answers each with a row."""

import platform
import statistics
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from fanfold.job import Failure, Item, Opener
from fanfold.machine import load_average
from fanfold.tls.cells import Cell, cell_of
from fanfold.tls.flights import crypto, predicted
from fanfold.tls.lab import Lab, stack
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
    pa.field("hello_bytes", pa.int32()),  # of the client's first flight; null where nothing is sent, as are the next
    pa.field("hello_reads", pa.int32()),  # in how many pieces the server got it
    pa.field("first_flight_bytes", pa.int64()),  # of the server; predicted, where nothing is sent
    pa.field("predicted_flight_bytes", pa.int64()),
    pa.field("control_flight_bytes", pa.int64()),
    pa.field("crypto_bytes", pa.int64()),  # of signatures and keys, as the zoo counts them
    pa.field("staple_bytes", pa.int64()),  # of the OCSP response that the client got
    pa.field("unverified", pa.string()),  # slots whose bytes are there, but that nobody can verify; null for none
    pa.field("live_ms", pa.list_(pa.float32())),  # as the server sees it: first byte of the hello to the client's end
    pa.field("control_ms", pa.list_(pa.float32())),
    pa.field("client_ms", pa.list_(pa.float32())),  # as the client sees it: connected to the handshake's end
    pa.field("connect_ms", pa.list_(pa.float32())),
    pa.field("server_cpu_ms", pa.list_(pa.float32())),  # in OpenSSL
    pa.field("client_cpu_ms", pa.list_(pa.float32())),
    pa.field("live_p50_ms", pa.float32()),
    pa.field("live_p75_ms", pa.float32()),
    pa.field("control_p50_ms", pa.float32()),
    pa.field("control_p75_ms", pa.float32()),
    pa.field("slowdown_p50", pa.float32()),  # 0.02 for 2 % more than the control
    pa.field("slowdown_p75", pa.float32()),
    pa.field("simulated_ms", pa.float32()),
    pa.field("simulated_slowdown", pa.float32()),
    pa.field("extra_round_trips", pa.int32()),  # null below 20 ms of round trip: noise would decide
    pa.field("thrown_away", pa.int32()),  # handshakes before the first one that counts
    pa.field("retransmitted", pa.int32()),  # segments of the server, in all of the handshakes
    pa.field("initcwnd_seen", pa.int32()),  # what the server's TCP says when a connection is accepted
    pa.field("mss_seen", pa.int32()),
    pa.field("server", pa.string()),
    pa.field("client", pa.string()),
    pa.field("host", pa.string()),
    pa.field("kernel", pa.string()),
    pa.field("load", pa.float32()),  # average of a minute, when the cell was done
    pa.field("at", pa.timestamp("s", "UTC")),
]
"""The columns of a cell, after its key and its version."""
_SHORTEST_RTT_MS = 20

Row = dict[str, Any]


class Simulating:
    """Computes cells."""

    def __init__(self, schema: pa.Schema, zoo: Zoo) -> None:
        self.rows, self.zoo = Rows(schema, "simulate", zoo), zoo
        self.seconds = {"simulate": 0.0}

    def __call__(
        self,
        items: Iterable[Item],
        source: Opener,  # noqa: ARG002 - cells have no content to read
    ) -> Iterator[pa.RecordBatch]:
        for item in items:
            started = time.perf_counter()
            cell = cell_of(item.key)
            row = self.rows.of(item, cell, simulated(cell, self.zoo))
            self.seconds["simulate"] += time.perf_counter() - started
            yield row


class Emulating:
    """Measures cells over emulated links, those of one link together."""

    def __init__(self, schema: pa.Schema, zoo: Zoo, zoo_file: str | None) -> None:
        """Raises UsageError where links cannot be emulated."""
        self.stack = stack()
        self.rows, self.zoo, self.zoo_file = Rows(schema, "emulate", zoo), zoo, zoo_file
        self.seconds = {"measure": 0.0}
        self.labs: dict[str, Lab] = {}
        self._lab(Cell.kex)

    def __call__(
        self,
        items: Iterable[Item],
        source: Opener,  # noqa: ARG002
    ) -> Iterator[pa.RecordBatch | Failure]:
        together: dict[tuple[Any, ...], list[Item]] = {}
        for item in items:
            cell = cell_of(item.key)
            together.setdefault((cell.kex, cell.seed, *cell.link), []).append(item)
        for (kex, *_), some in together.items():
            started = time.perf_counter()
            for item, answer in self._measured(kex, some):
                self.seconds["measure"] += time.perf_counter() - started
                yield answer if isinstance(answer, Failure) else self.rows.of(item, cell_of(item.key), answer)
                started = time.perf_counter()

    def _measured(self, kex: str, items: list[Item]) -> Iterator[tuple[Item, Row | Failure]]:
        """Each item with what came of it."""
        waiting = {item.key: item for item in items}
        for facts in self._lab(kex).measure([*waiting]):
            item = waiting.pop(facts.pop("key"))
            if "stage" in facts:
                yield item, Failure(item.key, item.version, **facts)
            else:
                yield item, self._row(cell_of(item.key), facts)

    def _row(self, cell: Cell, facts: Row) -> Row:
        """The facts of a cell with what follows from them, and what is computed beside."""
        row = facts | timed(facts["live_ms"], facts["control_ms"])
        sizes = row["first_flight_bytes"], row["control_flight_bytes"]
        network = cell.network
        computed = [handshake(size, network) for size in sizes]
        more = extra_round_trips(row["live_p50_ms"] / 1000, sizes[0], row["control_p50_ms"] / 1000, sizes[1], network)
        return row | {
            "predicted_flight_bytes": predicted(cell, self.zoo)[0],
            "simulated_ms": computed[0] * 1000,
            "simulated_slowdown": computed[0] / computed[1] - 1,
            "extra_round_trips": more if cell.rtt_ms >= _SHORTEST_RTT_MS else None,
            "server": self.stack,
            "client": self.stack,
        }

    def _lab(self, kex: str) -> Lab:
        if kex not in self.labs:
            self.labs[kex] = Lab(self.zoo_file, kex)
        return self.labs[kex]


class Rows:
    """Makes rows of what came of cells."""

    def __init__(self, schema: pa.Schema, backend: str, zoo: Zoo) -> None:
        self.schema, self.backend, self.zoo = schema, backend, zoo

    def of(self, item: Item, cell: Cell, facts: Row) -> pa.RecordBatch:
        """The row of a cell."""
        row = {"key": item.key, "version": item.version} | self._asked(cell) | facts | self._here()
        return pa.RecordBatch.from_pylist([row], schema=self.schema)

    def _asked(self, cell: Cell) -> Row:
        """What the cell says."""
        chain = cell.parsed
        names = [field.name for field in FIELDS if hasattr(cell, field.name)]
        values = {name: getattr(cell, name) for name in names}
        more = {"scheme": chain.scheme, "profile": chain.profile or None, "crypto_bytes": crypto(chain, self.zoo)}
        return values | more | {"dummies": chain.dummies, "dummy_bytes": chain.dummy_bytes, "backend": self.backend}

    def _here(self) -> Row:
        """Where and when a cell was done."""
        return self._host | {"load": load_average(), "at": datetime.now(UTC)}

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
