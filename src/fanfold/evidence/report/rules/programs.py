"""What ran from a USB disk, and which programs for imaging or collecting ran at all."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.facts import file_of, moment, user_of
from fanfold.evidence.report.findings import Finding, Rule, Status, more, reason_of, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import auditing
from fanfold.evidence.report.rules.devices import Connection, at_that_moment, built_in, connections, name_of

_TOOLS = (
    (r"ftk ?imager.*\.exe", "an imaging program"),
    (r"encase( ?imager| ?forensic|[678])?(64)?\.exe", "an imaging program"),
    (r"(xways|x-ways|xwforensics|winhex).*\.exe", "an imaging program"),
    (r"(dd|dcfldd|dc3dd|ewfacquire)\.exe", "an imaging program"),
    (r"magnet ?(acquire|axiom|process|ram ?capture).*\.exe", "an imaging program"),
    (r"(disk2vhd|osfclone|osforensics|belkasoft.*|arsenal.*)(64)?\.exe", "an imaging program"),
    (r"g?kape\.exe", "a collection program"),
    (r"(velociraptor|cylr|cdir.*|brimorlabs.*|redline.*)\.exe", "a collection program"),
    (r"(winpmem|dumpit|ramcapture.*|comae.*|mdd|fastdump.*)(64)?\.exe", "a program that copies memory"),
)
"""Programs by the names of their files."""
_DRIVERS = (
    (r"ad_driver", "FTK Imager"),
    (r"winpmem|pmem", "WinPmem"),
    (r"dumpit", "DumpIt"),
    (r"ramcapture", "Belkasoft RAM Capturer"),
)
"""Drivers that such programs install when they start, by the names of their files."""
_OF_WINDOWS = frozenset({
    "registry", "smss.exe", "csrss.exe", "wininit.exe", "winlogon.exe", "services.exe", "lsass.exe", "lsaiso.exe",
    "autochk.exe", "setupcl.exe", "fontdrvhost.exe", "memcompression",
})  # fmt: skip
"""What starts with Windows, and is recorded (event 4688) even where nothing else is."""
_AT_ONCE = timedelta(seconds=2)  # between two records of one start
_SHOWN = 30  # starts that are listed


@dataclass(frozen=True)
class Start:
    """The start of a program."""

    record: Record
    path: str
    version: str = ""
    original: str = ""
    """The name that its maker gave the file."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.replace("/", "\\").rpartition("\\")[2].lower()

    @property
    def letter(self) -> str:
        """The drive that it ran from; empty if it is not known."""
        return self.path[:2].upper() if re.match("[A-Za-z]:", self.path) else ""

    @property
    def kind(self) -> str:
        """What kind of program it is, by its name or the one that its maker gave it; empty if none of `_TOOLS`."""
        names = (self.name, self.original.lower())
        return next((what for pattern, what in _TOOLS if any(re.fullmatch(pattern, name) for name in names)), "")


def starts(case: Case) -> list[Start]:
    """The programs that started, as far as anything tells, each once; without those that start with Windows."""
    found = [Start(record, record.text("NewProcessName")) for record in case.of("Security-Auditing", 4688)]
    for record in case.of("Sysmon", 1):
        found.append(Start(record, record.text("Image"), record.text("FileVersion"), record.text("OriginalFileName")))
    for record in case.of("Application-Experience", 500, 505):
        found.append(Start(record, record.text("ExePath"), record.text("ExeVersion", "FileVersion")))
    kept: list[Start] = []
    latest: dict[str, Start] = {}
    for start in sorted(found, key=lambda start: (start.record.time is None, start.record.time, -len(start.version))):
        if not start.path or start.name in _OF_WINDOWS:
            continue
        before = latest.get(start.path.lower())
        if before and before.record.stream != start.record.stream and _are_close(before.record, start.record):
            continue
        latest[start.path.lower()] = start
        kept.append(start)
    return kept


def _are_close(one: Record, other: Record) -> bool:
    return bool(one.time and other.time and abs(other.time - one.time) <= _AT_ONCE)


def _answer(case: Case) -> Iterator[Finding]:
    started, disks, own = starts(case), connections(case), _own_drives(case)
    reported: list[Finding] = []
    for start in started:
        disk = at_that_moment(disks, start.letter, start.record.time) if start.record.time else None
        if disk:
            reported.append(_from_disk(case, start, disk))
        elif start.kind:
            reported.append(_tool(case, start))
        elif start.letter not in ("", *own) or start.path.startswith("\\\\"):
            reported.append(_elsewhere(case, start))
    yield from reported[-_SHOWN:]
    if hidden := reported[:-_SHOWN]:
        yield more("program.more", hidden, "start", " before these", hidden[0].records)
    others = [*_launched(case, disks), *_started_by_users(case, disks), *_prefetched(case, disks), *_drivers(case)]
    yield from others[:_SHOWN]
    if hidden := others[_SHOWN:]:
        yield more("program.more_noted", hidden, "program", " that Windows has noted", files=hidden[0].files)
    if not reported and not others:
        yield _none(case, started)
    yield from _there(case)


