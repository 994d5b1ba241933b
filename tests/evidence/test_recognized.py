"""USB disks by the records of Windows 7 and 8, which have no log Partition."""

from typing import Any

import pytest
from made_up import case, log, record, texts
from mesa import DISK

from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import devices, neighbours

SERIAL = "200608767007B7C08A6A"
PLAIN = f"USBSTOR\\Disk&Ven_SanDisk&Prod_Cruzer&Rev_1.20\\{SERIAL}&0"
OF_A_VOLUME = (
    f"WPDBUSENUMROOT\\UMB\\2&37C186B&0&STORAGE#VOLUME#_??_USBSTOR#DISK&VEN_SANDISK&PROD_CRUZER&REV_1.20#{SERIAL}&0#"
)


def seen(provider: str, event_id: int, time: str = "12:00:00", number: int = 1, **data: Any) -> Record:
    """A record of a device that Windows recognized."""
    return record(event_id, time, log="System", number=number, provider=provider, **data)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (seen("DriverFrameworks-UserMode", 2003, InstanceId=OF_A_VOLUME), 'SANDISK "CRUZER"'),
        (seen("UserPnp", 20001, DeviceInstanceID=PLAIN), 'SanDisk "Cruzer"'),
        (seen("Kernel-PnP", 410, DeviceInstanceId=PLAIN), 'SanDisk "Cruzer"'),
        (seen("Security-Auditing", 6416, DeviceId=PLAIN), 'SanDisk "Cruzer"'),
    ],
)
def test_a_disk_that_was_recognized(given: Record, name: str) -> None:
    """Each of these records tells which disk was there, and when."""
    (found, *_) = texts(devices.RULE, case(given, logs=[log("System")]))
    text = f"Sun 23 May 2021, 12:00:00 UTC: the USB disk {name}, serial (USB) {SERIAL}, was there."
    assert found == (text, "shown")


def test_records_of_one_connection_count_once() -> None:
    """Several records within a minute are one time, and the first time is told beside the last."""
    given = [
        seen("UserPnp", 20001, "12:00:00", 1, DeviceInstanceID=PLAIN),
        seen("UserPnp", 20003, "12:00:02", 2, DeviceInstanceID=PLAIN),
        seen("DriverFrameworks-UserMode", 2003, "15:00:00", 3, InstanceId=OF_A_VOLUME),
    ]
    (found, *_) = texts(devices.RULE, case(*given))
    assert found[0].endswith(f"{SERIAL}, was there; 2 times, the first Sun 23 May 2021, 12:00:00 UTC.")
    assert found[0].startswith("Sun 23 May 2021, 15:00:00 UTC")


def test_a_serial_that_windows_made_up() -> None:
    """An instance whose second character is & is not a serial number."""
    instance = "USBSTOR\\Disk&Ven_&Prod_USB_DISK&Rev_1.0\\7&2A6E5F3&0"
    (found, *_) = texts(devices.RULE, case(seen("UserPnp", 20001, DeviceInstanceID=instance)))
    assert 'the USB disk "USB_DISK", no serial, was there.' in found[0]


@pytest.mark.parametrize("instance", ["USB\\VID_0781&PID_5530\\1", "USBSTOR\\CdRom&Ven_A&Prod_B&Rev_1\\1&0", ""])
def test_other_devices_are_no_disks(instance: str) -> None:
    """A device that is no USB disk is not told."""
    given = case(seen("UserPnp", 20001, DeviceInstanceID=instance))
    assert [text for text, _ in texts(devices.RULE, given)] == ["No USB disk is recorded."]


@pytest.mark.parametrize(("number", "is_another"), [(SERIAL, False), ("6&1F2E3D", False), ("WX71D39L4F", True)])
def test_a_disk_of_the_log_partition_is_told_once(number: str, is_another: bool) -> None:
    """Where the log Partition has the connection, records of the device at that time are no second one.

    Those of a device with another serial number are of another disk.
    """
    given = [
        record(1006, "12:00:05", log="Partition/Diagnostic", **DISK | {"ParentId": f"USB\\VID_1\\{number}"}),
        seen("Kernel-PnP", 410, "12:00:06", 2, DeviceInstanceId=PLAIN),
    ]
    assert any("was there" in text for text, _ in texts(devices.RULE, case(*given))) == is_another


def test_a_disk_that_only_the_log_of_set_ups_has() -> None:
    """It is told, also where the registry has it no longer."""
    setup = {"kind": "setup", "name": PLAIN, "value": {"first_local": "2021-05-21T09:00:01"},
             "path": "C:/Windows/INF/setupapi.dev.log", "source": "line 2"}  # fmt: skip
    zone = {"kind": "zone", "name": "UTC", "value": {}, "path": "C:/Windows/System32/config/SYSTEM", "source": ""}
    text = f'The USB disk SanDisk "Cruzer", serial (USB) {SERIAL}, was first set up 2021-05-21 09:00:01, '
    for facts, reason in (([setup], ""), ([setup, zone], "the registry does not have it")):
        (found, *_) = devices.RULE.answer(case(facts=facts))
        assert (found.text, found.status, found.reason) == (f"{text}by the machine's clock.", "shown", reason)


def test_networks_that_the_registry_knows() -> None:
    """Their times are those of the machine's clock."""
    fact = {"kind": "network", "name": "office", "value": {"first_local": "2021-05-23T16:30:00", "last_local": None},
            "path": "C:/Windows/System32/config/SOFTWARE", "source": "x"}  # fmt: skip
    (found, *_) = texts(neighbours.RULE, case(facts=[fact]))
    text = "The registry knows the network office: first 2021-05-23 16:30:00, by the machine's clock."
    assert found == (text, "shown")
