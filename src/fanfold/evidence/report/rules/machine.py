"""Which machine this is: its names, its system, its time zone."""

import re
from collections.abc import Iterator

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.facts import file_of, moment, short_file
from fanfold.evidence.report.findings import BY_REGISTRY, Finding, Rule, status_of
from fanfold.evidence.report.record import Record, of_best_logs

_BUILDS = {
    6002: "Windows Vista or Server 2008",
    7600: "Windows 7 or Server 2008 R2",
    7601: "Windows 7 or Server 2008 R2",
    9200: "Windows 8 or Server 2012",
    9600: "Windows 8.1 or Server 2012 R2",
    10240: "Windows 10 1507",
    10586: "Windows 10 1511",
    14393: "Windows 10 1607 or Server 2016",
    15063: "Windows 10 1703",
    16299: "Windows 10 1709",
    17134: "Windows 10 1803",
    17763: "Windows 10 1809 or Server 2019",
    18362: "Windows 10 1903",
    18363: "Windows 10 1909",
    19041: "Windows 10 2004 to 22H2",
    20348: "Windows Server 2022",
    22000: "Windows 11 21H2",
    22621: "Windows 11 22H2",
    22631: "Windows 11 23H2",
    26100: "Windows 11 24H2 or Server 2025",
}
"""Windows versions by the build of their kernel, which an update may leave as it is.

See learn.microsoft.com, "Windows release information".
"""


_NAMES = 20  # of machines in a list
_WINDOWS_11 = 22000  # its first build


def names(case: Case) -> list[Record]:
    """The first record with each name of the machine, that of its last name at the end.

    The log System has the machine's own only. Without it, those of another log, if they have one name.
    """
    reported = of_best_logs([record for record in case.records if record.computer])
    system = [record for record in reported if record.is_of("System")]
    if not system and len({record.host for record in reported}) == 1:
        return reported[:1]
    first: dict[str, Record] = {}
    for record in system:
        first.setdefault(record.host, record)
    if system:  # a name that was given twice is the last one, too
        last = system[-1].host
        first[last] = first.pop(last)
    return [*first.values()]


def _system(case: Case) -> Iterator[Finding]:
    """The version of Windows: by its product name if a record has it, else by its build."""
    for record in reversed([*case.of("EventLog", 6013)]):
        if product := product_of(record):
            yield Finding("machine.system", f"{product}.", status_of(record), None, [record])
            yield from _installed(case)
            return
    for fact in case.facts_of("system"):
        value = fact["value"]
        parts = [fact["name"], value["version"], f"build {value['build']}" if value["build"] else ""]
        installed = moment(fact, "installed")
        since = f", installed {case.clock.full(installed)}" if installed else ""
        text = f"{' '.join(filter(None, parts))}{since}."
        yield Finding("machine.system", text, "shown", None, reason=BY_REGISTRY, files=[file_of(fact)])
        return
    boots = [*case.of("Kernel-General", 12)]
    if boots and (build := boots[-1].number("BuildVersion")):
        named = f" ({_BUILDS[build]})" if build in _BUILDS else ""
        yield Finding("machine.system", f"Windows build {build}{named}.", status_of(boots[-1]), None, boots[-1:])


def _installed(case: Case) -> Iterator[Finding]:
    """When Windows was installed, beside a record that has its version."""
    for fact in case.facts_of("system"):
        if time := moment(fact, "installed"):
            text = f"{fact['name']} was installed {case.clock.full(time)}."
            yield Finding("machine.installed", text, "shown", time, reason=BY_REGISTRY, files=[file_of(fact)])


def product_of(record: Record) -> str:
    """The product and its build, which event 6013 has among its binary data: Windows 10 Pro, build 19043.

    Windows 11 calls itself Windows 10 there; its builds begin with 22000.
    """
    try:
        texts = bytes.fromhex(record.text("Binary")).decode("utf-16-le").split("\0")
    except ValueError:
        return ""
    if len(texts) < 4 or "Windows" not in texts[2]:
        return ""
    found = re.search(r"Build (\d+)", texts[3])  # 6.1.7601 Build 7601 Service Pack 1; 10.0.19043 Build 19043
    build = found[1] if found else texts[3].strip()
    if build.isdigit() and int(build) >= _WINDOWS_11 and "Windows 10" in texts[2]:
        return f"{texts[2].replace('Windows 10', 'Windows 11')}, build {build} (the record says {texts[2]})"
    return f"{texts[2]}, build {build}"


