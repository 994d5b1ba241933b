"""An invented server: somebody sits down, connects a USB disk and runs an imaging program from it.

The times are UTC; the machine is in Mountain Time, six hours behind.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from disk_images import ewf, mbr, windows_volume, write_ewf
from event_logs import Event, write_log

HOST = "EMSSERVER"
ACQUIRED = "2021 5 23 16 29 51"
"""What the imaging program wrote into its image: the time of its machine, without a zone."""
SID = "S-1-5-21-1-2-3-1104"
DISK = {
    "DiskNumber": "2", "Capacity": "5000947302400", "BusType": "7", "Manufacturer": "WD", "Model": "easystore 264D",
    "SerialNumber": "575837314433394C3446", "ParentId": "USB\\VID_1058&PID_264D\\WX71D39L4F", "DiskId": "d1",
}  # fmt: skip
LOGON = {
    "TargetUserSid": SID, "TargetUserName": "emsadmin", "TargetDomainName": HOST, "LogonType": "2",
    "LogonProcessName": "User32 ", "ProcessName": "C:\\Windows\\System32\\svchost.exe", "IpAddress": "127.0.0.1",
}  # fmt: skip
SECURITY, KERNEL = "Microsoft-Windows-Security-Auditing", "Microsoft-Windows-Kernel-General"


def at(clock: str, day: int = 23) -> datetime:
    """A time of May 2021, in UTC."""
    return datetime.fromisoformat(f"2021-05-{day:02}T{clock}").replace(tzinfo=UTC)


def logs() -> dict[str, list[Event]]:
    """The logs by the names of their files."""
    return {
        "Security": [*_security()],
        "System": [*_system()],
        "Application": [_event(number, 1000, at("06:00:00", 20), "MsiInstaller", "Application") for number in (1, 2)],
        "Microsoft-Windows-Partition%4Diagnostic": [
            _event(1, 1006, at("10:00:01", 20), "Microsoft-Windows-Partition", "Partition",
                   {"Capacity": "1000204886016", "BusType": "8", "Model": "RAID", "SerialNumber": "0"}),
            _event(2, 1006, at("22:26:10"), "Microsoft-Windows-Partition", "Partition", DISK),
        ],
        "Microsoft-Windows-Kernel-PnP%4Configuration": [
            _event(88, 400, at("22:26:10"), "Microsoft-Windows-Kernel-PnP", "PnP",
                   {"DeviceInstanceId": "USBSTOR\\Disk&Ven_WD&Prod_easystore_264D&Rev_3012\\WX71D39L4F&0"}),
        ],
        "Microsoft-Windows-Ntfs%4Operational": [
            _event(141, 142, at("10:00:02", 20), "Microsoft-Windows-Ntfs", "Ntfs",
                   {"VolumeName": "C:", "IsBootVolume": "true"}),
            _event(142, 142, at("22:26:13"), "Microsoft-Windows-Ntfs", "Ntfs",
                   {"VolumeName": "F:", "IsBootVolume": "false", "VolumeGuid": "v1"}),
        ],
        "Microsoft-Windows-Application-Experience%4Program-Telemetry": [
            _event(112, 505, at("22:27:02"), "Microsoft-Windows-Application-Experience", "Telemetry",
                   {"ExePath": "F:\\FTK Imager\\FTK Imager.exe", "FileVersion": "4.2.0.13"}),
        ],
        "DNS Server": [
            _event(2, 2, at("10:00:40", 20), "Microsoft-Windows-DNS-Server-Service", "DNS Server"),
            _event(3, 4, at("10:00:41", 20), "Microsoft-Windows-DNS-Server-Service", "DNS Server"),
        ],
        "Microsoft-Windows-Dhcp-Server%4Operational": [
            _event(7, 1044, at("10:00:42", 20), "Microsoft-Windows-DHCP-Server", "Dhcp"),
        ],
        "Microsoft-Windows-PrintService%4Operational": [
            _event(61, 307, at("15:12:00", 21), "Microsoft-Windows-PrintService", "Print",
                   {"Param4": "\\\\CLIENT01", "Param5": "Dell Color MFP E310dw"}),
        ],
    }  # fmt: skip


def _event(
    number: int, event_id: int, time: datetime, provider: str, channel: str, data: dict[str, str] | None = None
) -> Event:
    return Event(number, event_id, time, provider, channel, HOST, data=data or {})


def _security() -> Iterator[Event]:
    def event(number: int, event_id: int, time: datetime, data: dict[str, str]) -> Event:
        return _event(number, event_id, time, SECURITY, "Security", data)

    yield event(31002, 4616, at("10:00:05", 20), {"PreviousTime": "-", "NewTime": "-"})
    for number in range(31003, 31060):
        who = ("ICC01", "192.168.100.31") if number % 2 else ("CLIENT01", "192.168.100.51")
        data = {"TargetUserSid": SID, "TargetUserName": "icc", "TargetDomainName": HOST, "LogonType": "3",
                "LogonProcessName": "NtLmSsp ", "WorkstationName": who[0], "IpAddress": who[1]}  # fmt: skip
        yield event(number, 4624, at(f"15:{number - 31003:02}:00", 21), data)
    yield event(31060, 5140, at("16:30:00", 21), {"ShareName": "\\\\*\\D", "IpAddress": "192.168.100.51"})
    window = {"TargetUserSid": "S-1-5-90-0-2", "TargetUserName": "DWM-2", "TargetDomainName": "Window Manager",
              "LogonType": "2", "LogonProcessName": "Advapi  ",
              "ProcessName": "C:\\Windows\\System32\\winlogon.exe"}  # fmt: skip
    yield event(51228, 4624, at("22:24:05"), window)
    yield event(51229, 4625, at("22:24:07"), LOGON | {"TargetUserSid": "S-1-0-0", "SubStatus": "0xc000006a"})
    tokens = {"TargetLogonId": "0x5f001", "TargetLinkedLogonId": "0x5f002"}
    yield event(51234, 4624, at("22:24:16"), LOGON | tokens)
    tokens = {"TargetLogonId": "0x5f002", "TargetLinkedLogonId": "0x5f001"}
    yield event(51235, 4624, at("22:24:16"), LOGON | tokens)


def _system() -> Iterator[Event]:
    yield _event(88001, 12, at("10:00:00", 20), KERNEL, "System", {"BuildVersion": "14393"})
    yield _event(88002, 24, at("10:00:03", 20), KERNEL, "System", {"CurrentBias": "360"})
    yield _event(88003, 6005, at("10:00:04", 20), "EventLog", "System")
    yield _event(88004, 6013, at("18:00:00", 21), "EventLog", "System", {"7": "420 Mountain Standard Time"})
    yield _event(88121, 7036, at("22:29:49"), "Service Control Manager", "System", {"param1": "VSS"})


def write(folder: Path) -> None:
    """Write the logs into a folder. They were in use: nobody shut the machine down."""
    for name, events in logs().items():
        write_log(folder / f"{name}.evtx", events, dirty=True)


def disk_image(folder: Path) -> Path:
    """Write the server's disk image, whose volume has these logs; see volumes/make.sh."""
    return write_ewf(folder / "mesa.E01", ewf(mbr(windows_volume("mesa")), acquired=ACQUIRED))[0]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
