"""The relay of an emulated link: a process that takes packets from one side, and gives them to the other in time.

    packet ──▶ queue ──▶ at `rate` bits/s ──▶ half a round trip ──▶ other side

The same rules as in `simulate.py`.
"""

import ctypes
import heapq
import os
import random
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanfold.tls.link import Setting

_IPV4 = 0x0800
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
_RECEIVE_BUFFER_FORCE = 33  # asm/socket.h
_BUFFER = 1 << 26
_ETHERNET = 14  # bytes of its header, which do not count
_SPIN = 120_000  # ns before a packet is due, in which sleeping would be too coarse
_TIMER_SLACK, _DEATH_SIGNAL = 29, 1  # linux/prctl.h
_MOST = 65_535 + _ETHERNET  # bytes of a packet


@dataclass
class Direction:
    """One direction of a link."""

    rate: float
    """Bits per second."""
    queue: float = 0.0
    """Bytes that may wait; 0 for any number."""
    free: int = 0
    """When the link is free again, in ns."""


def packets(device: str) -> socket.socket:
    """A socket for all IPv4 packets that come out of a device, and to put some into it."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_IPV4))
    found.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    try:
        found.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
    except PermissionError:  # in a user namespace; then as much as everybody may have
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    found.bind((device, _IPV4))
    found.setblocking(False)
    return found


class Relay:
    """The relay process of a link."""

    def __init__(
        self, server: socket.socket, client: socket.socket, down: Direction, up: Direction, setting: "Setting"
    ) -> None:
        self._paths = {server: (client, down), client: (server, up)}
        self._half = round(setting.rtt / 2 * 1e9)
        self._loss, self._random = setting.loss, random.Random(setting.seed)
        self._waiting: list[tuple[int, int, socket.socket, bytes]] = []  # when due, order, where to, packet
        self._order = 0
        self._process = 0

    def start(self) -> None:
        """Start it. It ends with this process."""
        parent = os.getpid()
        self._process = os.fork()
        if not self._process:
            try:
                end_with(parent)
                ctypes.CDLL(None).prctl(_TIMER_SLACK, 1, 0, 0, 0)
                self._run()
            except BaseException as error:
                sys.stderr.write(f"relay: {error!r}\n")
            finally:
                os._exit(1)

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        stop(self._process)

    def check(self) -> None:
        """Raise RuntimeError if it has ended by itself."""
        if self._process and os.waitpid(self._process, os.WNOHANG)[0]:
            self._process = 0
            raise RuntimeError("the relay's process has ended")

    def _run(self) -> None:
        ends, now = [*self._paths], time.monotonic_ns
        while True:
            self._deliver()
            wait = self._waiting[0][0] - now() if self._waiting else None
            timeout = None if wait is None else max(0, wait - _SPIN) / 1e9
            for end in select.select(ends, [], [], timeout)[0]:
                with suppress(BlockingIOError):
                    while True:
                        self._take(end, end.recv(_MOST), now())

    def _deliver(self) -> None:
        """Hand over the packets that are due."""
        while self._waiting and self._waiting[0][0] <= time.monotonic_ns():
            _, _, end, packet = heapq.heappop(self._waiting)
            with suppress(OSError):  # a device that is going away
                end.send(packet)

    def _take(self, end: socket.socket, packet: bytes, now: int) -> None:
        """Decide when a packet arrives, and whether."""
        other, path = self._paths[end]
        begins = max(path.free, now)
        if path.queue and (begins - now) * path.rate / 8e9 > path.queue:
            return
        path.free = begins + round((len(packet) - _ETHERNET) * 8e9 / path.rate)
        if self._loss and self._random.random() < self._loss:
            return
        self._order += 1
        heapq.heappush(self._waiting, (path.free + self._half, self._order, other, packet))


def come_first() -> None:
    """Have this process, and those that it starts, run before others of the machine, where the system allows it.

    Root may; users measure as well as the machine is quiet.
    """
    with suppress(OSError):
        os.nice(-5)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, however that is."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def stop(process: int) -> None:
    """Kill a child and wait for it."""
    if process:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
