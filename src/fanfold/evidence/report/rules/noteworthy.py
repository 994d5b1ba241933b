"""Records that an examiner looks at first. They are listed, not judged."""

from collections.abc import Iterator, Sequence

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, status_of
from fanfold.evidence.report.record import Record

_SHOWN = 10  # of each kind
_FOUND, _ACTED = 1116, 1117
_KINDS = (
    ("malware found by Defender", "Windows Defender", (1116,), ("Threat Name", "Path")),
    ("a service was installed", "Service Control Manager", (7045,), ("ServiceName", "ImagePath")),
    ("a service was installed", "Security-Auditing", (4697,), ("ServiceName", "ServiceFileName")),
    ("a scheduled task was made", "Security-Auditing", (4698,), ("TaskName",)),
)
"""What is listed: the words, the provider, the events and the values that are shown."""
_LONGEST = 200  # characters of a value
_LINE = 120  # of the first line of a script
_BRACKET = 2  # characters of a line that tells nothing: <#
_ACTIONS = {1: "cleaned it", 2: "put it into quarantine", 3: "removed it", 6: "allowed it", 8: "left it to the user",
            9: "did nothing", 10: "blocked it"}  # fmt: skip
"""What Defender did, by the number in event 1117; see learn.microsoft.com, "MPTHREAT_ACTION enumeration"."""


def _answer(case: Case) -> Iterator[Finding]:
    reported = 0
    for words, provider, event_ids, names in _KINDS:
        alike: dict[str, list[Record]] = {}
        for record in case.of(provider, *event_ids):
            values = ", ".join(filter(None, (record.text(name)[:_LONGEST] for name in names)))
            alike.setdefault(values, []).append(record)
        reported += len(alike)
        latest = sorted(alike.items(), key=lambda one: (one[1][-1].stream, one[1][-1].record_id))
        for values, records in latest[-_SHOWN:][::-1]:
            yield _finding(case, f"{words}: {values}", records)
        if hidden := latest[:-_SHOWN]:
            yield more("note.more", hidden, "", f" before these: {words}", hidden[0][1][:1])
    scripts = [*_scripts(case)]
    yield from scripts
    if not reported and not scripts:
        yield Finding("note.none", "No service, task, script or malware is recorded.", "not recorded",
                      reason="no event 1116, 4104, 4697, 4698 or 7045")  # fmt: skip


def _finding(case: Case, what: str, records: Sequence[Record]) -> Finding:
    """One sentence for records that say the same, with the time of the last."""
    last = records[-1]
    first = case.when(records[0]).removesuffix(": ")
    often = f"; {len(records):,} times, the first {first}" if len(records) > 1 and first else ""
    text = f"{case.when(last)}{what}{often}."
    details = [*_actions(case, records)]
    return Finding("note.record", text, status_of(last), last.time, [last, *records[:-1]], details=details)


def _scripts(case: Case) -> Iterator[Finding]:
    """The PowerShell scripts whose text is recorded, each once, by the first line of its text.

    A long script has a record for each of its parts, which may have been written over.
    """
    blocks: dict[str, list[Record]] = {}
    for record in case.of("PowerShell", 4104):
        blocks.setdefault(record.text("ScriptBlockId") or record.ref, []).append(record)
    alike: dict[str, list[Record]] = {}
    for parts in blocks.values():
        alike.setdefault(_script(parts), []).extend(parts)
    latest = sorted(alike.items(), key=lambda one: (one[1][-1].stream, one[1][-1].record_id))
    for words, records in latest[-_SHOWN:][::-1]:
        ids = {record.text("ScriptBlockId") for record in records}
        often = f"; {len(ids):,} times" if len(ids) > 1 else ""
        text = f"{case.when(records[-1])}{words}{often}."
        yield Finding("note.script", text, status_of(*records), records[-1].time, [records[-1], *records[:-1]])
    if hidden := latest[:-_SHOWN]:
        yield more("note.more_scripts", hidden, "PowerShell script", " before these", hidden[0][1][:1])


def _script(parts: Sequence[Record]) -> str:
    """A script in words: its file, its length, and its first line with something in it."""
    texts = {record.number("MessageNumber") or 1: str(record.data.get("ScriptBlockText") or "") for record in parts}
    count = max(record.number("MessageTotal") or 1 for record in parts)
    length = sum(map(len, texts.values()))
    whole = f"of {length:,} characters" + f" in {count:,} parts" * (count > 1)
    if len(texts) < count:
        whole = f"of {count:,} parts, of which {len(texts):,} are recorded, with {length:,} characters"
    path = parts[0].text("Path")[:_LONGEST]
    file = f" ({path})" if path else ""
    begin = "begins with" if min(texts) == 1 else f"has, from part {min(texts):,} on,"
    return f'PowerShell was given a script {whole}{file}; it {begin}: "{_first_line(texts[min(texts)])}"'


def _first_line(text: str) -> str:
    """The first line of a script that is more than a bracket: shortened, and with its quotes escaped."""
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if len(line) > _BRACKET), text.strip())
    return line[:_LINE].replace('"', '\\"') + "..." * (len(line) > _LINE)


def _actions(case: Case, found: Sequence[Record]) -> Iterator[Finding]:
    """What Defender did with what it had found, each thing once."""
    detections = {record.text("Detection ID") for record in found if record.event_id == _FOUND} - {""}
    done: dict[str, list[Record]] = {}
    for record in case.of("Windows Defender", _ACTED):
        if record.text("Detection ID") in detections:
            action = _ACTIONS.get(record.number("Action ID") or 0, "did something that is not known")
            done.setdefault(action, []).append(record)
    for action, records in done.items():
        yield Finding("note.action", f"Defender {action}.", status_of(records[-1]), records[-1].time, records)


RULE = Rule("note", "Services, tasks, scripts and malware", (1116, 1117, 4104, 4697, 4698, 7045), _answer)
