"""Facts from the registry: which machine it was, in which time zone, and which USB disks it has known.

Sources: learn.microsoft.com, "USBSTOR and device properties" (DEVPKEY_Device_FirstInstallDate and its like), and
"RtlQueryRegistryValues" for MountedDevices; TimeZoneInformation is the structure DYNAMIC_TIME_ZONE_INFORMATION.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import Hive, Key, filetime, text_of
from fanfold.evidence.facts.shimcache import cached
from fanfold.evidence.times import iso

_DATES = "Properties\\{83da6326-97a6-4088-9453-a1923f573b29}"
_WHEN = {"0064": "first_installed", "0066": "last_connected", "0067": "last_removed"}
"""Properties of a device by their numbers."""


def system(hive: Hive) -> Iterator[Fact]:
    """The facts of the hive SYSTEM."""
    number = hive.values("Select").get("Current")
    root = f"ControlSet{number if isinstance(number, int) else 1:03}"
    dirty = hive.about
    path = f"{root}\\Control\\ComputerName\\ComputerName"
    if name := hive.values(path).get("ComputerName"):
        yield Fact("name", str(name), dirty, path)
    path = f"{root}\\Control\\TimeZoneInformation"
    zone = hive.values(path)
    if key := text_of(zone.get("TimeZoneKeyName")):
        yield Fact("zone", key, {"active_bias": zone.get("ActiveTimeBias"), **dirty}, path)
    path = f"{root}\\Control\\Windows"
    if when := filetime(hive.values(path).get("ShutdownTime")):
        yield Fact("shutdown", "last", {"time": iso(when), **dirty}, path)
    yield from _disks(hive, root, dirty)
    yield from _letters(hive, dirty)
    yield from _addresses(hive, root, dirty)
    path = f"{root}\\Control\\Session Manager\\AppCompatCache"
    yield from cached(hive.values(path).get("AppCompatCache"), dirty, path)


def _disks(hive: Hive, root: str, dirty: dict[str, str]) -> Iterator[Fact]:
    """The USB disks that the machine has known."""
    for kind in hive.below(f"{root}\\Enum\\USBSTOR"):
        model = kind.name
        parts = dict(part.split("_", 1) for part in model.split("&") if "_" in part)
        for device in kind.below():
            instance = device.name
            dates = device.find(_DATES)
            value = {
                "vendor": parts.get("Ven", ""),
                "model": parts.get("Prod", "").replace("_", " ").strip(),
                "serial": instance.rpartition("&")[0] if instance[1:2] != "&" else "",
                "called": device.value("FriendlyName"),
                "disk_id": _value(device.find("Device Parameters\\Partmgr"), "DiskId"),
                **{name: iso(_property(dates, number)) for number, name in _WHEN.items()},
            }
            yield Fact("usb", instance, value | dirty, f"{root}\\Enum\\USBSTOR\\{model}\\{instance}")


def _property(dates: Key | None, number: str) -> datetime | None:
    """A time among a device's properties. Windows 7 writes it one key deeper than later versions do."""
    for path, name in ((number, ""), (f"0000{number}\\00000000", "Data")):
        if dates and (time := filetime(_value(dates.find(path), name))):
            return time
    return None


def _value(key: Key | None, name: str) -> Any:
    """A value of a key that may not be there."""
    return key.value(name) if key else None


def _letters(hive: Hive, dirty: dict[str, str]) -> Iterator[Fact]:
    """The drive letters and the volumes, and what each was last given to."""
    for name, data in hive.values("MountedDevices").items():
        letter = re.fullmatch(r"\\DosDevices\\([A-Z]:)", name)
        volume = re.fullmatch(r"\\\?\?\\Volume(\{[0-9A-Fa-f-]{36}\})", name)
        if not (found := letter or volume) or not isinstance(data, bytes):
            continue
        text = data.decode("utf-16-le", "replace") if data[:2] in (b"_\0", b"\\\0") else ""
        value: dict[str, Any] = {"device": text} if text else {"identity": data.hex()}
        if instance := re.search(r"USBSTOR#[^#]*#([^#]*)#", text):
            value["instance"] = instance[1]
        yield Fact("letter" if letter else "volume", found[1], value | dirty, f"MountedDevices, the value {name}")


def _addresses(hive: Hive, root: str, dirty: dict[str, str]) -> Iterator[Fact]:
    """The addresses of the machine's network interfaces."""
    path = f"{root}\\Services\\Tcpip\\Parameters\\Interfaces"
    for key in hive.below(path):
        name, values = key.name, key.values()
        fixed = values.get("IPAddress")
        found = [values.get("DhcpIPAddress"), *(fixed if isinstance(fixed, list) else [fixed])]
        addresses = [str(one) for one in found if one and str(one) not in ("0.0.0.0", "")]
        if addresses:
            yield Fact("address", name, {"addresses": addresses, "domain": values.get("DhcpDomain"), **dirty},
                       f"{path}\\{name}")  # fmt: skip


def software(hive: Hive) -> Iterator[Fact]:
    """The facts of the hive SOFTWARE."""
    dirty = hive.about
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
    for key in hive.below(path):
        values = key.values()
        if called := values.get("ProfileName"):
            value = {which: _system_time(values.get(key)) for which, key in
                     (("first_local", "DateCreated"), ("last_local", "DateLastConnected"))}  # fmt: skip
            yield Fact("network", str(called), value | dirty, f"{path}\\{key.name}")


def _system_time(data: Any) -> str | None:
    """A SYSTEMTIME, which is in the time of the machine."""
    if not isinstance(data, bytes) or len(data) < 16:
        return None
    year, month, _, day, hour, minute, second, milliseconds = struct.unpack_from("<8H", data)
    with suppress(ValueError):
        return datetime(year, month, day, hour, minute, second, milliseconds * 1000).isoformat()
    return None