def _launched(case: Case, disks: Sequence[Connection]) -> Iterator[Finding]:
    """Programs that Windows 11 noted when it launched them, if they are tools or not on a drive of the machine."""
    for fact in sorted(case.facts_of("program"), key=lambda fact: fact["value"]["time"] or ""):
        yield from _noted(case, disks, fact, "program.launched", "last launched then")


def _started_by_users(case: Case, disks: Sequence[Connection]) -> Iterator[Finding]:
    """Programs that users started by a double click or from the menu, as their hives have it (UserAssist)."""
    for fact in case.facts_of("userassist"):
        user, count = user_of(fact["path"] or "") or "a user", fact["value"]["count"]
        last = "last started then" if fact["value"]["time"] else "started"
        yield from _noted(case, disks, fact, "program.started", f"{last} by {user}; starts in all: {count:,}")


def _noted(
    case: Case, disks: Sequence[Connection], fact: Mapping[str, Any], identity: str, what: str
) -> Iterator[Finding]:
    """A program that Windows has noted, if it is a tool or not on a drive of the machine."""
    start = _start(fact["name"], moment(fact, "time"))
    time = start.record.time
    if not _is_of_interest(start, _own_drives(case)):
        return
    disk = at_that_moment(disks, start.letter, time) if time else None
    which = f" {start.letter} was then the USB disk {name_of(disk.record)}." if disk else _unknown(case, start)
    text = f"{_when(case, time)}{_words(start)}, {what}.{which}"
    yield Finding(identity, text, "likely" if disk else "shown", time, [disk.record] if disk else (),
                  files=[file_of(fact)])  # fmt: skip


def _prefetched(case: Case, disks: Sequence[Connection]) -> Iterator[Finding]:
    """Programs that ran, as Prefetch has it, if they are tools or on another volume than Windows."""
    for fact in case.facts_of("prefetch"):
        value = fact["value"]
        times = [datetime.fromisoformat(time) for time in value["times"]]
        where = re.sub(r"\\(VOLUME\{[^}]*\}|DEVICE\\[^\\]*)", "", value["path"]) or fact["name"]
        start = _start(where, times[0] if times else None)
        is_elsewhere = value["volume"] and value["windows_volume"] not in ("", value["volume"])
        if not (start.kind or is_elsewhere):
            continue
        before = f"; before: {', '.join(map(case.clock.full, times[1:]))}" if times[1:] else ""
        runs = f"runs in all: {value['count']:,}{before}"
        text = f"{_when(case, start.record.time)}{_words(start)}{_comma(start)} ran; {runs}."
        details = []
        if is_elsewhere:
            text = f"{text} It was on another volume than Windows: {value['volume'][:4]}-{value['volume'][4:]}."
            details = [*_connected(case, disks, times)]
        yield Finding("program.prefetch", text, "shown", start.record.time, files=[file_of(fact)], details=details)


def _connected(case: Case, disks: Sequence[Connection], times: Sequence[datetime]) -> Iterator[Finding]:
    """The USB disks that were there when a program ran from a volume of which only the serial number is known."""
    for time in times:
        for disk in disks:
            if disk.since <= time and (disk.until is None or time <= disk.until):
                text = f"{case.clock.full(time)}: the USB disk {name_of(disk.record)} was connected."
                yield Finding("program.prefetch_disk", text, "possible", time, [disk.record],
                              "that the volume is on this disk is not recorded")  # fmt: skip


def _there(case: Case) -> Iterator[Finding]:
    """Files of programs that were there, as Amcache and ShimCache have it. Whether they ran, neither tells."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    own = _own_drives(case)
    for fact in (*case.facts_of("amcache"), *case.facts_of("shimcache")):
        if _is_of_interest(_start(fact["name"], None), own):
            found.setdefault(fact["name"].lower(), []).append(fact)
    for facts in [*found.values()][:_SHOWN]:
        start = _start(facts[-1]["name"], None)
        parts = [f"{_words(start)}{_comma(start)} was there"]
        parts += [f"SHA-1 {fact['value']['sha1']}" for fact in facts if fact["value"].get("sha1")]
        parts += [f"listed {case.clock.full(time)}" for fact in facts if (time := moment(fact, "listed"))]
        reason = "that a file was there does not mean that it ran"
        yield Finding("program.there", f"The file {'; '.join(parts)}.", "possible", reason=reason,
                      files=[*map(file_of, facts)])  # fmt: skip
    if hidden := [*found][_SHOWN:]:
        yield more("program.there_more", hidden, "file", " of programs that were there", status="possible",
                   reason="that does not mean that they ran")  # fmt: skip


def _start(path: str, time: datetime | None) -> Start:
    """A program that Windows has noted elsewhere than in a log."""
    return Start(Record("", 0, time, 0, "", "", {}), path)


def _is_of_interest(start: Start, own: Container[str]) -> bool:
    """Whether a program is a tool, or on a drive that is not one of the machine's own."""
    return bool(start.kind or (start.letter and start.letter not in own))


