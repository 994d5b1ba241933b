"""Files of the invented server of mesa.py in which Windows keeps traces: registry hives and Prefetch."""

import codecs
import struct
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import mesa

from prefetch import Volume, prefetch
from registry import filetime, hive, log_of

SELDOM = bytes(8)
EXPLORER = "Software\\Microsoft\\Windows\\CurrentVersion\\Explorer"
GUID = "{6f1a2b3c-0000-4000-8000-123456789abc}"
OTHER = "{6f1a2b3c-0000-4000-8000-000000000000}"
OF_WINDOWS = ["\\WINDOWS\\SYSTEM32\\NTDLL.DLL", "\\WINDOWS\\NOTEPAD.EXE"]
OS = Volume("\\VOLUME{01d0-11112222}", 0x11112222, mesa.at("10:00:00", 1), OF_WINDOWS)
STICK = Volume("\\VOLUME{01d1-E8737BAF}", 0xE8737BAF, mesa.at("10:00:00", 2), ["\\FTK IMAGER\\FTK IMAGER.EXE"])


def started(count: int, time: datetime | None, seconds: int = 0) -> bytes:
    """An entry of UserAssist."""
    return struct.pack("<LLLL44x8s4x", 0, count, 1, seconds * 1000, filetime(time) if time else SELDOM)


def state(
    number: int, logon: datetime | None = None, flags: int = 0x10, logons: int = 0, failed: datetime | None = None
) -> bytes:
    """The value F of an account."""
    times = [filetime(time) if time else SELDOM for time in (logon, mesa.at("08:00:00", 1), failed)]
    return struct.pack("<LL8s8x8s8x8sLLHHHHHH", 2, 0, *times, number, 513, flags, 0, 0, 0, 3, logons).ljust(80, b"\0")


USERS = "SAM\\Domains\\Account\\Users"
SECRET = b"not to be read: hashes"
SAM: dict[str, dict[str, Any]] = {
    "SAM\\Domains\\Account": {"V": b"head" * 9 + struct.pack("<3L", 1, 2, 3)},
    f"{USERS}\\000001F5": {"F": state(501, flags=0x15), "V": SECRET},
    f"{USERS}\\000001F4": {"F": state(500, flags=0x11), "V": SECRET},
    f"{USERS}\\00000450": {
        "F": state(1104, mesa.at("22:24:16"), 0x14, 41, mesa.at("22:24:07")), "V": SECRET,
    },
    f"{USERS}\\Names\\Administrator": {"": (500, b"")},
    f"{USERS}\\Names\\Guest": {"": (501, b"")},
    f"{USERS}\\Names\\emsadmin": {"": (1104, b"")},
}  # fmt: skip
NTUSER: dict[str, dict[str, Any]] = {
    f"{EXPLORER}\\UserAssist\\{{CEBFF5CD}}\\Count": {
        codecs.encode("F:\\FTK Imager\\FTK Imager.exe", "rot13"): started(2, mesa.at("22:27:01"), 90),
        codecs.encode("{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\\cmd.exe", "rot13"): started(3, None),
        codecs.encode("UEME_CTLSESSION", "rot13"): started(9, None),
        codecs.encode("C:\\never.exe", "rot13"): started(0, None),
        "odd": b"odd",
    },
    f"{EXPLORER}\\MountPoints2\\{GUID}": {},
    f"{EXPLORER}\\MountPoints2\\##server#share": {},
}  # fmt: skip
WRITTEN = {f"{EXPLORER}\\MountPoints2\\{GUID}": mesa.at("22:26:14")}
FILE = "Root\\InventoryApplicationFile"
AMCACHE: dict[str, dict[str, Any]] = {
    f"{FILE}\\ftk imager.exe|1": {
        "LowerCaseLongPath": "f:\\ftk imager\\ftk imager.exe", "FileId": "0000" + "ab" * 20, "Size": 8192,
        "Publisher": "exterro", "ProductName": "ftk imager", "Version": "4.2.0.13",
    },
    f"{FILE}\\notepad.exe|2": {"LowerCaseLongPath": "c:\\windows\\notepad.exe", "FileId": "", "Size": "0x10"},
    "Root\\File\\volume\\100000169dd": {"15": "C:\\old\\kape.exe", "101": "0000" + "cd" * 20, "6": 5, "5": "1.2"},
    "Root\\InventoryDevicePnp\\usbstor/disk&ven_wd&prod_easystore&rev_3012/wx71d39l4f&0": {
        "BusReportedDescription": "easystore 264D", "Manufacturer": "(Standard disk drives)",
    },
    "Root\\InventoryDevicePnp\\scsi/disk/1": {"Model": "no USB disk"},
}  # fmt: skip
LISTED = {path: mesa.at("21:00:00", 22) for path in AMCACHE}


