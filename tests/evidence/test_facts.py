"""Facts from registry hives and texts, and what a report makes of them."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import mesa
import pytest
from scans import rows, scan

from commands import fanfold as command
from event_logs import Event, write_log
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts import Fact, facts_of
from fanfold.evidence.report.report import made
from registry import filetime, hive

STICK = "ControlSet002\\Enum\\USBSTOR\\Disk&Ven_SanDisk&Prod_Cruzer_Glide&Rev_1.20\\4C530001&0"
DATES = f"{STICK}\\Properties\\{{83da6326-97a6-4088-9453-a1923f573b29}}"
MADE_UP = "ControlSet002\\Enum\\USBSTOR\\Disk&Ven_&Prod_Flash&Rev_1\\6&2ab&0"
DEVICE = "_??_USBSTOR#Disk&Ven_SanDisk&Prod_Cruzer_Glide&Rev_1.20#4C530001&0#{53f56307}"
SYSTEM: dict[str, dict[str, Any]] = {
    "Select": {"Current": 2},
    "ControlSet001\\Control\\ComputerName\\ComputerName": {"ComputerName": "OLD"},
    "ControlSet002\\Control\\ComputerName\\ComputerName": {"ComputerName": "EMSSERVER"},
    "ControlSet002\\Control\\TimeZoneInformation": {
        "TimeZoneKeyName": "Mountain Standard Time".encode("utf-16-le") + b"\0\0\x31\x74\xff", "ActiveTimeBias": 360,
    },
    "ControlSet002\\Control\\Windows": {"ShutdownTime": filetime(mesa.at("10:00:00", 19))},
    STICK: {"FriendlyName": "SanDisk Cruzer Glide USB Device"},
    f"{DATES}\\0064": {"": filetime(mesa.at("15:00:00", 21))},
    f"{DATES}\\0066": {"": filetime(mesa.at("16:00:00", 22))},
    MADE_UP: {"FriendlyName": "Flash"},
    f"{MADE_UP}\\Properties\\{{83da6326-97a6-4088-9453-a1923f573b29}}\\00000064\\00000000": {
        "Data": filetime(mesa.at("11:00:00", 20)),
    },
    "MountedDevices": {"\\DosDevices\\G:": DEVICE.encode("utf-16-le"), "\\DosDevices\\C:": bytes(range(12)),
                       "\\??\\Volume{1}": b"x"},
    "ControlSet002\\Services\\Tcpip\\Parameters\\Interfaces\\{a}": {"DhcpIPAddress": "192.168.100.10"},
    "ControlSet002\\Services\\Tcpip\\Parameters\\Interfaces\\{b}": {"DhcpIPAddress": "0.0.0.0"},
}  # fmt: skip
SOFTWARE: dict[str, dict[str, Any]] = {
    "Microsoft\\Windows NT\\CurrentVersion": {
        "ProductName": "Windows Server 2016 Standard", "CurrentBuild": "14393", "UBR": 4350, "ReleaseId": "1607",
        "InstallDate": 1560000000,
    },
    "Microsoft\\Windows NT\\CurrentVersion\\NetworkList\\Profiles\\{p}": {
        "ProfileName": "office", "DateCreated": bytes.fromhex("e5070500000017001000 1e0000000000"),
    },
}  # fmt: skip
DEVICE_NAME = "USBSTOR\\Disk&Ven_SanDisk&Prod_Cruzer_Glide&Rev_1.20\\4C530001&0"
SETUPS = "\r\n".join([
    f">>>  [Device Install (Hardware initiated) - {DEVICE_NAME}]",
    ">>>  Section start 2021/05/21 09:00:01.123",
    ">>>  [Device Install (Hardware initiated) - SWD\\PRINTENUM\\x]",
    ">>>  Section start 2021/05/22 09:00:01.123",
])  # fmt: skip
LAUNCHES = "\r\n".join([
    "C:\\Windows\\notepad.exe|2021-05-23 22:00:00.000", "G:\\tools\\dumpit.exe|2021-05-23 22:10:00.500", "noise",
])  # fmt: skip
CONFIG = "C/Windows/System32/config"


def found(name: str, data: bytes) -> dict[tuple[str, str], dict[str, Any]]:
    """The values of the facts of a file, by kind and name."""
    return {(fact.kind, fact.name): fact.value for fact in facts_of(name, data)}


def test_the_hive_system() -> None:
    """Names, zone, disks, letters and addresses are those of the current control set."""
    facts = found("SYSTEM", hive(SYSTEM))
    assert ("name", "EMSSERVER") in facts
    assert facts["zone", "Mountain Standard Time"] == {"active_bias": 360}
    assert facts["shutdown", "last"] == {"time": "2021-05-19T10:00:00+00:00"}
    stick = facts["usb", "4C530001&0"]
    assert (stick["vendor"], stick["model"], stick["serial"]) == ("SanDisk", "Cruzer Glide", "4C530001")
    assert (stick["first_installed"], stick["last_removed"]) == ("2021-05-21T15:00:00+00:00", None)
    other = facts["usb", "6&2ab&0"]
    assert (other["serial"], other["first_installed"]) == ("", "2021-05-20T11:00:00+00:00")
    assert facts["letter", "G:"]["instance"] == "4C530001&0"
    assert facts["letter", "C:"] == {"identity": bytes(range(12)).hex()}
    assert [value for (kind, _), value in facts.items() if kind == "address"] == [
        {"addresses": ["192.168.100.10"], "domain": None}
    ]


def test_a_dirty_hive_says_so() -> None:
    """The latest changes of a hive that was in use are in its transaction logs."""
    assert all(value["dirty"] for value in found("SYSTEM", hive(SYSTEM, dirty=True)).values())


def test_a_hive_without_usb_disks() -> None:
    """A hive without the key of USB disks has none, and is no failure."""
    facts = found("SYSTEM", hive({path: values for path, values in SYSTEM.items() if "USBSTOR" not in path}))
    assert not any(kind == "usb" for kind, _ in facts)
    assert ("name", "EMSSERVER") in facts


def test_the_hive_software() -> None:
    """The product, when it was installed, and the networks, whose times are the machine's."""
    facts = found("SOFTWARE", hive(SOFTWARE))
    assert facts["system", "Windows Server 2016 Standard"] == {
        "build": "14393.4350", "version": "1607", "installed": "2019-06-08T13:20:00+00:00",
    }  # fmt: skip
    assert facts["network", "office"] == {"first_local": "2021-05-23T16:30:00", "last_local": None}


