"""Made-up handshakes with known answers: the synthetic sets of the specification, from a seed."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

COLUMNS = ("key", "role", "n", "ip", "handshake_ms")
MAX_N = 59


def write_csv(file: Path, rows: Iterable[Iterable[Any]], header: Iterable[str] = COLUMNS) -> Path:
    """Rows as CSV; None is an empty field."""
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def write_parquet(file: Path, columns: Mapping[str, Any]) -> Path:
    """Columns as Parquet."""
    parquet.write_table(pa.table(dict(columns)), file)
    return file


def addresses(clients: int) -> Any:
    """An address for each client, each in a /24 of its own."""
    return np.array([f"10.{client >> 8 & 255}.{client & 255}.{client % 250 + 1}" for client in range(clients)])


def experiment(
    seed: int,
    *,
    clients: int,
    pairs: int,
    limits: Mapping[int, float] = {},
    lost: float = 0.024,
    max_n: int = MAX_N,
) -> dict[str, Any]:
    """Columns of an experiment: clients with many pairs, of which some shares cannot do more than `limit`.

    :param limits: the share of the clients by the n above which they lose every live connection.
    :param lost: the share of live connections that are lost at random.
    """
    random = np.random.default_rng(seed)
    client = np.repeat(np.arange(clients), pairs)
    limit = np.full(clients, max_n + 1)
    chosen = random.permutation(clients)
    begin = 0
    for most, share in limits.items():
        count = round(share * clients)
        limit[chosen[begin : begin + count]] = most
        begin += count
    n = random.integers(1, max_n + 1, len(client))
    gone = (n > limit[client]) | (random.random(len(client)) < lost)
    control = random.lognormal(3.5, 0.5, len(client))
    live = control * (1 + n / 50) * random.lognormal(0, 0.1, len(client))
    keys = np.arange(len(client)) + seed * 10_000_000
    ip = addresses(clients)[client]
    kept = ~gone
    return {
        "key": np.concatenate([keys, keys[kept]]),
        "role": np.repeat(["control", "live"], [len(keys), kept.sum()]),
        "n": np.concatenate([n, n[kept]]),
        "ip": np.concatenate([ip, ip[kept]]),
        "handshake_ms": np.concatenate([control, live[kept]]),
    }
