"""Does the cells of one link: real handshakes over an emulated network, each beside one of its control.

    cells ──▶ credentials ──▶ a server ──link──▶ a client ──▶ handshakes, in an order by seed ──▶ facts of each cell

Drift of the machine affects a handshake and its control alike, for they come one after the other.
"""

import gc
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from fanfold.tls.cells import Cell, Chain
from fanfold.tls.client import Client, Done
from fanfold.tls.expected import WARM_UP
from fanfold.tls.flights import certified
from fanfold.tls.link import Link, Setting
from fanfold.tls.pki import Credentials, TooSmall, credentials
from fanfold.tls.server import Server
from fanfold.tls.simulate import handshake as simulated
from fanfold.tls.wire import Broken
from fanfold.tls.zoo import Zoo

_PATIENCE = 20.0
"""Seconds that a side waits for the other beyond what the network takes; of lost segments, TCP may wait for minutes."""
_PATIENCE_LOSSY = 120.0
_LOOKS, _MOMENT = 10, 0.02  # times to look whether a part has ended, and seconds in between
_VARIES = 8
"""Bytes by which two signatures of ECDSA differ at most, in DER; but for one in 2^64."""

_AFTER_LOSS = 1
"""Segments of the window where the server's answer to a SYN was lost twice (RFC 5681, section 3.1)."""

Facts = dict[str, Any]
"""What came of a cell: `key`, and either facts for its row, or `stage`, `error` and `message` of its failure."""


class Failed(Exception):
    """A cell that cannot be measured. `args`: stage, error, message."""


@dataclass
class _Shown:
    """A chain that a server shows, by its number."""

    number: int
    credentials: Credentials


@dataclass
class _Both:
    """What both sides saw of a handshake."""

    client: Done
    server: Facts

    @property
    def flight(self) -> int:
        """Bytes of the server's first flight."""
        return int(self.server["sent"][0])


@dataclass
class _Measured:
    """A cell under way."""

    cell: Cell
    live: _Shown
    control: _Shown
    lives: list[_Both] = field(default_factory=list)
    controls: list[_Both] = field(default_factory=list)
    failed: Failed | None = None


def measure(cells: Sequence[Cell], zoo: Zoo, alive: Callable[[], None] = lambda: None) -> Iterator[Facts]:
    """Measure cells that have their link, their seed and their `kex` in common; each gets its facts.

    `alive` is called before every handshake, and may raise to end it all.
    """
    shown: dict[Chain, _Shown] = {}
    measured: list[_Measured] = []
    for cell in cells:
        try:
            live, control = (_shown(chain, shown, zoo) for chain in (cell.parsed, cell.parsed.control))
        except TooSmall as error:
            yield _failure(cell, Failed("chain", type(error).__name__, str(error)))
        else:
            measured.append(_Measured(cell, live, control))
    if not measured:
        return
    try:
        _on_link(measured, [one.credentials for one in shown.values()], alive)
    except Failed as error:
        for one in measured:
            one.failed = one.failed or error
    for one in measured:
        yield _facts(one)


def _shown(chain: Chain, shown: dict[Chain, _Shown], zoo: Zoo) -> _Shown:
    if chain not in shown:
        shown[chain] = _Shown(len(shown), credentials(chain, zoo))
    return shown[chain]


def setting_of(cell: Cell) -> Setting:
    """The link that a cell asks for."""
    network = cell.network
    return Setting(
        network.rtt,
        network.down,
        network.upstream,
        network.initcwnd,
        network.mss,
        cell.loss,
        cell.queue_kb * 1000,
        cell.seed,
    )


def _on_link(measured: list[_Measured], shown: Sequence[Credentials], alive: Callable[[], None]) -> None:
    """Measure cells on their link. Raises Failed if there is none as asked."""
    first = measured[0].cell
    largest = max(sum(one.live.credentials.certificate_bytes) for one in measured)
    waits = 2 * first.rtt_ms / 1000 + 4 * simulated(largest, first.network)
    seconds = waits + (_PATIENCE_LOSSY if first.loss or first.queue_kb else _PATIENCE)
    with ExitStack() as opened:
        with _or_fails("cannot make the link"):
            link = opened.enter_context(Link(setting_of(first)))
        with _or_fails(f"cannot use the congestion control {first.cc}"):
            listening = link.server_socket(first.cc)
        server = opened.enter_context(Server(listening, shown, seconds))
        measuring = _Measuring(server, Client(link, seconds), alive, first.seed)
        gc.freeze()  # what is there now need not be looked at between two handshakes
        opened.callback(gc.unfreeze)
        for one in measured:
            measuring.unless_failed(one, measuring.warm_up)
        for one in _order(measured):
            measuring.unless_failed(one, measuring.pair)


@contextmanager
def _or_fails(what: str) -> Iterator[None]:
    """Raise Failed, of the link, for an error of the system."""
    try:
        yield
    except OSError as error:
        raise Failed("link", type(error).__name__, f"{what}: {error}") from error


def _order(measured: list[_Measured]) -> list[_Measured]:
    """Each cell as often as asked, shuffled by the seed."""
    order = [one for one in measured for _ in range(one.cell.reps)]
    random.Random(measured[0].cell.seed).shuffle(order)
    return order


