"""Accounts that were made, removed, changed, or put into groups that have power."""

from collections.abc import Iterator, Mapping

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.facts import file_of, moment
from fanfold.evidence.report.findings import BY_REGISTRY, Finding, Rule, more, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import auditing
from fanfold.evidence.report.rules.logons import PEOPLE

_VERBS = {
    4720: "was made",
    4722: "was enabled",
    4724: "got a new password",
    4725: "was disabled",
    4726: "was deleted",
    4738: "was changed",
    4781: "was renamed",
}
_INTO, _OUT_OF = (4728, 4732, 4756), (4729, 4733, 4757)
_QUIET = (4722, 4724, 4725, 4738, 4781)
"""What the set-up of Windows does to accounts, too: not told if the machine itself did it."""
_SET_UP = ("wdagutilityaccount", "defaultuser0", "defaultaccount", "defaultuser1")
_BUILT_IN = {"500": "the account Administrator", "501": "the account Guest"}
"""Accounts that every machine has, by the last part of their SID."""
_POWERFUL = ("S-1-5-32-544", "S-1-5-32-551", "S-1-5-32-555", "S-1-5-32-580")
"""Administrators, Backup Operators, Remote Desktop Users, Remote Management Users."""
_POWERFUL_IN_DOMAIN = ("-512", "-518", "-519")
"""Domain Admins, Schema Admins, Enterprise Admins, by the end of their SID."""
_TIMES = (("last_logon", "last logon"), ("last_failure", "last failed attempt"), ("password_set", "password set"))
_STATES = (("disabled", "disabled"), ("needs_no_password", "it needs no password"))
_SHOWN = 30
_NETBIOS = 15  # characters of a machine's name in its account, at most


def _answer(case: Case) -> Iterator[Finding]:
    people = {record.text("TargetSid"): record.text("TargetUserName") for record in case.of("Security-Auditing", 4720)}
    reported = [
        (record, text)
        for record in case.of("Security-Auditing", *_VERBS, *_INTO, *_OUT_OF)
        if (text := _text(record, people))
    ]
    for record, text in reported[-_SHOWN:][::-1]:
        yield Finding("account.changed", f"{case.when(record)}{text}", status_of(record), record.time, [record])
    if hidden := reported[:-_SHOWN]:
        yield more("account.more", hidden, "change", " of accounts before these", [hidden[0][0]])
    if not reported:
        text = "No change of an account is recorded, but for those of the set-up."
        why = case.why_none("Security")
        reason = f"by the events 4720 to 4781 of the log Security in {case.reach('Security')}"
        audit, records = auditing.last_change(case, auditing.ACCOUNTS)
        reason = "; ".join(filter(None, [why or reason, audit]))
        yield Finding("account.none", text, "not recorded" if why else "shown", reason=reason, records=records)
    yield from _known(case)


def _known(case: Case) -> Iterator[Finding]:
    """The accounts that the registry knows; those that are disabled and were never used in one sentence."""
    every = sorted(case.facts_of("account"), key=lambda fact: fact["value"]["last_logon"] or "", reverse=True)
    idle = [fact for fact in every if fact["value"]["disabled"] and not fact["value"]["last_logon"]]
    used = [fact for fact in every if fact not in idle]
    for fact in used[:_SHOWN]:
        value = fact["value"]
        times = [f"{words} {case.clock.full(time)}" for key, words in _TIMES if (time := moment(fact, key))]
        states = [words for key, words in _STATES if value[key]]
        about = "; ".join([*times, f"logons: {value['logons']:,}", *states])
        text = f"The machine has the account {fact['name']} (number {value['number']}): {about}."
        yield Finding(
            "account.known", text, "shown", moment(fact, "last_logon"), reason=BY_REGISTRY, files=[file_of(fact)]
        )
    if hidden := used[_SHOWN:]:
        yield more("account.known_more", hidden, "account", reason=BY_REGISTRY, files=[file_of(hidden[0])])
    if idle:
        names = ", ".join(fact["name"] for fact in idle[:_SHOWN])
        text = f"Accounts that are disabled, and were never used: {names}."
        yield Finding(
            "account.idle", text, "shown", reason=BY_REGISTRY, files=[file_of(fact) for fact in idle[:_SHOWN]]
        )


def _text(record: Record, people: Mapping[str, str]) -> str:
    """What happened to an account; empty for what the set-up of Windows does itself."""
    who = record.text("SubjectUserName")
    by = record.account("SubjectDomainName", "SubjectUserName") + " (the machine itself)" * _is_itself(record)
    name = record.text("TargetUserName", "OldTargetUserName")
    if record.event_id in _VERBS:
        is_set_up = who.endswith("$") and record.event_id in _QUIET
        if name.lower() in _SET_UP or is_set_up:
            return ""
        new = f" to {record.text('NewTargetUserName')}" if record.text("NewTargetUserName") else ""
        return f"the account {name} {_VERBS[record.event_id]}{new} by {by}."
    group, sid = record.text("TargetSid"), record.text("MemberSid")
    if not (group in _POWERFUL or group.endswith(_POWERFUL_IN_DOMAIN)) or not sid.startswith(PEOPLE):
        return ""
    member = record.text("MemberName") or people.get(sid) or _BUILT_IN.get(sid.rpartition("-")[2]) or sid
    if member.lower() in _SET_UP:
        return ""
    done = "made a member of" if record.event_id in _INTO else "removed from"
    return f"{member} was {done} {name} by {by}."


def _is_itself(record: Record) -> bool:
    """Whether the machine's own account did it, as its set-up and its policies do."""
    name, host = record.text("SubjectUserName").lower(), record.computer.partition(".")[0].lower()
    return name.endswith("$") and name[:-1] == host[:_NETBIOS]


RULE = Rule("account", "Which accounts were changed", (*_VERBS, *_INTO, *_OUT_OF), _answer)
