"""USB disks that Windows recognized, by records that tell less than those of the log Partition.

Windows 7 to 8.1 and their servers have no log Partition. Their records have the instance of the device:

    WpdBusEnumRoot\\UMB\\...#_??_USBSTOR#DISK&VEN_SANDISK&PROD_CRUZER&REV_1.20#200608767007B7C08A6A&0#
    USBSTOR\\Disk&Ven_SanDisk&Prod_Cruzer&Rev_1.20\\200608767007B7C08A6A&0
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, more, status_of
from fanfold.evidence.report.record import Record

_INSTANCE = re.compile(r"USBSTOR[#\\]DISK&VEN_([^&#\\]*)&PROD_([^&#\\]*)[^#\\]*[#\\]([^#\\]+)", re.IGNORECASE)
_TELLING = (
    ("DriverFrameworks-UserMode", (2003,), "InstanceId"),  # drivers are loaded for it
    ("UserPnp", (20001, 20003), "DeviceInstanceID"),  # it is set up
    ("Kernel-PnP", (400, 410), "DeviceInstanceId"),  # it is set up, and started
    ("Security-Auditing", (6416,), "DeviceId"),  # it was recognized
)
IDS = tuple(event_id for _, ids, _ in _TELLING for event_id in ids)
"""The events that are looked at."""
_TOGETHER = timedelta(minutes=1)  # records of one connection
_SHOWN = 20  # disks that are listed


def recognized(case: Case, known: Sequence[tuple[datetime, str]]) -> Iterator[Finding]:
    """The disks that were there, each with the last time.

    `known`: when disks were connected, by better records, each with its serial number, which may be empty.
    """
    found: dict[str, list[Record]] = {}
    names: dict[str, str] = {}
    for provider, ids, value in _TELLING:
        for record in case.of(provider, *ids):
            instance = _INSTANCE.search(record.text(value))
            if not instance or not record.time:
                continue
            key = instance[3].upper()
            if any(abs(record.time - time) <= _TOGETHER and serial.upper() in key for time, serial in known):
                continue
            found.setdefault(key, []).append(record)
            names.setdefault(key, words(instance[0]))
    latest = sorted(found.items(), key=lambda one: max(record.time for record in one[1] if record.time))
    for key, records in latest[-_SHOWN:][::-1]:
        yield _finding(case, names[key], records)
    if hidden := latest[:-_SHOWN]:
        yield more("usb.recognized_more", hidden, "USB disk", " before these", hidden[0][1][:1])


def _finding(case: Case, name: str, records: Sequence[Record]) -> Finding:
    by_time = sorted((record for record in records if record.time), key=lambda record: record.time or datetime.max)
    times: list[Record] = []
    for record in by_time:
        if not times or not times[-1].time or not record.time or record.time - times[-1].time > _TOGETHER:
            times.append(record)
    last = times[-1]
    often = f"; {len(times):,} times, the first {case.when(times[0]).removesuffix(': ')}" if len(times) > 1 else ""
    text = f"{case.when(last)}the USB disk {name}, was there{often}."
    reason = "Windows set it up then: it had just been connected, or was there when the machine started"
    ordered = [last, *(record for record in by_time if record is not last)]
    return Finding("usb.recognized", text, status_of(last), last.time, ordered, reason)


def words(device: str) -> str:
    """A disk in words, by the instance of its device: SanDisk "Cruzer", serial (USB) 200608767007B7C08A6A."""
    found = _INSTANCE.search(device)
    if not found:
        return device
    maker, model, instance = found.groups()
    name = " ".join(filter(None, [maker.strip("_"), f'"{model.strip("_")}"' if model.strip("_") else ""]))
    serial = instance.rpartition("&")[0] or instance
    made_up = instance[1:2] == "&"  # by Windows, for a device that has none
    return f"{name or 'of an unknown maker'}, {'no serial' if made_up else f'serial (USB) {serial}'}"
