"""A fact."""

from typing import Any, NamedTuple


class Fact(NamedTuple):
    """Something that a file says."""

    kind: str
    """What it is about.

    The machine: name, zone, system, shutdown, address, network. Disks: usb, setup, letter, volume, mount, usb_listed.
    Programs: program, prefetch, userassist (they ran), amcache, shimcache (their files were there). Users: account.
    """
    name: str
    """Of the thing that it is about, such as the instance of a device."""
    value: dict[str, Any]
    """Times are ISO 8601: with their offset, or without one where the file has the time of its machine."""
    source: str
    """Where in the file: the path of a key, or the number of a line."""
