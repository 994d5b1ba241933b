"""Facts from Amcache.hve: program files that were there, with their SHA-1, and USB disks that were connected.

Windows takes stock of files from time to time. The time of an entry is when that was, not when a program ran.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import Hive
from fanfold.evidence.times import iso

_NEWER = {"product": "ProductName", "publisher": "Publisher", "version": "Version"}
_OLDER = {"product": "0", "publisher": "1", "version": "5"}
"""Values of Windows 8 have numbers for names."""


def inventory(hive: Hive) -> Iterator[Fact]:
    """The facts of the hive Amcache."""
    for key in hive.below("Root\\InventoryApplicationFile"):
        values = key.values()
        value = {"size": _number(values.get("Size")), "listed": iso(key.written)}
        yield from _file(values, "LowerCaseLongPath", "FileId", _NEWER, value | hive.about,
                         f"Root\\InventoryApplicationFile\\{key.name}")  # fmt: skip
    for volume in hive.below("Root\\File"):
        for key in volume.below():
            values = key.values()
            value = {"size": _number(values.get("6")), "listed": iso(key.written)}
            yield from _file(values, "15", "101", _OLDER, value | hive.about,
                             f"Root\\File\\{volume.name}\\{key.name}")  # fmt: skip
    for key in hive.below("Root\\InventoryDevicePnp"):
        if key.name.lower().startswith("usbstor/"):
            yield from _disk(key.name, key.values(), {"listed": iso(key.written)} | hive.about)


def _file(
    values: Mapping[str, Any], path: str, digest: str, names: Mapping[str, str], value: dict[str, Any], source: str
) -> Iterator[Fact]:
    """A program file, by its path and by four zeros before its SHA-1."""
    where, coded = values.get(path), str(values.get(digest) or "")
    if isinstance(where, str) and where:
        about = {name: str(values[called]) for name, called in names.items() if values.get(called)}
        sha1 = coded[4:] if len(coded) == 44 and coded.startswith("0000") else None
        yield Fact("amcache", where, {"sha1": sha1, **about, **value}, source)


def _disk(name: str, values: Mapping[str, Any], value: dict[str, Any]) -> Iterator[Fact]:
    parts = name.split("/")
    called = values.get("BusReportedDescription") or values.get("Description") or values.get("Model")
    about = {"called": str(called or ""), "manufacturer": str(values.get("Manufacturer") or "")}
    yield Fact("usb_listed", parts[-1], about | value, f"Root\\InventoryDevicePnp\\{name}")


def _number(value: Any) -> int | None:
    """A size, which is a number, or a text such as 0x4c00."""
    try:
        return value if isinstance(value, int) else int(str(value), 0)
    except ValueError:
        return None
