"""When the machine was started, shut down, and cut off."""

from collections.abc import Iterator

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, status_of

_SHOWN = 5


def _answer(case: Case) -> Iterator[Finding]:
    starts = [record for record in case.of("Kernel-General", 12) if record.time]
    for record in starts[::-1][:_SHOWN]:
        assert record.time
        text = f"{case.clock.full(record.time)}: the machine started."
        yield Finding("power.start", text, status_of(record), record.time, [record])
    if len(starts) > _SHOWN:
        text = f"{len(starts) - _SHOWN:,} more starts before these."
        yield Finding("power.more", text, "shown", records=starts[:1])
    cut = [record for record in case.of("EventLog", 6008) if record.time]
    for record in cut[-_SHOWN:]:
        assert record.time
        text = f"{case.clock.full(record.time)}: the machine noted that it had gone off without a shutdown."
        yield Finding("power.cut", text, status_of(record), record.time, [record])
    if not starts:
        yield Finding("power.none", "No start of the machine is recorded.", "not recorded",
                      reason="no event 12 of Kernel-General")  # fmt: skip


RULE = Rule("power", "When it ran", (12, 6008), _answer)