def cache(layout: str, *paths: str) -> bytes:
    """ShimCache as some versions of Windows have it."""
    time = filetime(mesa.at("09:00:00", 3))
    coded = [path.encode("utf-16-le") for path in paths]
    if layout in ("7", "7, 32 bits"):
        size = 48 if layout == "7" else 32
        at, entries = 128 + size * len(coded), b""
        for one in coded:
            place = struct.pack("<4xQ", at) if layout == "7" else struct.pack("<L", at)
            entries += (struct.pack("<HH", len(one), len(one) + 2) + place + time).ljust(size, b"\0")
            at += len(one)
        return struct.pack("<LL", 0xBADC0FEE, len(coded)).ljust(128, b"\0") + entries + b"".join(coded)
    before = {"10": b"", "8": bytes(8), "8.1": struct.pack("<H", 4) + b"pack" + bytes(8)}[layout]
    entries = b""
    for one in coded:
        body = struct.pack("<H", len(one)) + one + before + time + struct.pack("<L", 0)
        entries += struct.pack("<4sLL", b"00ts" if layout == "8" else b"10ts", 0, len(body)) + body
    head = struct.pack("<L", 52).ljust(52, b"\0") if layout == "10" else struct.pack("<L", 128).ljust(128, b"\0")
    return head + entries + bytes(128)


MOUNTED: Mapping[str, Mapping[str, Any]] = {
    "MountedDevices": {
        "\\DosDevices\\F:": bytes(range(12)), f"\\??\\Volume{GUID}": bytes(range(12)),
        f"\\??\\Volume{OTHER}": bytes(12),
    },
    "ControlSet001\\Control\\Session Manager\\AppCompatCache": {
        "AppCompatCache": cache("10", "F:\\FTK Imager\\FTK Imager.exe", "C:\\Windows\\notepad.exe"),
    },
}  # fmt: skip


def files() -> dict[str, bytes]:
    """The files by their paths on the machine's volume."""
    run = mesa.at("22:27:02")
    user = hive(NTUSER, written=WRITTEN, dirty=True)
    empty = hive({"Software": {}}, dirty=True)
    return {
        "Windows/System32/config/SYSTEM": hive(MOUNTED),
        "Windows/System32/config/SAM": hive(SAM, dirty=True),
        "Windows/appcompat/Programs/Amcache.hve": hive(AMCACHE, written=LISTED),
        "Windows/Prefetch/FTK IMAGER.EXE-07476F82.pf": prefetch("FTK IMAGER.EXE", [run], [OS, STICK]),
        "Windows/Prefetch/NOTEPAD.EXE-07476F82.pf": prefetch("NOTEPAD.EXE", [run], [OS]),
        "Users/emsadmin/NTUSER.DAT": empty,
        "Users/emsadmin/ntuser.dat.LOG1": log_of([empty, user]),
        "Users/emsadmin/ntuser.dat.LOG2": b"",
    }  # fmt: skip


def written_to(folder: Path, content: Mapping[str, bytes]) -> Path:
    """Write files into a folder."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


if __name__ == "__main__":
    gone = "Windows/Prefetch/GONE.EXE-07476F82.pf"  # make.sh deletes it
    written_to(Path(sys.argv[1]), files() | {gone: prefetch("GONE.EXE", [mesa.at("20:00:00")], [OS])})
