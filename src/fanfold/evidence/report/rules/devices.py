"""Which USB disks were connected, and under which letter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.facts import file_of, moment, user_of
from fanfold.evidence.report.findings import Finding, Rule, Status, more, reason_of, size_in_words, status_of
from fanfold.evidence.report.record import Record

_SHOWN = 20  # disks that are listed
_USB = 7  # STORAGE_BUS_TYPE: BusTypeUsb
_AT_ONCE = timedelta(seconds=10)
"""A volume that is mounted so soon after a disk was connected is taken for one of it."""


_TIMES = (
    ("first_installed", "first set up"),
    ("last_connected", "last connected"),
    ("last_removed", "last taken out"),
)


@dataclass
class Connection:
    """A USB disk, from when it was connected to when it was taken out."""

    record: Record
    until: datetime | None = None
    """When it was taken out; None if no record tells."""
    ended: Record | None = None
    letters: dict[str, list[Record]] = field(default_factory=dict)
    """The letters of its volumes, each with the records that tell."""
    letter_status: Status = "likely"
    given: dict[str, datetime] = field(default_factory=dict)
    """When one of its letters was given to another volume."""

    @property
    def since(self) -> datetime:
        """When it was connected."""
        assert self.record.time
        return self.record.time

    def held(self, letter: str, time: datetime) -> bool:
        """Whether a letter was this disk's at a time."""
        ends = [end for end in (self.until, self.given.get(letter)) if end]
        return letter in self.letters and self.since <= time and all(time <= end for end in ends)


def name_of(record: Record) -> str:
    """A disk's maker and model: WD "easystore 264D"."""
    maker, model = record.text("Manufacturer"), record.text("Model")
    return " ".join(filter(None, [maker, f'"{model}"' if model else ""])) or "of an unknown maker"


def serials(record: Record) -> str:
    """A disk's serial numbers: the one that the disk gives, and the one of the USB device."""
    disk = record.text("SerialNumber")
    device = record.text("ParentId").rpartition("\\")[2]
    found = [f"serial (SCSI) {disk}"] if disk else []
    if device and device[1:2] != "&" and device != disk:  # with one, Windows has made it up
        found.append(f"serial (USB) {device}")
    return ", ".join(found) or "no serial"


def connections(case: Case) -> list[Connection]:
    """The USB disks that were connected, in the order of the records.

    A disk that is there when the machine starts is recorded again, so a connection ends with the machine's run.
    """
    found: list[Connection] = []
    for record in case.of("Partition", 1006):
        if record.number("BusType") != _USB or not record.time:
            continue
        before = next((one for one in reversed(found) if _same_disk(one.record, record)), None)
        if before and before.until is None:
            before.until = record.time
            before.ended = None if record.number("Capacity") else record  # a capacity of 0: it was taken out
        if record.number("Capacity"):
            found.append(Connection(record))
    starts = sorted(record.time for record in case.of("Kernel-General", 12) if record.time)
    for connection in found:
        after = next((time for time in starts if time > connection.since), None)
        if after and (connection.until is None or after < connection.until):
            connection.until, connection.ended = after, None
    fixed = built_in(case)
    for connection in found:
        _find_letters(case, connection, found, fixed)
    return found


def built_in(case: Case) -> set[str]:
    """The letters of volumes that are not on USB, as Ntfs names them."""
    named = case.of("Ntfs", 4, 9, 10)
    return {record.text("VolumeId").upper() for record in named if record.number("BusType") not in (None, _USB)} - {""}


def noted(case: Case, found: Sequence[Connection]) -> list[Record]:
    """The records of USB disks of which none tells when they were connected."""
    known = [connection.record for connection in found]
    return [
        record
        for record in case.of("Partition", 1006)
        if record.number("BusType") == _USB and not any(_same_disk(record, one) for one in known)
    ]


def _same_disk(one: Record, other: Record) -> bool:
    keys = ("SerialNumber", "ParentId", "DiskId")
    return any(one.text(key) and one.text(key) == other.text(key) for key in keys)