class _Measuring:
    """Does handshakes."""

    def __init__(self, server: Server, client: Client, alive: Callable[[], None], seed: int) -> None:
        self.server, self.client, self.alive = server, client, alive
        self._coin = random.Random(seed)
        self._warm: set[tuple[int, str]] = set()

    def unless_failed(self, one: _Measured, what: Callable[[_Measured], None]) -> None:
        """Do something with a cell, unless it has failed."""
        if one.failed:
            return
        try:
            what(one)
        except Failed as error:
            one.failed = error

    def warm_up(self, one: _Measured) -> None:
        """The first handshakes of each context, which fill caches. They show whether the link is as asked, too."""
        for shown in (one.live, one.control):
            known = shown.number, one.cell.tls
            for _ in range(0 if known in self._warm else WARM_UP):
                self._one(one.cell, shown)
            self._warm.add(known)

    def pair(self, one: _Measured) -> None:
        """A handshake and one of its control, in an order by chance."""
        both = [(one.lives, one.live), (one.controls, one.control)]
        for into, shown in both if self._coin.random() < 0.5 else both[::-1]:
            into.append(self._one(one.cell, shown))

    def _check_parts(self) -> None:
        """Raise RuntimeError if the relay or the server has ended: a handshake that broke is then not the cell's fault.

        A process that is killed closes its sockets a moment before it has ended.
        """
        for _ in range(_LOOKS):
            self.client.link.check()
            self.server.check()
            time.sleep(_MOMENT)

    def _one(self, cell: Cell, shown: _Shown) -> _Both:
        """A handshake. Raises Failed."""
        self.alive()
        try:
            done = self.client.handshake(shown.number, shown.credentials.root, cell.tls)
        except Broken as error:
            self._check_parts()
            if "connecting" in error.args[1]:  # the server saw nothing
                raise Failed("handshake", error.args[0], f"client: {error.args[1]}") from error
            server = self.server.report()["broken"]
            says = f"client: {error.args[1]}" + (f"; server: {server[1]}" if server else "")
            raise Failed("handshake", error.args[0], says) from error
        server = self.server.report()
        if server["broken"]:
            self._check_parts()
            raise Failed("handshake", server["broken"][0], f"server: {server['broken'][1]}")
        return _checked(cell, shown, _Both(done, server))


def _checked(cell: Cell, shown: _Shown, both: _Both) -> _Both:
    """What both sides saw, if it is what was asked for. Raises Failed."""
    lossy = (_AFTER_LOSS,) if cell.loss else ()
    for name, seen, asked in (
        ("window", both.server["window"], (cell.initcwnd, *lossy)),
        ("mss", both.server["mss"], (cell.mss,)),
    ):
        if seen not in asked:
            raise Failed("link", "NotAsAsked", f"the {name} of the server's TCP is {seen}, not {asked[0]} as asked")
    if both.client.group != cell.kex:
        raise Failed("handshake", "NotAsAsked", f"the keys were agreed on by {both.client.group}, not by {cell.kex}")
    if both.client.staple != (built := len(shown.credentials.staple)):
        raise Failed("staple", "NotAsBuilt", f"the client got a staple of {both.client.staple} B; {built} B were built")
    return both


def _facts(one: _Measured) -> Facts:
    """The facts of a cell, after its last handshake."""
    try:
        if one.failed:
            raise one.failed
        _check_bytes(one)
    except Failed as error:
        return _failure(one.cell, error)
    lives, controls = one.lives, one.controls
    return {
        "key": one.cell.key,
        "hello_bytes": _usual(both.server["first_bytes"] for both in lives),
        "hello_reads": _usual(both.server["first_reads"] for both in lives),
        "first_flight_bytes": _usual(both.flight for both in lives),
        "control_flight_bytes": _usual(both.flight for both in controls),
        "staple_bytes": lives[0].client.staple,
        "unverified": ",".join(one.live.credentials.unverified) or None,
        "live_ms": [both.server["ms"] for both in lives],
        "control_ms": [both.server["ms"] for both in controls],
        "client_ms": [both.client.seen.ms for both in lives],
        "connect_ms": [both.client.connect_ms for both in lives],
        "server_cpu_ms": [both.server["cpu_ms"] for both in lives],
        "client_cpu_ms": [both.client.seen.cpu_ms for both in lives],
        "retransmitted": sum(both.server["retransmitted"] for both in (*lives, *controls)),
        "initcwnd_seen": _usual(both.server["window"] for both in lives),
        "mss_seen": lives[0].server["mss"],
        "thrown_away": 2 * WARM_UP,
    }


def _usual(values: Iterator[int]) -> int:
    """The most common value."""
    return Counter(values).most_common(1)[0][0]


def _check_bytes(one: _Measured) -> None:
    """Raise Failed unless each flight is as much larger than its control's as its certificates are."""
    cell, live, control = one.cell, one.live.credentials, one.control.credentials
    expected = _certified(cell, live) - _certified(cell, control)
    free = _VARIES if live.signature_varies or control.signature_varies else 0
    for real, usual in zip(one.lives, one.controls, strict=True):
        more = real.flight - usual.flight
        if abs(more - expected) > free:
            says = (
                f"the first flight has {real.flight:,} B, {more:,} more than its control's; {expected:,} were expected"
            )
            raise Failed("bytes", "NotAsBuilt", says)


def _certified(cell: Cell, shown: Credentials) -> int:
    return certified(cell.tls, shown.certificate_bytes, len(shown.staple), shown.signature)


def _failure(cell: Cell, error: Failed) -> Facts:
    stage, name, message = error.args
    return {"key": cell.key, "stage": stage, "error": name, "message": message}
