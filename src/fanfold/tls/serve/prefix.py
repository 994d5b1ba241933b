"""Cuts addresses: what is left says which network a client is in, and not which client it is.

An address is cut where it comes in, so that no row, log line or error can have more of it.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

_V4, _V6, _SIX_TO_FOUR = 24, 48, 40
"""Bits that are kept. An address of 6to4 has an IPv4 address in its first 48 bits, so 24 of that one are kept."""


class Prefix(NamedTuple):
    """The network of a client."""

    text: str
    """192.0.2.0/24 or 2001:db8:1::/48."""
    family: Literal[4, 6]
    """Of IP. An IPv4 address in an IPv6 one (::ffff:192.0.2.1) is IPv4."""


def address_of(text: str) -> IPv4Address | IPv6Address:
    """An address as a socket says it. One that is mapped is IPv4."""
    address = ip_address(text.partition("%")[0])
    return (address.version == 6 and address.ipv4_mapped) or address


def cut(address: IPv4Address | IPv6Address) -> Prefix:
    """The /24 of an IPv4 address, the /48 of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return Prefix(str(IPv4Network((address, _V4), strict=False)), 4)
    bits = _SIX_TO_FOUR if address.sixtofour else _V6
    return Prefix(str(IPv6Network((address, bits), strict=False)), 6)