@pytest.mark.parametrize("device", [
    "SWD\\WPDBUSENUM\\_??_USBSTOR#Disk&Ven_WD&Prod_easystore&Rev_1#WX71&0#{53f56307-b6bf-11d0-94f2-00a0c91efb8b}",
    "WpdBusEnumRoot\\UMB\\2&37c186b&0&STORAGE#VOLUME#_??_USBSTOR#Disk&Ven_WD&Prod_easystore&Rev_1#WX71&0#",
    "USBSTOR\\Disk&Ven_WD&Prod_easystore&Rev_1\\WX71&0",
])  # fmt: skip
def test_set_ups_of_a_disk_by_its_volume(device: str) -> None:
    """Windows may set up the volume alone, as a portable device; the first set-up of a disk counts."""
    lines = [
        line
        for second in ("01", "02")
        for line in (f">>>  [Device Install (x) - {device}]", f">>>  Section start 2021/05/21 09:00:{second}.000")
    ]
    (fact,) = facts_of("setupapi.dev.log", "\r\n".join(lines).encode())
    assert (fact.name, fact.value) == (
        "USBSTOR\\Disk&Ven_WD&Prod_easystore&Rev_1\\WX71&0", {"first_local": "2021-05-21T09:00:01"},
    )  # fmt: skip


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_texts_in_any_coding(coding: str) -> None:
    """Set-ups of USB disks and launches of programs, with the number of their line."""
    assert list(facts_of("setupapi.dev.log", SETUPS.encode(coding))) == [
        Fact("setup", DEVICE_NAME, {"first_local": "2021-05-21T09:00:01.123000"}, "line 2")
    ]
    assert [
        (fact.name, fact.value["time"], fact.source)
        for fact in facts_of("PcaAppLaunchDic.txt", LAUNCHES.encode(coding))
    ] == [
        ("C:\\Windows\\notepad.exe", "2021-05-23T22:00:00+00:00", "line 1"),
        ("G:\\tools\\dumpit.exe", "2021-05-23T22:10:00.500000+00:00", "line 2"),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_no_damage_of_a_hive_is_too_much(seed: int) -> None:
    """A damaged hive gives what can be read of it, or is refused."""
    some = random.Random(seed)
    data = bytearray(hive(SYSTEM))
    for _ in range(some.choice([1, 5, 50])):
        data[some.randrange(some.choice([600, len(data)]))] = some.randrange(256)
    if seed % 4 == 0:
        del data[some.randrange(len(data)) :]
    try:
        json.dumps([fact._asdict() for fact in facts_of("SYSTEM", bytes(data))], default=str)
    except Unreadable as error:
        assert str(error).startswith("This registry hive cannot be read")  # noqa: PT017


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """What KAPE collects of a machine whose logs tell little."""
    folder = tmp_path / "given" / "host1"
    for name, data in {
        f"{CONFIG}/SYSTEM": hive(SYSTEM),
        f"{CONFIG}/SOFTWARE": hive(SOFTWARE),
        "C/Windows/INF/setupapi.dev.log": SETUPS.encode(),
        "C/Windows/appcompat/pca/PcaAppLaunchDic.txt": LAUNCHES.encode(),
        "C/Windows/System32/config/SAM": b"regf",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_log(folder / "C/Windows/System32/winevt/Logs/System.evtx", [
        Event(1, 7036, mesa.at("22:00:00"), "Service Control Manager", "System", "EMSSERVER"),
    ])  # fmt: skip
    return folder


SENTENCES = (
    "Windows Server 2016 Standard 1607 build 14393.4350, installed Sat 8 Jun 2019, 07:20:00 MDT (13:20:00 UTC).",
    "Time zone: Mountain Standard Time.",
    "Its address was 192.168.100.10.",
    'The registry knows the USB disk SanDisk "Cruzer Glide", serial (USB) 4C530001: first set up Fri 21 May 2021, '
    "09:00:00 MDT (15:00:00 UTC); last connected Sat 22 May 2021, 10:00:00 MDT (16:00:00 UTC).",
    "It was first set up 2021-05-21 09:00:01, by the machine's clock.",
    "G: was last a volume of this disk.",
    "No record tells when a USB disk was connected.",
    "Sun 23 May 2021, 16:10:00 MDT (22:10:00 UTC): G:\\tools\\dumpit.exe, a program that copies memory, "
    "last launched then. Which disk G: was then is not recorded.",
)


def test_a_report_on_a_collection(collection: Path, database: str) -> None:
    """The files beside the logs give sentences that name them, and the place in them."""
    scan(collection.parent, database)
    findings = {finding.text: finding for finding in made(database, "host1").findings}
    assert [sentence for sentence in SENTENCES if sentence not in findings] == []
    assert [*findings[SENTENCES[5]].files] == ["SYSTEM: MountedDevices, the value \\DosDevices\\G:"]
    done = command("evidence", "report", database, "--json")
    assert "PcaAppLaunchDic.txt: line 2" in done.stdout


def test_a_collection_in_an_archive(collection: Path, tmp_path: Path, database: str) -> None:
    """The same from a zip archive."""
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips" / "host1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in collection.rglob("*"):
            archive.write(file, file.relative_to(collection))
    scan(tmp_path / "zips", database)
    assert {*SENTENCES} <= {finding.text for finding in made(database, "host1.zip").findings}


def test_a_hive_that_says_impossible_things(tmp_path: Path, database: str) -> None:
    """A time beyond the end of time costs that fact, and nothing else."""
    strange = {**SOFTWARE, "Microsoft\\Windows NT\\CurrentVersion": {"ProductName": "X", "InstallDate": b"\xff" * 8}}
    assert found("SOFTWARE", hive(strange))["system", "X"]["installed"] is None
    folder = tmp_path / "given" / "host1" / "C/Windows/System32/config"
    folder.mkdir(parents=True)
    (folder / "SOFTWARE").write_bytes(hive(strange))
    write_log(folder / "System.evtx", [Event(1, 1, mesa.at("12:00:00"))])
    _, report = scan(tmp_path / "given", database)
    assert (report.ok, report.failed, report.lost) == (2, 0, 0)


def test_a_text_that_is_made_to_take_long() -> None:
    """A long line of beginnings takes no longer than its length."""
    assert list(facts_of("setupapi.dev.log", b">>>  [Device Install (" * 200_000)) == []
    assert list(facts_of("setupapi.dev.log", b"\n" * 2_000_000)) == []


def test_a_hive_that_is_none(tmp_path: Path, database: str) -> None:
    """A damaged hive is a failure of its own, and the rest is read."""
    folder = tmp_path / "given" / "host1" / "C/Windows/System32/config"
    folder.mkdir(parents=True)
    (folder / "SYSTEM").write_bytes(b"regf" + bytes(5000))
    (folder / "SOFTWARE").write_bytes(hive(SOFTWARE))
    _, report = scan(tmp_path / "given", database)
    assert (report.ok, report.failed) == (1, 1)
    (failure,) = rows(database, "failures")
    assert "This registry hive cannot be read" in failure["message"]
