"""Makes records of rows: addresses are cut to prefixes at once, and rows that say nothing are dropped and counted."""

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fanfold.errors import UsageError
from fanfold.tls import prefix
from fanfold.tls.analysis.columns import ADDRESS, UNPARSABLE
from fanfold.tls.analysis.spill import Records

RECORD = np.dtype([("key", "<i8"), ("prefix", "<u8"), ("ms", "<f8"), ("n", "<i2"), ("role", "i1")])
"""A connection that came. `ms` is NaN if its time is of no use, `n` is 0 if it is not known, and so is `prefix`. `key`
is a hash of 64 bits: of ten million pairs, two collide once in a hundred thousand analyses."""
CONTROL, LIVE, ISSUED = 0, 1, 2
ROLES = ("control", "live", "issued")
UNKNOWN_ROLE = "role is neither control nor live"
OUT_OF_RANGE = "n is out of range"
BAD_TIME = "time is not above 0 and up to 60 s"
TWICE = "key came twice in one role"
_LONGEST = 60_000.0  # ms
_V4, _V6 = 1 << 62, 1 << 63
_NUMBER = r"^\s*-?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,2})?\s*$"
Prefixes = np.ndarray[Any, np.dtype[np.uint64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Cleaner:
    """Makes records of batches, and keeps count."""

    max_n: int
    dropped: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    """All rows that were read, without those of the role `issued`."""
    windows: Counter[float] = field(default_factory=Counter)
    """Connections by initial window, in segments."""
    flights: Counter[float] = field(default_factory=Counter)
    """Controls by bytes of the server's first flight."""

    def records(self, batch: pa.RecordBatch) -> Records:
        """The connections of a batch. A row that is dropped for its time, say, still shows that a connection came."""
        columns = {name: batch.column(name) for name in batch.schema.names}
        keys, has_key = _keys(columns["key"])
        role = _roles(columns["role"])
        n, ms = numbers(columns, "n"), numbers(columns, "handshake_ms")
        network = prefixes(next(columns[name] for name in ADDRESS if name in columns))
        is_issued = role == ISSUED
        parsed = has_key & ((np.isfinite(ms) & (network > 0)) | is_issued) & (np.isfinite(n) | (role != LIVE))
        in_range = (n >= 1) & (n <= self.max_n) & (n == np.floor(n))  # False for NaN
        reasons = {  # the first one that holds
            UNPARSABLE: ~parsed,
            UNKNOWN_ROLE: role < 0,
            OUT_OF_RANGE: ~in_range & (role == LIVE),
            BAD_TIME: ~((ms > 0) & (ms <= _LONGEST)) & ~is_issued,
        }
        is_dropped = np.zeros(len(role), bool)
        for reason, holds in reasons.items():
            self.dropped[reason] += int((holds & ~is_dropped).sum())
            is_dropped |= holds
        self.rows += int((~is_issued).sum())
        self._look(columns, role, ~is_dropped)
        came = has_key & (role >= 0)
        made: Records = np.zeros(len(role), RECORD)
        made["key"], made["role"], made["prefix"] = keys, role, network
        made["n"] = np.where(in_range, n, 0)
        made["ms"] = np.where(is_dropped, np.nan, ms)
        records: Records = made[came]
        return records

    def _look(self, columns: Mapping[str, Any], role: Any, kept: Any) -> None:
        """Count initial windows and first flights, where they are known."""
        for name, seen, chosen in (
            ("initcwnd", self.windows, kept),
            ("first_flight_bytes", self.flights, kept & (role == CONTROL)),
        ):
            if name in columns:
                values = numbers(columns, name)[chosen]
                some = values[(values > 0) & (values < 1e7)]
                found, counts = np.unique(np.floor(some), return_counts=True)
                seen.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def numbers(columns: Mapping[str, Any], name: str) -> Floats:
    """A column as floats; NaN for what is not a number. Raises UsageError for a column of another type."""
    column = _plain(columns[name])
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, pa.scalar(None, kind))
        column = pc.ascii_trim_whitespace(column)
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise UsageError(f"The column {name} has the type {kind}. It must have numbers.")
    floats: Floats = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return floats


def prefixes(column: Any) -> Prefixes:
    """The prefix of each address: see `cut`."""
    encoded = _plain(column).cast(pa.string()).dictionary_encode()
    each: Prefixes = np.array([0, *map(cut, encoded.dictionary.cast(pa.binary()).to_pylist())], np.uint64)
    at = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found: Prefixes = each[at + 1]
    return found


def cut(text: bytes) -> int:
    """The network of an address as a number: see `fanfold.tls.prefix.cut`; 0 if it is not an address.

    A length behind the address, as in `192.0.2.0/24`, is left out.
    """
    address, slash, length = text.partition(b"/")
    if slash and not length.isdigit():
        return 0
    try:
        spelled = address.decode("ascii").strip()
        family = socket.AF_INET6 if ":" in spelled else socket.AF_INET
        kept = prefix.cut(socket.inet_pton(family, spelled.partition("%")[0] if ":" in spelled else spelled))
    except (OSError, ValueError):  # ValueError: bytes that are not ASCII, or a NUL
        return 0
    return (_V4 if len(kept) == 3 else _V6) | int.from_bytes(kept.ljust(6, b"\0"))


def _plain(column: Any) -> Any:
    """A column as an array without a dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _keys(column: Any) -> tuple[Any, Any]:
    """A hash of each key, and whether there is a key."""
    texts = _plain(column).cast(pa.string()).cast(pa.binary()).to_pylist()
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
    return hashes, np.fromiter(map(bool, texts), bool, len(texts))


def _roles(column: Any) -> Any:
    """The number of each role, in upper or lower case; -1 for one that is not known."""
    texts = pc.ascii_lower(pc.ascii_trim_whitespace(_plain(column).cast(pa.string())))
    return pc.index_in(texts, pa.array(ROLES)).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int8)
