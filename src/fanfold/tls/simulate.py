"""A TLS handshake over TCP, simulated: how long a flight of the server takes under slow start.

    server ──segments──▶ queue at `down` bits/s ──half a round trip──▶ client
           ◀──half a round trip── queue at `up` bits/s ◀──acknowledgements──

Linux's rules: the window grows by each segment that is acknowledged; the client acknowledges every segment at first
(`quickack`), later every second one, and a single one after 40 ms. Equal input gives equal output: nothing is random.
"""

import heapq
from dataclasses import dataclass, field

from fanfold.tls.network import HEADERS, Network

FINISHED = 80
"""Bytes that the client sends at the end: its Finished, and what comes with it."""
_DELAYED = 0.04  # s: an acknowledgement waits so long for another segment
_ARRIVAL, _DELAY_ENDS, _ACKNOWLEDGED = range(3)


@dataclass
class Flight:
    """A server's flight under way. Times are in seconds since the server began to send it."""

    network: Network
    size: int
    """Bytes."""
    unproven: int = 0
    """Bytes that may be sent before the client's address is proven, which the first acknowledgement does; 0 for any."""
    sent: int = 0
    """Segments, as are the others."""
    acknowledged: int = 0
    arrived: int = 0
    waiting: int = 0
    """Segments that arrived and are not acknowledged."""
    window: int = field(init=False)
    _free: float = 0.0  # when the link down is free again
    _free_up: float = 0.0
    _events: list[tuple[float, int, int, int]] = field(default_factory=list)  # when, order, kind, segments
    _order: int = 0

    def __post_init__(self) -> None:
        self.window = self.network.initcwnd
        self.segments = -(-self.size // self.network.mss)

    def seconds(self) -> float:
        """When the last byte arrives at the client."""
        self._send(0.0)
        while self._events:
            now, _, kind, count = heapq.heappop(self._events)
            if kind == _ARRIVAL:
                self.arrived += 1
                self.waiting += 1
                if self.arrived == self.segments:
                    return now
                if self.arrived <= self.network.quickack or self.waiting >= 2:
                    self._acknowledge(now)
                else:
                    self._at(now + _DELAYED, _DELAY_ENDS, self.arrived)
            elif kind == _DELAY_ENDS:
                if count == self.arrived and self.waiting:
                    self._acknowledge(now)
            elif count > self.acknowledged:
                self.window += count - self.acknowledged
                self.acknowledged = count
                self._send(now)
        return 0.0  # nothing was to be sent

    def _send(self, now: float) -> None:
        """Send as many segments as the window allows."""
        mss, network = self.network.mss, self.network
        while self.sent < self.segments and self.sent - self.acknowledged < self.window:
            if self.unproven and not self.acknowledged and (self.sent + 1) * mss > self.unproven:
                return
            data = min(mss, self.size - self.sent * mss)
            self._free = max(self._free, now) + (data + HEADERS) * 8 / network.down
            self.sent += 1
            self._at(self._free + network.rtt / 2, _ARRIVAL, self.sent)

    def _acknowledge(self, now: float) -> None:
        self._free_up = max(self._free_up, now) + HEADERS * 8 / self.network.upstream
        self._at(self._free_up + self.network.rtt / 2, _ACKNOWLEDGED, self.arrived)
        self.waiting = 0

    def _at(self, when: float, kind: int, count: int) -> None:
        self._order += 1  # events of the same time stay in order
        heapq.heappush(self._events, (when, self._order, kind, count))


def handshake(size: int, network: Network, unproven: int = 0) -> float:
    """Seconds from the last byte of the client's hello to its Finished, as the server sees it.

    Args:
        size: Bytes of the server's first flight.
        network: What lies in between.
        unproven: See `Flight`.
    """
    flight = Flight(network, size, unproven).seconds()
    return flight + (FINISHED + HEADERS) * 8 / network.upstream + network.rtt / 2 + network.cpu


def walls(network: Network, count: int = 3, unproven: int = 0) -> list[int]:
    """The sizes of a flight, in bytes, above which it takes one more round trip: the window doubles at each."""
    window = network.initcwnd
    burst = min(window, unproven // network.mss) if unproven else window
    found = [burst]
    for _ in range(count - 1):
        window += burst
        burst = window
        found.append(found[-1] + burst)
    return [segments * network.mss for segments in found]


def extra_round_trips(seconds: float, size: int, control: float, control_size: int, network: Network) -> int:
    """The round trips that a flight takes beyond those of a control: what is left of the difference of their times.

    The time to send the bytes that it has more is not counted.
    """
    waited = seconds - control - sending(size, control_size, network)
    return max(0, round(waited / network.rtt))


def sending(size: int, control_size: int, network: Network) -> float:
    """Seconds to send the bytes that a flight has more than that of a control."""
    more = max(0, size - control_size)
    return (more + -(-more // network.mss) * HEADERS) * 8 / network.down
