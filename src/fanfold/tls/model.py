"""The time of a handshake by its size: a curve, and the walls where another round trip begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fanfold.errors import UsageError
from fanfold.tls.network import Network
from fanfold.tls.simulate import handshake, walls
from fanfold.tls.sizes import FIXED

Over = Literal["tcp", "quic"]

DATAGRAM = 1200
"""Bytes of a datagram that every network carries, and that QUIC counts its window in (RFC 9000, section 14)."""
QUIC_WINDOW = 10
"""Datagrams of QUIC's initial window (RFC 9002, section 7.2)."""
HELLO = 2 * 1250
"""Bytes of the datagrams with a client's hello that has a hybrid key."""
AMPLIFICATION = 3
"""Times the bytes of the client's datagrams that a server may send before the address is proven (RFC 9000, 8.1)."""
_CURVE = range(0, 60_001, 1000)


@dataclass(frozen=True)
class Curve:
    """Times by size, with one initial window."""

    initcwnd: int
    walls: tuple[int, ...]
    """Bytes of the first flight above which another round trip begins."""
    ms: tuple[float, ...]
    """For each of the model's sizes."""


@dataclass(frozen=True)
class Model:
    """The answer of `model`."""

    network: Network
    over: Over
    base: int
    sizes: tuple[int, ...]
    """Bytes of signatures and keys."""
    curves: Mapping[int, Curve]
    """By the initial window, in segments."""


def model(
    link: str = "",
    *,
    over: Over = "tcp",
    initcwnd: Sequence[int] = (10, 30),
    sizes: Sequence[int] = _CURVE,
    base: int = FIXED,
    client_datagrams: int = HELLO,
) -> Model:
    """Compute the time of a handshake for many sizes.

    Args:
        link: A network such as `rtt=50ms,down=20Mbit`.
        over: QUIC has a window of its own, and sends three times what the client sent before it knows the address.
        initcwnd: TCP's initial windows, in segments.
        sizes: Bytes of signatures and keys.
        base: Bytes of the first flight that are neither.
        client_datagrams: Bytes of the datagrams with the client's hello, over QUIC.

    Raises:
        UsageError: A number is out of range.
    """
    if not 0 <= base <= 1 << 24:
        raise UsageError(f"--base takes a number of bytes up to {1 << 24:,}, not {base}.")
    if not 1 <= client_datagrams <= 1 << 16:
        raise UsageError(f"A client's hello has between 1 and 65,536 bytes, not {client_datagrams:,}.")
    network = Network.parse(link)
    unproven = 0
    windows = [network.of_window(window) for window in initcwnd]
    if over == "quic":
        unproven = AMPLIFICATION * client_datagrams
        network = replace(network.of_window(QUIC_WINDOW), mss=DATAGRAM)
        windows = [network]
    curves = {
        window.initcwnd: Curve(
            window.initcwnd,
            tuple(walls(window, unproven=unproven)),
            tuple(handshake(base + size, window, unproven) * 1000 for size in sizes),
        )
        for window in windows
    }
    return Model(network, over, base, tuple(sizes), curves)
