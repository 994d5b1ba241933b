"""The columns of a table of handshakes."""

from collections.abc import Iterable

NEEDED = ("key", "role", "n", "handshake_ms")
ADDRESS = ("prefix", "ip")
"""One of these columns is needed, too."""
OPTIONAL = ("initcwnd", "first_flight_bytes")
WORDS = f"{', '.join(NEEDED)}, and {' or '.join(ADDRESS)}"
"""What a table must have, for errors."""


def wanted(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The columns to read of those that are there, and the ones that are missing."""
    there = list(names)
    address = next((name for name in ADDRESS if name in there), None)
    missing = [name for name in NEEDED if name not in there] + ([] if address else [" or ".join(ADDRESS)])
    known = (*NEEDED, *filter(None, [address]), *OPTIONAL)
    return [name for name in known if name in there], missing
