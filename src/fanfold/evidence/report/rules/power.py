"""When the machine was started, shut down, and cut off."""

from collections.abc import Iterator

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, status_of

_SHOWN = 12


def _answer(case: Case) -> Iterator[Finding]:
    found = [*((record, "the machine started") for record in case.of("Kernel-General", 12))]
    found += [(record, "the machine was shut down") for record in case.of("Kernel-General", 13)]
    found += [
        (record, "the machine noted that it had gone off without a shutdown") for record in case.of("EventLog", 6008)
    ]
    found += [
        (record, "the machine had started without a clean shutdown before") for record in case.of("Kernel-Power", 41)
    ]
    timed = [(record, words) for record, words in found if record.time]
    timed.sort(key=lambda one: (one[0].stream, one[0].record_id))  # the order of writing, whatever the clock said
    for record, words in timed[-_SHOWN:][::-1]:
        yield Finding("power.change", f"{case.when(record)}{words}.", status_of(record), record.time, [record])
    if len(timed) > _SHOWN:
        text = f"{len(timed) - _SHOWN:,} more starts and shutdowns before these."
        yield Finding("power.more", text, "shown", records=[timed[0][0]])
    if not timed:
        reason = case.why_none("System") or "no event 12 or 13 of Kernel-General"
        yield Finding("power.none", "No start of the machine is recorded.", "not recorded", reason=reason)


RULE = Rule("power", "When it ran", (12, 13, 41, 6008), _answer)
