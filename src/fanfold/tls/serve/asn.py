"""Looks up the number of the network (ASN) that an address belongs to, in a table of ranges.

A table has a line for each range: first address, last address, number, and maybe more, separated by tabs. This is the
form of iptoasn.com's `ip2asn-combined.tsv`.
"""

from array import array
from bisect import bisect_right
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from fanfold.errors import UsageError

_TABLE = "The table to use is ip2asn-combined.tsv of iptoasn.com."
_CUT = 64
"""Bits of an IPv6 address that are not looked at: no network is announced that is smaller."""


class _Range(NamedTuple):
    first: int
    last: int
    number: int


class Numbers:
    """The ranges of a table. Numbers alone, so that a million of them take 20 MB."""

    def __init__(self, ranges: dict[int, list[_Range]]) -> None:
        self._columns = {
            family: tuple(array("Q", column) for column in zip(*sorted(some), strict=True))
            for family, some in ranges.items()
            if some
        }

    @classmethod
    def read(cls, path: Path) -> "Numbers":
        """The ranges of a file. Raises UsageError."""
        ranges: dict[int, list[_Range]] = {4: [], 6: []}
        try:
            if path.exists() and not path.is_file():  # a device may never end
                raise UsageError(f"--asn {path} is not a file.")
            with path.open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        family, found = _range(path, number, line)
                        ranges[family].append(found)
        except OSError as error:
            raise UsageError(f"Cannot read --asn {path}: {error.strerror}.") from error
        if not any(ranges.values()):
            raise UsageError(f"--asn {path} has no ranges. {_TABLE}")
        return cls(ranges)

    def of(self, address: IPv4Address | IPv6Address) -> int | None:
        """The number of the network of an address; None if the table has none."""
        if address.version not in self._columns:
            return None
        firsts, lasts, numbers = self._columns[address.version]
        value = _value(address)
        at = bisect_right(firsts, value) - 1
        return numbers[at] or None if at >= 0 and value <= lasts[at] else None


def _range(path: Path, number: int, line: str) -> tuple[int, _Range]:
    parts = line.rstrip("\r\n").split("\t")
    try:
        first, last = map(ip_address, parts[:2])
        if first.version == last.version:
            return first.version, _Range(_value(first), _value(last), int(parts[2]))
    except (ValueError, IndexError):
        pass
    raise UsageError(
        f"Line {number} of {path} is not a range of addresses and the number of its network, separated by tabs. "
        f"{_TABLE}"
    )


def _value(address: IPv4Address | IPv6Address) -> int:
    return int(address) >> (_CUT if address.version == 6 else 0)
