"""Accounts that were made, removed, or made administrators."""

from collections.abc import Iterator, Mapping

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, status_of

_VERBS = {4720: "was made", 4722: "was enabled", 4725: "was disabled", 4726: "was deleted", 4724: "got a new password"}
_SET_UP = ("wdagutilityaccount", "defaultuser0", "defaultaccount", "defaultuser1")
_BUILT_IN = {"500": "the account Administrator", "501": "the account Guest"}
"""Accounts that every machine has, by the last part of their SID."""
_ADMINISTRATORS = "S-1-5-32-544"


def _answer(case: Case) -> Iterator[Finding]:
    told = 0
    people = {record.text("TargetSid"): record.text("TargetUserName") for record in case.of("Security-Auditing", 4720)}
    for record in case.of("Security-Auditing", *_VERBS, 4732, 4728):
        if text := _text(record, people):
            when = f"{case.clock.full(record.time)}: " if record.time else ""
            yield Finding("account.changed", f"{when}{text}", status_of(record), record.time, [record])
            told += 1
    if not told:
        yield Finding("account.none", "No change of an account is recorded, but those of the set-up.", "shown",
                      reason="events 4720 to 4732 of the log Security, as far as it reaches")  # fmt: skip


def _text(record: Record, people: Mapping[str, str]) -> str:
    """What happened to an account; empty for what the set-up of Windows does itself."""
    name = record.text("TargetUserName")
    by = "\\".join(filter(None, [record.text("SubjectDomainName"), record.text("SubjectUserName")]))
    if record.event_id in _VERBS:
        if name.lower() in _SET_UP or record.event_id in (4722, 4724, 4725):
            return ""
        return f"the account {name} {_VERBS[record.event_id]} by {by}."
    sid = record.text("MemberSid")
    if record.text("TargetSid") != _ADMINISTRATORS or not sid.startswith(("S-1-5-21-", "S-1-12-1-")):
        return ""
    member = record.text("MemberName") or people.get(sid) or _BUILT_IN.get(sid.rpartition("-")[2]) or sid
    return "" if member.lower() in _SET_UP else f"{member} was made a member of {name} by {by}."


RULE = Rule("account", "Which accounts were changed", (*_VERBS, 4732, 4728), _answer)
