"""What the kernel knows of a connection."""

import socket
import struct
import sys
from typing import NamedTuple

_TCP_INFO = 11  # include/uapi/linux/tcp.h
_SIZE = 104
_BEGIN = struct.Struct("@8B24I")
_SND_MSS, _RTT, _SND_CWND, _TOTAL_RETRANS = 8 + 2, 8 + 15, 8 + 18, 8 + 23


class Tcp(NamedTuple):
    """Figures of TCP_INFO; all None where the system has none."""

    mss: int | None = None
    """Bytes of a segment that we send."""
    window: int | None = None
    """The congestion window, in segments."""
    rtt_ms: float | None = None
    retransmitted: int | None = None
    """Segments, from the beginning."""


def tcp_info(connection: socket.socket) -> Tcp:
    """The figures of a connection at this moment."""
    if sys.platform != "linux":
        return Tcp()
    try:
        raw = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SIZE)
    except OSError:
        return Tcp()
    if len(raw) < _SIZE:
        return Tcp()
    figures = _BEGIN.unpack_from(raw)
    rtt = figures[_RTT] / 1000 or None
    return Tcp(figures[_SND_MSS], figures[_SND_CWND], rtt, figures[_TOTAL_RETRANS])
