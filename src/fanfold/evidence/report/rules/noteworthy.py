"""Records that an examiner looks at first. They are listed, not judged."""

from collections.abc import Iterator

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, status_of

_SHOWN = 10  # of each kind
_KINDS = (
    ("malware found by Defender", "Windows Defender", (1116,), ("Threat Name", "Path")),
    ("a service was installed", "Service Control Manager", (7045,), ("ServiceName", "ImagePath")),
    ("a service was installed", "Security-Auditing", (4697,), ("ServiceName", "ServiceFileName")),
    ("a scheduled task was made", "Security-Auditing", (4698,), ("TaskName",)),
)
"""What is listed: the words, the provider, the events and the values that are shown."""
_LONGEST = 200  # characters of a value


def _answer(case: Case) -> Iterator[Finding]:
    told = 0
    for words, provider, event_ids, names in _KINDS:
        records = [*case.of(provider, *event_ids)]
        told += len(records)
        for record in records[-_SHOWN:][::-1]:
            yield Finding(
                "note.record", _sentence(case, record, words, names), status_of(record), record.time, [record]
            )
        if len(records) > _SHOWN:
            text = f"{len(records) - _SHOWN:,} more before these: {words}."
            yield Finding("note.more", text, "shown", records=records[:1])
    scripts = [*case.of("PowerShell", 4104)]
    if scripts:
        plural = "s" * (len(scripts) > 1)
        text = f"{len(scripts):,} block{plural} of PowerShell scripts are recorded (event 4104)."
        yield Finding("note.scripts", text, "shown", records=[scripts[0], scripts[-1]])
    if not told and not scripts:
        yield Finding("note.none", "No service, task, script or malware is recorded.", "not recorded",
                      reason="no event 1116, 4104, 4697, 4698 or 7045")  # fmt: skip


def _sentence(case: Case, record: Record, words: str, names: tuple[str, ...]) -> str:
    values = ", ".join(filter(None, (record.text(name)[:_LONGEST] for name in names)))
    return f"{case.when(record)}{words}: {values}."


RULE = Rule("note", "Services, tasks, scripts and malware", (1116, 4104, 4697, 4698, 7045), _answer)