def _find_letters(case: Case, connection: Connection, all_of_them: Sequence[Connection], fixed: set[str]) -> None:
    """Find the letters of a disk: by its serial number where Ntfs gives it, else by the time."""
    serial = connection.record.text("SerialNumber")
    for record in case.of("Ntfs", 4, 9, 10):
        letter = record.text("VolumeId").upper()
        numbers = (record.text("DeviceSerialNumber"), record.text("AdapterSerialNumber"))
        if not (_is_letter(letter) and _within(connection, record)):
            continue
        if record.number("BusType") == _USB and serial and serial in numbers:
            connection.letters.setdefault(letter, []).append(record)
            connection.letter_status = status_of(record)
        elif letter in connection.letters and record.time:
            connection.given.setdefault(letter, record.time)  # another volume has it now
    if connection.letters:
        return
    for record in [*case.of("Ntfs", 142), *case.of("Kernel-IO", 1, 2)]:
        letter = record.text("VolumeName").upper()
        is_new = record.time and timedelta() <= record.time - connection.since <= _AT_ONCE
        is_boot = str(record.data.get("IsBootVolume")).lower() == "true"
        if _is_letter(letter) and is_new and not is_boot and letter not in fixed:
            connection.letters.setdefault(letter, []).append(record)
    near = [one for one in all_of_them if abs(one.since - connection.since) <= _AT_ONCE]
    if len(near) > 1 or len(connection.letters) > 1:
        connection.letter_status = "possible"


def _within(connection: Connection, record: Record) -> bool:
    return bool(
        record.time
        and connection.since - _AT_ONCE <= record.time
        and (connection.until is None or record.time <= connection.until)
    )


def _is_letter(name: str) -> bool:
    return len(name) == 2 and name[0].isalpha() and name[1] == ":" and name.upper() != "C:"


def _plugged(case: Case, connection: Connection) -> list[Record]:
    """The records of the set-up of the device, at the same time."""
    return [
        record
        for record in case.of("Kernel-PnP", 400, 410)
        if record.time
        and abs(record.time - connection.since) <= _AT_ONCE
        and record.text("DeviceInstanceId").upper().startswith(("USBSTOR\\", "SCSI\\DISK"))
    ]


def _answer(case: Case) -> Iterator[Finding]:
    found = connections(case)
    for connection in found[-_SHOWN:][::-1]:
        record = connection.record
        records = [record, *_plugged(case, connection)]
        size = size_in_words(record.number("Capacity") or 0)
        text = f"{case.when(record)}USB disk {name_of(record)}, {serials(record)}, {size}."
        details = [*_letters(connection), *_seen_by_letter(case, connection, found)]
        if connection.until and connection.ended:
            text_of_end = f"It was taken out {case.clock.short(connection.until, connection.since)}."
            details.append(Finding("usb.removed", text_of_end, status_of(connection.ended), connection.until,
                                   [connection.ended]))  # fmt: skip
        yield Finding("usb.connected", text, status_of(record), connection.since, records, reason_of(record), details)
    if hidden := found[:-_SHOWN]:
        yield more("usb.more", hidden, "connection", " of USB disks before these", [hidden[0].record])
    others = noted(case, found)
    for record in others[:_SHOWN]:
        text = f"{case.when(record)}a USB disk {name_of(record)}, {serials(record)}, was taken out."
        text = f"{text} When it was connected is not recorded."
        yield Finding("usb.noted", text, status_of(record), record.time, [record])
    known = [*_known(case), *_listed(case)]
    yield from known
    if not found and not others:
        yield from _none(case, bool(known))


def _known(case: Case) -> Iterator[Finding]:
    """The USB disks that the registry knows."""
    for fact in case.facts_of("usb"):
        value = fact["value"]
        name = " ".join(filter(None, [value["vendor"], f'"{value["model"]}"' if value["model"] else ""]))
        serial = f", serial (USB) {value['serial']}" if value["serial"] else ", no serial"
        times = [f"{words} {case.clock.full(time)}" for key, words in _TIMES if (time := moment(fact, key))]
        details = [*_set_up(case, fact), *_lettered(case, fact), *_seen_by_users(case, fact)]
        text = f"The registry knows the USB disk {name or value['called'] or 'of an unknown maker'}{serial}"
        text = f"{text}: {'; '.join(times)}." if times else f"{text}."
        last = moment(fact, "last_connected") or moment(fact, "first_installed")
        yield Finding("usb.known", text, "shown", last, reason="the state when the copy was made", details=details,
                      files=[file_of(fact)])  # fmt: skip


def _set_up(case: Case, disk: Mapping[str, Any]) -> Iterator[Finding]:
    """When a disk was first set up, by the log of set-ups, which is in the time of the machine."""
    for fact in case.facts_of("setup"):
        if fact["name"].rpartition("\\")[2].lower() == disk["name"].lower():
            text = f"It was first set up {fact['value']['first_local'].replace('T', ' ')[:19]}, by the machine's clock."
            yield Finding("usb.setup", text, "shown", files=[file_of(fact)])


