"""What the logs cannot show. It comes last, and is never left out."""

from collections.abc import Iterator

from fanfold.evidence.disk.shadow import not_searched
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule
from fanfold.evidence.report.rules import auditing
from fanfold.evidence.report.rules.devices import connections
from fanfold.evidence.report.rules.programs import starts

_STARTS, _STARTED = "starts of programs (event 4688)", 4688
_TRACES = (
    (_STARTS, "Security-Auditing", (4688,)),
    ("starts of programs, by Sysmon", "Sysmon", (1,)),
    ("access to files", "Security-Auditing", (4656, 4663)),
    ("network connections, by Sysmon", "Sysmon", (3,)),
    ("services that were installed", "Service Control Manager", (7045,)),
    ("PowerShell scripts", "PowerShell", (4104,)),
    ("malware that was found", "Windows Defender", (1116,)),
    ("scheduled tasks", "Security-Auditing", (4698,)),
)
"""What a break-in may leave, by the events that would tell."""


def _answer(case: Case) -> Iterator[Finding]:
    if last := case.last:
        text = f"What happened after {case.clock.full(last['newest_time'])}: the records end there."
        yield Finding("limit.after", text, "cannot be shown")
    letters = sorted({letter for connection in connections(case) for letter in connection.letters})
    where = f" to or from {', '.join(letters)}" if letters else ""
    accesses = sum(1 for _ in case.of("Security-Auditing", 4656, 4663))
    reason = "access to files was not recorded (no event 4656 or 4663)"
    if why := case.why_none("Security"):
        reason = why
    if accesses:
        reason = f"an access to a file (events 4656 and 4663, {accesses:,} records) is not a copy"
    audit, records = auditing.last_change(case, auditing.FILES)
    reason = "; ".join(filter(None, [reason, audit]))
    yield Finding("limit.files", f"Which files were copied{where}.", "cannot be shown", reason=reason, records=records)
    if count := sum(not copy.is_searched for copy in case.copies):
        yield Finding("limit.copies", "What the logs in all shadow copies held.", "cannot be shown",
                      reason=not_searched(count).rstrip("."))  # fmt: skip
    yield _intrusion(case)
    yield Finding("limit.person", "Which person it was.", "cannot be shown",
                  reason="logs name accounts, and who uses an account is not recorded")  # fmt: skip
    if case.container:
        yield Finding("limit.passwords", "Passwords.", "cannot be shown",
                      reason="no hashes are taken from the image: no sentence here needs them, and they are secrets. "
                      "Tools such as impacket's secretsdump take them")  # fmt: skip


def _intrusion(case: Case) -> Finding:
    """What a break-in would have left, as far as it was recorded."""
    counts = {what: sum(1 for _ in case.of(provider, *ids)) for what, provider, ids in _TRACES}
    counts[_STARTS] = sum(start.record.event_id == _STARTED for start in starts(case))
    there = [f"{what} ({count:,})" for what, count in counts.items() if count]
    missing = [what for what, count in counts.items() if not count]
    reason = f"there is no record of: {'; '.join(missing)}. " if missing else ""
    reason += f"There are records of: {'; '.join(there)}; this report does not judge them. " if there else ""
    return Finding("limit.intrusion", "Whether anybody broke in.", "cannot be shown",
                   reason=f"{reason}That nothing is recorded does not mean that nothing happened")  # fmt: skip


RULE = Rule("limit", "What cannot be shown", (3, 1116, 4104, 4656, 4663, 4698, 7045), _answer)