def _noted(case: Case, names_of_records: set[str]) -> Iterator[Finding]:
    """What the registry says of the machine, where it says more than the records."""
    for fact in case.facts_of("name"):
        if fact["name"].lower() not in names_of_records:
            text = f"The registry calls the machine {fact['name']}"
            other = ", and no record does: it got this name later, or the hive is of another machine"
            text += f"{other if names_of_records else ''}."
            yield Finding("machine.name_registry", text, "shown", reason=BY_REGISTRY, files=[file_of(fact)])
    for fact in case.facts_of("address"):
        text = f"Its address was {', '.join(fact['value']['addresses'])}."
        yield Finding("machine.address", text, "shown", reason=BY_REGISTRY, files=[file_of(fact)])
    yield from _in_use(case)


def _in_use(case: Case) -> Iterator[Finding]:
    """The hives that were in use when they were copied."""
    states = {fact["path"]: fact["value"].get("dirty") for fact in case.facts}
    for state, identity, text, reason in (
        ("replayed", "machine.replayed_hive", "Brought up to date with their transaction logs", ""),
        ("not replayed", "machine.dirty_hive", "Without their latest changes, which are in transaction logs",
         "they were in use when the copy was made, and no transaction log that fits is there"),
    ):  # fmt: skip
        if paths := sorted(path for path, found in states.items() if path and found == state):
            names = ", ".join(map(short_file, paths))
            yield Finding(identity, f"{text}: {names}.", "likely" if reason else "shown", reason=reason, files=paths)


def _answer(case: Case) -> Iterator[Finding]:
    several = [*_several(case)]
    yield from several
    known = names(case)
    if known and not several:
        *before, last = known
        text = f"The machine was called {last.computer}."
        if before:
            text = f"{text} Before: {', '.join(record.computer for record in before)}."
        is_own = last.is_of("System")
        reason = "" if is_own else "by another log than System, which alone is limited to the machine's own records"
        yield Finding("machine.name", text, status_of(last) if is_own else "likely", last.time, known, reason)
    yield from _noted(case, {record.host for record in known})
    yield from _system(case)
    yield from _zone(case)
    for computer, count in case.others.items():
        are = "records are" if count > 1 else "record is"
        text = f"{count:,} {are} of {computer}. No sentence here rests on {'them' if count > 1 else 'it'}."
        reason = "by the computer that is named; forwarded from there, or written when this machine was called so"
        yield Finding("machine.forwarded", text, "shown", reason=reason)
    earlier = {record.installation: record for record in case.records if record.installation}
    for folder, record in earlier.items():
        text = f"There are also logs of another Windows, in {folder}: before an update, or on another volume."
        yield Finding("machine.earlier", text, "shown", None, [record])
    if back := [record for jump in case.changes.jumps if jump.is_back for record in jump.records[:1]]:
        text = "The clock was set back, so times are not always in the order in which things happened."
        yield Finding("machine.clock", text, "shown", records=back)


def _several(case: Case) -> Iterator[Finding]:
    """That the logs are of several machines, and which."""
    if not case.is_mixed:
        return
    first: dict[str, Record] = {}
    for record in case.records:
        if record.origin == "live" and record.computer and not record.installation:
            first.setdefault(record.host, record)
    names = sorted(record.computer for record in first.values())
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    text = f"The logs name {', '.join(names[:_NAMES])}{more}. They may be of several machines."
    reason = (
        "or of one that was renamed. Sentences have the names that are in their records, and times are in UTC; "
        "to answer a question for one machine, scan its logs in a folder of its own"
    )
    yield Finding("machine.several", text, "possible", None, [*first.values()], reason)


def _zone(case: Case) -> Iterator[Finding]:
    """The time zone, and those before it."""
    clock = case.clock
    if not clock.zones:
        called = next(
            (name for record in case.of("EventLog", 6013) if (name := record.text("7").partition(" ")[2])), ""
        )
        reason = "no event 24 of Kernel-General and no event 6013 of EventLog tells it"
        if case.is_mixed:
            reason = "the logs are of several machines"
        elif called:  # in the language of the machine
            reason = f"event 6013 calls it '{called}', which is not a name that is known; choose one with --zone"
        yield Finding(
            "machine.zone", "The time zone is not known: all times are in UTC.", "not recorded", reason=reason
        )
        return
    if case.zone:
        yield Finding("machine.zone", f"Times are in the zone {clock.name}, as chosen.", "shown")
        return
    *before, last = clock.names
    text = f"Time zone: {last}." + (f" Before: {', '.join(before)}." if before else "")
    refs = {*clock.refs}
    reported = [record for record in case.records if record.ref in refs]
    if reported:
        yield Finding("machine.zone", text, status_of(*reported), None, reported)
    else:
        files = [file_of(fact) for fact in case.facts_of("zone")]
        yield Finding("machine.zone", text, "shown", reason=BY_REGISTRY, files=files)


RULE = Rule("machine", "The machine", (1, 12, 24, 6005, 6006, 6009, 6013, 1074), _answer)
