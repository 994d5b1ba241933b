"""Cuts addresses where they come in, so that no row, log line or error can have more of them than their prefix."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from fanfold.tls import prefix


class Prefix(NamedTuple):
    """The network of a client."""

    text: str
    """192.0.2.0/24 or 2001:db8:1::/48."""
    family: Literal[4, 6]
    """Of IP. An IPv4 address in an IPv6 one (::ffff:192.0.2.1) is IPv4."""


def address_of(text: str) -> IPv4Address | IPv6Address:
    """An address as a socket says it. One that is mapped is IPv4."""
    return ip_address(prefix.plain(ip_address(text.partition("%")[0]).packed))


def cut(address: IPv4Address | IPv6Address) -> Prefix:
    """The network of an address: see `fanfold.tls.prefix.cut`."""
    kept = prefix.cut(address.packed)
    family: Literal[4, 6] = 4 if len(kept) == 3 else 6
    return Prefix(f"{ip_address(kept.ljust(4 if family == 4 else 16, bytes(1)))}/{8 * len(kept)}", family)
