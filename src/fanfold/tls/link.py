"""An emulated link between a client and a server: two network namespaces of this process's own, and a relay between.

    server's namespace          ours                    client's namespace
      near ═══veth═══ far ──▶ relay (a process) ──▶ far ═══veth═══ near

A user without rights may do all of it in a user namespace. Namespaces are held by file descriptors, so they vanish with
the process, however it ends, and nothing outside of them is changed.
"""

import array
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fanfold.tls.network import HEADERS
from fanfold.tls.relay import Direction, Relay, packets

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
PORT = 8443
_MACS = {SERVER: "02:00:00:00:00:0a", CLIENT: "02:00:00:00:00:0b"}
_NAMES = {SERVER: "a", CLIENT: "b"}
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # linux/sched.h
_ETHTOOL = 0x8946  # linux/sockios.h
_OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)  # linux/ethtool.h: checksums of what is sent, TSO, GSO, GRO
_PERMANENT = 0x80  # linux/neighbour.h
_TCP_CONGESTION = 13
_QUEUE = 10_000
_SYSCTLS = {
    "tcp_tw_reuse": "1",  # there are more handshakes than ports
    "tcp_rmem": "4096 16777216 33554432",
    "tcp_wmem": "4096 16777216 33554432",  # a flight is written at once
}
_RECEIVE_WINDOW = 4000
"""Segments that the other side takes at first: so many that it never limits the sender's first windows."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Setting:
    """What a link is like."""

    rtt: float
    """Seconds."""
    down: float
    """Bits per second from the server to the client."""
    up: float
    initcwnd: int
    mss: int
    loss: float = 0.0
    queue: float = 0.0
    """Bytes that wait for the link down; 0 for any number."""
    seed: int = 1
    """Of what is lost."""


def enter() -> None:
    """Go into a network namespace of this process's own; for a user without rights, in a user namespace.

    Must come before the process has threads. Raises OSError where the system does not allow it.
    """
    if os.geteuid() == 0:
        try:
            _unshare(_NEW_NET)
            return
        except PermissionError:  # root of a container
            pass
    user, group = os.getuid(), os.getgid()
    _unshare(_NEW_USER | _NEW_NET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        try:
            Path("/proc/self", name).write_text(text)
        except OSError as error:
            raise OSError(error.errno, f"{name}: {error.strerror}") from error


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        raise _error("unshare")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _here() -> int:
    """A file descriptor that holds the current network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _move(namespace: int) -> None:
    if _libc.setns(namespace, _NEW_NET):
        raise _error("setns")


@contextmanager
def _inside(namespace: int) -> Iterator[None]:
    """What is opened in the block belongs to this namespace."""
    before = _here()
    try:
        _move(namespace)
        yield
    finally:
        _move(before)
        os.close(before)


def _new_namespace() -> int:
    before = _here()
    try:
        _unshare(_NEW_NET)
        return _here()
    finally:
        _move(before)
        os.close(before)


class Link:
    """A link, while it is open. Use it as a context manager."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._mtu = setting.mss + HEADERS
        self._open = ExitStack()
        self._spaces: dict[str, int] = {}

    def __enter__(self) -> "Link":
        try:
            self._set_up()
        except NetlinkError as error:
            self._open.close()
            raise OSError(error.code, str(error)) from error
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _set_up(self) -> None:
        with closing(IPRoute()) as ip:
            for side in (SERVER, CLIENT):
                self._spaces[side] = _new_namespace()
                self._open.callback(os.close, self._spaces[side])
                self._connect(ip, side)
        for side, other in ((SERVER, CLIENT), (CLIENT, SERVER)):
            with _inside(self._spaces[side]):
                self._arrange(side, other)
        down = Direction(self.setting.down, self.setting.queue)
        ends = [self._open.enter_context(packets(f"far-{_NAMES[side]}")) for side in (SERVER, CLIENT)]
        self._relay = Relay(ends[0], ends[1], down, Direction(self.setting.up), self.setting)
        self._open.callback(self._relay.stop)
        self._relay.start()

    def _connect(self, ip: IPRoute, side: str) -> None:
        """A pair of devices: the near one in a side's namespace, the far one here."""
        near, far = f"near-{_NAMES[side]}", f"far-{_NAMES[side]}"
        ends = {"peer": {"ifname": far, "mtu": self._mtu}, "mtu": self._mtu, "address": _MACS[side]}
        ip.link("add", ifname=near, kind="veth", **ends)
        self._open.callback(_remove, far)
        ip.link("set", index=ip.link_lookup(ifname=near)[0], net_ns_fd=self._spaces[side])
        ip.link("set", index=ip.link_lookup(ifname=far)[0], state="up")
        _without_offloads(far)

    def _arrange(self, side: str, other: str) -> None:
        """Addresses, routes and settings of one side, whose namespace is the current one."""
        Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")  # a connection must not learn from earlier ones
        for name, value in _SYSCTLS.items():
            with suppress(OSError):  # older kernels have them for the whole machine alone, and the defaults do as well
                Path("/proc/sys/net/ipv4", name).write_text(value)
        near = f"near-{_NAMES[side]}"
        _without_offloads(near)
        window = self.setting.initcwnd if side == SERVER else 10
        with closing(IPRoute()) as ip:
            device = ip.link_lookup(ifname=near)[0]
            ip.link("set", index=1, state="up")
            ip.link("set", index=device, state="up", txqlen=_QUEUE)
            ip.addr("add", index=device, address=side, prefixlen=32)
            ip.route("add", dst=f"{other}/32", oif=device, metrics={"initcwnd": window, "initrwnd": _RECEIVE_WINDOW})
            ip.neigh("replace", dst=other, lladdr=_MACS[other], ifindex=device, state=_PERMANENT)

    def check(self) -> None:
        """Raise RuntimeError if it has ended by itself."""
        self._relay.check()

    def server_socket(self, congestion: str) -> socket.socket:
        """A socket that listens on the server's side. Raises OSError for a congestion control that is not there."""
        with _inside(self._spaces[SERVER]):
            listening = socket.socket()
        try:
            listening.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, congestion.encode())
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((SERVER, PORT))
            listening.listen(16)
        except OSError:
            listening.close()
            raise
        return listening

    def client_socket(self) -> socket.socket:
        """A socket on the client's side, not connected."""
        with _inside(self._spaces[CLIENT]):
            return socket.socket()


def _remove(device: str) -> None:
    """Remove a device with its peer, so that the next link of this process may use the name."""
    with closing(IPRoute()) as ip:
        for index in ip.link_lookup(ifname=device):
            ip.link("del", index=index)


def _without_offloads(device: str) -> None:
    """Have the kernel cut segments and compute checksums itself, as on a wire."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for feature in _OFFLOADS:
            value = array.array("B", struct.pack("II", feature, 0))
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0]).ljust(40, b"\0")
            fcntl.ioctl(control, _ETHTOOL, request)
