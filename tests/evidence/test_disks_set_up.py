"""USB disks that only the records of their set-up tell of."""

from typing import Any

import pytest
from made_up import case, log, record, texts

from fanfold.evidence.report.rules import devices

USBSTOR = "USBSTOR\\Disk&Ven_WD&Prod_easystore_264D&Rev_3012\\WX71D39L4F&0"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"event_id": 400, "log": "Kernel-PnP/Configuration", "provider": "Kernel-PnP"}, "DeviceInstanceId"),
        ({"event_id": 20001, "log": "System", "provider": "UserPnp"}, "DeviceInstanceID"),
        ({"event_id": 6416}, "DeviceId"),
    ],
)
def test_a_disk_that_only_its_set_up_tells(given: dict[str, Any], name: str) -> None:
    """A disk that Windows set up is in the report, also if Partition/Diagnostic has no record of it, or has others."""
    plugged = record(time="12:00:00", **given, **{name: USBSTOR})
    words = f"Windows recognized the USB disk {USBSTOR.upper()}, Sun 23 May 2021, 12:00:00 UTC."
    there = [log("Partition%4Diagnostic")]
    assert texts(devices.RULE, case(plugged, logs=there)) == [(words, "shown")]
    disk = {"BusType": 7, "Capacity": 1000, "Model": "Stick"}
    other = record(1006, "15:00:00", "Partition/Diagnostic", **disk, ParentId=r"USB\VID_1\OTHER", SerialNumber="1")
    assert (words, "shown") in texts(devices.RULE, case(plugged, other, logs=there))
    same = record(1006, "15:00:00", "Partition/Diagnostic", **disk, ParentId=r"USB\VID_1\WX71D39L4F")
    near = record(1006, "12:00:03", "Partition/Diagnostic", **disk, ParentId=r"USB\VID_1\6&1f2e3d")
    for one in (same, near):
        assert not [text for text, _ in texts(devices.RULE, case(plugged, one, logs=there)) if "recognized" in text]


def test_devices_that_are_no_usb_disks() -> None:
    """Other devices that Windows set up do not keep the report from saying that no USB disk is recorded."""
    names = enumerate(("USB\\VID_046D\\1", "SCSI\\Disk&Ven_VMware\\1"), 1)
    plug = "Kernel-PnP/Configuration", "Kernel-PnP"
    others = [record(400, "12:00:00", plug[0], number, plug[1], DeviceInstanceId=name) for number, name in names]
    given = case(*others, logs=[log("Partition%4Diagnostic")])
    assert texts(devices.RULE, given) == [("No USB disk is recorded.", "shown")]