def _lettered(case: Case, disk: Mapping[str, Any]) -> Iterator[Finding]:
    for fact in case.facts_of("letter"):
        if (fact["value"].get("instance") or "").lower() == disk["name"].lower():
            yield Finding("usb.letter_registry", f"{fact['name']} was last a volume of this disk.", "shown",
                          reason="letters are used again: before, it may have been another one's",
                          files=[file_of(fact)])  # fmt: skip


def _seen_by_users(case: Case, disk: Mapping[str, Any]) -> Iterator[Finding]:
    """Which users have seen a volume of a disk that the registry knows."""
    for volume in case.facts_of("volume"):
        if (volume["value"].get("instance") or "").lower() == disk["name"].lower():
            yield from _seen(case, volume, "shown", "by the instance of the disk")


def _seen_by_letter(case: Case, connection: Connection, all_of_them: Sequence[Connection]) -> Iterator[Finding]:
    """Which users have seen a volume of a disk that was connected, if the registry has it under its letter."""
    for letter in connection.letters:
        latest = [one for one in all_of_them if letter in one.letters][-1]
        held = [fact for fact in case.facts_of("letter") if fact["name"] == letter and latest is connection]
        places = {fact["value"].get("identity") for fact in held} - {None}
        for volume in case.facts_of("volume"):
            if volume["value"].get("identity") in places:
                yield from _seen(case, volume, "possible", f"{letter} was last this volume, and is used again")


def _seen(case: Case, volume: Mapping[str, Any], status: Status, how: str) -> Iterator[Finding]:
    """Which users have seen a volume, by the keys MountPoints2 in their hives."""
    for mount in case.facts_of("mount"):
        if mount["name"].lower() == volume["name"].lower():
            written = moment(mount, "written")
            when = f"; noted last {case.clock.full(written)}" if written else ""
            text = f"{user_of(mount['path'] or '') or 'A user'} has seen its volume {volume['name']}{when}."
            yield Finding("usb.seen", text, status, written, reason=how, files=[file_of(mount), file_of(volume)])


def _listed(case: Case) -> Iterator[Finding]:
    """The USB disks that Amcache lists, where the registry does not know them."""
    known = {fact["name"].lower() for fact in case.facts_of("usb")}
    for fact in case.facts_of("usb_listed"):
        if fact["name"].lower() not in known:
            listed = moment(fact, "listed")
            when = f", listed {case.clock.full(listed)}" if listed else ""
            text = f"Amcache has the USB disk {fact['value']['called'] or 'of an unknown maker'}, {fact['name']}{when}."
            yield Finding("usb.listed", text, "shown", listed, files=[file_of(fact)],
                          reason="Windows takes stock now and then: that is not when it was connected")  # fmt: skip


def _letters(connection: Connection) -> Iterator[Finding]:
    for letter, records in connection.letters.items():
        if connection.letter_status == "shown":
            yield Finding("usb.letter", f"Its volume was {letter}", "shown", records[0].time, records[:2],
                          "the volume's record has the disk's serial number")  # fmt: skip
            continue
        after = max(0, round((records[0].time - connection.since).total_seconds())) if records[0].time else 0
        reason = f"the volume was mounted {after} s after the disk was connected"
        also = "; so was another disk or volume" if connection.letter_status == "possible" else ""
        yield Finding("usb.letter", f"Its volume was {letter}", connection.letter_status, records[0].time, records[:2],
                      f"{reason}{also}")  # fmt: skip
    if not connection.letters:
        yield Finding("usb.letter", "Its letter is not known.", "not recorded",
                      reason="no record of Ntfs or Kernel-IO names a volume within 10 s")  # fmt: skip


def _none(case: Case, in_registry: bool) -> Iterator[Finding]:
    text = "No record tells when a USB disk was connected." if in_registry else "No USB disk is recorded."
    in_part = {path for path, _ in case.partial}  # what they do not say may be in the rest of them
    paths = {fact["path"] or "" for fact in case.facts} - in_part
    hive = any(path.upper().endswith("/SYSTEM") for path in paths)
    also = ", and the registry knows none" if hive and not in_registry else ""
    if why := case.why_none("Partition/Diagnostic"):
        yield Finding("usb.none", text, "not recorded", reason=f"{why}{also}")
    else:
        reach = case.reach("Partition/Diagnostic")
        reason = f"the log Partition/Diagnostic has {reach}, none of a disk on USB{also}"
        yield Finding("usb.none", text, "shown", reason=reason)


def at_that_moment(found: Sequence[Connection], letter: str, time: datetime) -> Connection | None:
    """The USB disk that had a letter at a time."""
    return next((one for one in reversed(found) if one.held(letter.upper(), time)), None)


RULE = Rule("usb", "Which USB disks were connected", (1, 2, 4, 9, 10, 142, 12, 400, 410, 1006), _answer)
