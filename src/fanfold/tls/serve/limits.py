"""What a client may take: handshakes a minute, time, and bytes.

What a server sends to a client that sends little (60 kB for a hello of 2 kB) is sent to an address that has answered
over TCP, so it cannot be aimed at others.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

_MOST_PREFIXES = 100_000
"""That are remembered at a time."""


@dataclass(frozen=True)
class Limits:
    """The limits of a server."""

    per_minute: int = 60
    """Connections from a prefix; 0 for any number."""
    burst: int = 20
    """Connections from a prefix at once."""
    connections: int = 512
    """At a time."""
    handshake_s: float = 20.0
    """From the connection to the end of its handshake."""
    handshake_bytes: int = 64 << 10
    """From the client, before its handshake is done."""
    request_s: float = 10.0
    """From the end of the handshake to a request, or from one to the next."""
    head_bytes: int = 8 << 10
    """Of a request."""
    requests: int = 20
    """In one connection to the page."""


class Rates:
    """How many connections each prefix may still make: a bucket that is filled again by and by."""

    def __init__(self, limits: Limits) -> None:
        self._per_second, self._burst = limits.per_minute / 60, limits.burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, prefix: str, now: float) -> bool:
        """Whether a prefix may make a connection at second `now` of a monotonic clock."""
        if not self._per_second:
            return True
        with self._lock:
            left, since = self._buckets.pop(prefix, (float(self._burst), now))
            left = min(self._burst, left + (now - since) * self._per_second)
            self._buckets[prefix] = (left - 1 if left >= 1 else left, now)
            self._forget(now)
        return left >= 1

    def _forget(self, now: float) -> None:
        """Leave out buckets that are full again; the oldest are first."""
        while self._buckets:
            left, since = next(iter(self._buckets.values()))
            if left + (now - since) * self._per_second < self._burst and len(self._buckets) <= _MOST_PREFIXES:
                return
            self._buckets.popitem(last=False)
