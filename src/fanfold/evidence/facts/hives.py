"""Facts from the registry: which machine it was, in which time zone, and which USB disks it has known.

Sources: learn.microsoft.com, "USBSTOR and device properties" (DEVPKEY_Device_FirstInstallDate and its like), and
"RtlQueryRegistryValues" for MountedDevices; TimeZoneInformation is the structure DYNAMIC_TIME_ZONE_INFORMATION.
"""

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from construct import ConstructError
from regipy.exceptions import RegipyException
from regipy.registry import RegistryHive

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.fact import Fact, iso

_BROKEN = (RegipyException, ConstructError, struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError,
           UnicodeError, OverflowError, OSError, RecursionError, AssertionError)  # fmt: skip
"""What regipy raises for hives that are damaged."""
_DATES = "Properties\\{83da6326-97a6-4088-9453-a1923f573b29}"
_WHEN = {"0064": "first_installed", "0066": "last_connected", "0067": "last_removed"}
"""Properties of a device by their numbers."""
logging.getLogger("regipy").setLevel(logging.CRITICAL)  # it reports odd values on stderr
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


class Hive:
    """A registry hive."""

    def __init__(self, data: bytes) -> None:
        """Raises Unreadable."""
        sequence = struct.unpack_from("<LL", data, 4) if len(data) >= 12 else (0, 1)
        self.is_dirty = sequence[0] != sequence[1]
        """Whether its latest changes are in its transaction logs only."""
        try:
            with TemporaryDirectory(prefix="fanfold-hive-") as folder:  # regipy takes a file
                file = Path(folder) / "hive"
                file.write_bytes(data)
                self.hive = RegistryHive(str(file))
        except _BROKEN as error:
            raise Unreadable(f"This registry hive cannot be read: {_first(error)}") from error

    def values(self, path: str) -> dict[str, Any]:
        """The values of a key by their names; empty if there is no such key, or it is damaged."""
        with suppress(*_BROKEN):
            return {value.name: value.value for value in self.hive.get_key(f"\\{path}").iter_values(trim_values=False)}
        return {}

    def below(self, path: str) -> Iterator[tuple[str, datetime | None]]:
        """The names of the keys below one, with the time that each was last written."""
        with suppress(*_BROKEN):
            for key in self.hive.get_key(f"\\{path}").iter_subkeys():
                yield key.name, filetime(key.header.last_modified)


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def filetime(value: Any) -> datetime | None:
    """A FILETIME, as a number, as bytes or as their hexadecimal digits. None if it is none."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = bytes.fromhex(value)
    if isinstance(value, bytes):
        value = int.from_bytes(value[:8], "little") if len(value) >= 8 else 0
    if not isinstance(value, int) or not 0 < value < 2650467743990000000:
        return None
    return _EPOCH + timedelta(microseconds=value // 10)


def system(data: bytes) -> Iterator[Fact]:
    """The facts of the hive SYSTEM."""
    hive = Hive(data)
    number = hive.values("Select").get("Current")
    root = f"ControlSet{number if isinstance(number, int) else 1:03}"
    dirty = {"dirty": True} if hive.is_dirty else {}
    path = f"{root}\\Control\\ComputerName\\ComputerName"
    if name := hive.values(path).get("ComputerName"):
        yield Fact("name", str(name), dirty, path)
    path = f"{root}\\Control\\TimeZoneInformation"
    zone = hive.values(path)
    if key := _text(zone.get("TimeZoneKeyName")):
        yield Fact("zone", key, {"active_bias": zone.get("ActiveTimeBias"), **dirty}, path)
    path = f"{root}\\Control\\Windows"
    if when := filetime(hive.values(path).get("ShutdownTime")):
        yield Fact("shutdown", "last", {"time": iso(when), **dirty}, path)
    yield from _disks(hive, root, dirty)
    yield from _letters(hive, dirty)
    yield from _addresses(hive, root, dirty)


def _disks(hive: Hive, root: str, dirty: dict[str, Any]) -> Iterator[Fact]:
    """The USB disks that the machine has known."""
    for model, _ in hive.below(f"{root}\\Enum\\USBSTOR"):
        for instance, _ in hive.below(f"{root}\\Enum\\USBSTOR\\{model}"):
            path = f"{root}\\Enum\\USBSTOR\\{model}\\{instance}"
            parts = dict(part.split("_", 1) for part in model.split("&") if "_" in part)
            value = {
                "vendor": parts.get("Ven", ""),
                "model": parts.get("Prod", "").replace("_", " ").strip(),
                "serial": instance.rpartition("&")[0] if instance[1:2] != "&" else "",
                "called": hive.values(path).get("FriendlyName"),
                "disk_id": hive.values(f"{path}\\Device Parameters\\Partmgr").get("DiskId"),
                **{name: iso(_property(hive, f"{path}\\{_DATES}", number)) for number, name in _WHEN.items()},
            }
            yield Fact("usb", instance, value | dirty, path)


def _property(hive: Hive, path: str, number: str) -> datetime | None:
    """A time among a device's properties. Windows 7 writes it one key deeper than later versions do."""
    for key, name in ((number, "(default)"), (f"0000{number}\\00000000", "Data")):
        value = hive.values(f"{path}\\{key}").get(name)
        if time := value if isinstance(value, datetime) else filetime(value):
            return time
    return None


