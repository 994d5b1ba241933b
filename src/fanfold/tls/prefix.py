"""What is left of a client's address: it says which network a client is in, and not which client it is."""

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that is an IPv4 address: ::ffff:192.0.2.1 (RFC 4291, 2.5.5.2)."""
_SIX_TO_FOUR = b"\x20\x02"
"""How one of 6to4 begins: 2002::/16, and then an IPv4 address (RFC 3056)."""


def plain(packed: bytes) -> bytes:
    """The IPv4 address in an IPv6 address that is mapped; all others as they are. Addresses have 4 or 16 bytes."""
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def cut(packed: bytes) -> bytes:
    """The bytes of an address that are kept: 3 (/24) of IPv4, 6 (/48) of IPv6, 5 (/40) of 6to4.

    The first 48 bits of a 6to4 address have a whole IPv4 address, so as much is kept as of that one.
    """
    address = plain(packed)
    return address[: 3 if len(address) == 4 else 5 if address.startswith(_SIX_TO_FOUR) else 6]