def _own_drives(case: Case) -> set[str]:
    """The drives of the machine itself: C:, and those of disks that are built in."""
    return {"C:"} | built_in(case)


def _words(start: Start) -> str:
    version = f" {start.version}" if start.version else ""
    kind = f", {start.kind}" if start.kind else ""
    original = start.original.lower()
    renamed = f" (its maker called it {start.original})" if original not in ("", "-", start.name) else ""
    return f"{start.path}{version}{kind}{renamed if start.kind else ''}"


def _comma(start: Start) -> str:
    """What ends the words on a program's kind."""
    return "," if start.kind else ""


def _when(case: Case, time: datetime | None) -> str:
    return f"{case.clock.full(time)}: " if time else ""


def _from_disk(case: Case, start: Start, disk: Connection) -> Finding:
    record = start.record
    tie = disk.letters[start.letter][:1]
    text = f"{_when(case, record.time)}{_words(start)}. {start.letter} was then the USB disk {name_of(disk.record)}."
    status: Status = status_of(record) if disk.letter_status == "shown" else "likely"
    reason = reason_of(record) or ("" if status == "shown" else f"that {start.letter} was this disk is likely")
    return Finding("program.from_usb", text, status, record.time, [record, disk.record, *tie], reason)


def _tool(case: Case, start: Start) -> Finding:
    text = f"{_when(case, start.record.time)}{_words(start)}, by its name."
    return Finding("program.tool", text, status_of(start.record), start.record.time, [start.record],
                   reason_of(start.record))  # fmt: skip


def _elsewhere(case: Case, start: Start) -> Finding:
    where = _unknown(case, start) if start.letter else " That is another machine's share."
    text = f"{_when(case, start.record.time)}{_words(start)}.{where}"
    return Finding("program.other_drive", text, status_of(start.record), start.record.time, [start.record],
                   reason_of(start.record))  # fmt: skip


def _unknown(case: Case, start: Start) -> str:
    """That nothing tells which disk a drive was; empty for the machine's own, and for none."""
    is_known = not start.letter or start.letter in _own_drives(case)
    then = " then" if start.record.time else ""
    return "" if is_known else f" Which disk {start.letter} was{then} is not recorded."


def _drivers(case: Case) -> Iterator[Finding]:
    """Drivers of imaging programs that were installed: a program started, though not from where."""
    for record in [*case.of("Service Control Manager", 7045), *case.of("Security-Auditing", 4697)]:
        path = record.text("ImagePath", "ServiceFileName")
        tool = next((tool for pattern, tool in _DRIVERS if re.search(pattern, path, re.IGNORECASE)), None)
        if tool:
            text = f"{_when(case, record.time)}the driver {path} was installed, as {tool} does when it starts."
            reason = "the record does not tell where the program was"
            yield Finding("program.driver", text, "likely", record.time, [record], reason)


def _none(case: Case, started: Sequence[Start]) -> Finding:
    reasons = []
    for log, event, provider in (("Security", 4688, "Security-Auditing"), ("Sysmon/Operational", 1, "Sysmon")):
        number = sum(start.record.provider.endswith(provider) for start in started)
        if number:
            reasons.append(f"{log} has {number:,} starts of programs (event {event})")
        elif any(True for _ in case.of(provider, event)):
            reasons.append(f"{log} has event {event} of Windows' own start only: other starts were not recorded")
        else:
            reasons.append(case.why_none(log) or f"{log} has no event {event}")
    audit, records = auditing.last_change(case, auditing.PROGRAMS)
    reasons += [f"{audit} (event 4719)"] if audit else []
    number = sum(1 for _ in case.of("Application-Experience", 500, 505))
    fixes = f"Program-Telemetry has {number:,} records, of programs that need a compatibility fix only"
    reasons.append((not number and case.why_none("Application-Experience/Program-Telemetry")) or fixes)
    if prefetch := len(case.facts_of("prefetch")):
        reasons.append(f"Prefetch has {prefetch:,} programs, all from the volume of Windows")
    drives = sorted({start.letter for start in started if start.letter})
    seen = f" Those recorded ran from {', '.join(drives)}." if drives else ""
    text = f"No program is recorded that ran from a USB disk, and none for imaging.{seen}"
    return Finding("program.none", text, "not recorded", reason="; ".join(reasons), records=records)


RULE = Rule(
    "program", "Programs from USB disks, and programs for imaging", (1, 4, 9, 10, 500, 505, 4688, 4697, 7045), _answer
)