def _letters(hive: Hive, dirty: dict[str, Any]) -> Iterator[Fact]:
    """The drive letters, and the volume that each was last given to."""
    for name, raw in hive.values("MountedDevices").items():
        if not (found := re.fullmatch(r"\\DosDevices\\([A-Z]:)", name)):
            continue
        data = _bytes(raw)
        text = data.decode("utf-16-le", "replace") if data[:2] in (b"_\0", b"\\\0") else ""
        value: dict[str, Any] = {"device": text} if text else {"identity": data.hex()}
        if instance := re.search(r"USBSTOR#[^#]*#([^#]*)#", text):
            value["instance"] = instance[1]
        yield Fact("letter", found[1], value | dirty, f"MountedDevices, the value {name}")


def _text(raw: Any) -> str:
    """A text up to its end: what follows in its buffer is what was there before."""
    text = raw.decode("utf-16-le", "replace") if isinstance(raw, bytes) else str(raw or "")
    return text.partition("\0")[0]


def _bytes(raw: Any) -> bytes:
    if isinstance(raw, bytes):
        return raw
    with suppress(ValueError, TypeError):
        return bytes.fromhex(raw)
    return b""


def _addresses(hive: Hive, root: str, dirty: dict[str, Any]) -> Iterator[Fact]:
    """The addresses of the machine's network interfaces."""
    path = f"{root}\\Services\\Tcpip\\Parameters\\Interfaces"
    for name, _ in hive.below(path):
        values = hive.values(f"{path}\\{name}")
        fixed = values.get("IPAddress")
        found = [values.get("DhcpIPAddress"), *(fixed if isinstance(fixed, list) else [fixed])]
        addresses = [str(one) for one in found if one and str(one) not in ("0.0.0.0", "")]
        if addresses:
            yield Fact("address", name, {"addresses": addresses, "domain": values.get("DhcpDomain"), **dirty},
                       f"{path}\\{name}")  # fmt: skip


def software(data: bytes) -> Iterator[Fact]:
    """The facts of the hive SOFTWARE."""
    hive = Hive(data)
    dirty = {"dirty": True} if hive.is_dirty else {}
    path = "Microsoft\\Windows NT\\CurrentVersion"
    values = hive.values(path)
    if product := values.get("ProductName"):
        installed = values.get("InstallDate")
        seconds = installed if isinstance(installed, int) and 0 < installed < 1 << 32 else 0
        when = datetime.fromtimestamp(seconds, UTC) if seconds else None
        build = ".".join(str(values[name]) for name in ("CurrentBuild", "UBR") if values.get(name) is not None)
        value = {
            "build": build,
            "version": values.get("DisplayVersion") or values.get("ReleaseId"),
            "installed": iso(when),
        }
        yield Fact("system", str(product), value | dirty, path)
    path = "Microsoft\\Windows NT\\CurrentVersion\\NetworkList\\Profiles"
    for name, _ in hive.below(path):
        values = hive.values(f"{path}\\{name}")
        if called := values.get("ProfileName"):
            value = {which: _system_time(values.get(key)) for which, key in
                     (("first_local", "DateCreated"), ("last_local", "DateLastConnected"))}  # fmt: skip
            yield Fact("network", str(called), value | dirty, f"{path}\\{name}")


def _system_time(raw: Any) -> str | None:
    """A SYSTEMTIME, which is in the time of the machine."""
    data = _bytes(raw)
    if len(data) < 16:
        return None
    year, month, _, day, hour, minute, second, milliseconds = struct.unpack_from("<8H", data)
    with suppress(ValueError):
        return datetime(year, month, day, hour, minute, second, milliseconds * 1000).isoformat()
    return None
