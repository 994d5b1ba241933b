"""What the log Security was set to record, as far as its records tell: changes of the machine's audit policy.

Windows records them whatever the policy is (event 4719). See learn.microsoft.com, "4719(S): System audit policy was
changed", and [MS-GPAC] section 2.2.1.2 for the GUIDs of the subcategories.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, more, reason_of, status_of
from fanfold.evidence.report.record import Record

EVENTS = (4719, 4912)
"""The policy of the machine was changed, and that of one account."""
ACCOUNTS, FILES, LOGONS, PROGRAMS = "User Account Management", "File System", "Logon", "Process Creation"
"""Subcategories that rules ask for."""
_FIRST = 0x0CCE9210
_SUBCATEGORIES = (
    "Security State Change", "Security System Extension", "System Integrity", "IPsec Driver", "Other System Events",
    LOGONS, "Logoff", "Account Lockout", "IPsec Main Mode", "IPsec Quick Mode", "IPsec Extended Mode", "Special Logon",
    "Other Logon/Logoff Events", FILES, "Registry", "Kernel Object", "SAM", "Certification Services",
    "Application Generated", "Handle Manipulation", "File Share", "Filtering Platform Packet Drop",
    "Filtering Platform Connection", "Other Object Access Events", "Sensitive Privilege Use",
    "Non Sensitive Privilege Use", "Other Privilege Use Events", PROGRAMS, "Process Termination", "DPAPI Activity",
    "RPC Events", "Audit Policy Change", "Authentication Policy Change", "Authorization Policy Change",
    "MPSSVC Rule-Level Policy Change", "Filtering Platform Policy Change", "Other Policy Change Events", ACCOUNTS,
    "Computer Account Management", "Security Group Management", "Distribution Group Management",
    "Application Group Management", "Other Account Management Events", "Directory Service Access",
    "Directory Service Changes", "Directory Service Replication", "Detailed Directory Service Replication",
    "Credential Validation", "Kerberos Service Ticket Operations", "Other Account Logon Events",
    "Kerberos Authentication Service", "Network Policy Server", "Detailed File Share", "Removable Storage",
    "Central Access Policy Staging", "User / Device Claims", "Plug and Play Events", "Group Membership",
    "Token Right Adjusted Events",
)  # fmt: skip
"""The subcategories in the order of their GUIDs, from 0CCE9210-69AE-11D9-BED3-505054503030 on."""
_CHANGES = {
    "%%8449": ("from then on recorded", "successes"),
    "%%8451": ("from then on recorded", "failures"),
    "%%8448": ("no longer recorded", "successes"),
    "%%8450": ("no longer recorded", "failures"),
}
_TOGETHER = timedelta(seconds=5)  # a policy that is applied changes many subcategories
_SHOWN = 10


def changes(case: Case) -> Iterator[Finding]:
    """The changes of the audit policy, the last one first; those that were made together in one sentence."""
    groups: list[list[Record]] = []
    for record in case.of("Security-Auditing", *EVENTS):
        if groups and _are_together(groups[-1][-1], record):
            groups[-1].append(record)
        else:
            groups.append([record])
    for records in groups[-_SHOWN:][::-1]:
        who = records[0].account("SubjectDomainName", "SubjectUserName")
        by = f" by {who}" if who else ""
        text = f"{case.when(records[0])}{_whose(records[0])} was changed{by}: {_in_words(records)}."
        yield Finding("audit.changed", text, status_of(*records), records[0].time, records, reason_of(*records))
    if hidden := groups[:-_SHOWN]:
        yield more("audit.more", hidden, "change", " of the audit policy before these", hidden[0][:1])


def last_change(case: Case, subcategory: str) -> tuple[str, Sequence[Record]]:
    """When it was last changed whether some events are recorded, for the reason of a sentence; empty if nothing tells.

    `subcategory`: its name in English, as the audit policy has it.
    """
    found = [record for record in case.of("Security-Auditing", EVENTS[0]) if _subcategory(record) == subcategory]
    if not found:
        return "", ()
    last = found[-1]
    when = f" ({case.clock.full(last.time, last)})" if last.time else ""
    return f"the audit policy was last changed for them{when}: {_in_words([last])}", [last]


def _are_together(one: Record, other: Record) -> bool:
    names = ("SubjectUserSid", "SubjectLogonId", "TargetUserSid")
    same = (one.event_id, one.stream, one.origin) == (other.event_id, other.stream, other.origin)
    if not same or any(one.text(name) != other.text(name) for name in names):
        return False
    return bool(one.time and other.time and abs(other.time - one.time) <= _TOGETHER)


def _whose(record: Record) -> str:
    account = record.text("TargetUserSid")
    return f"the audit policy of the account {account}" if account else "the audit policy"


def _in_words(records: Sequence[Record]) -> str:
    """What is recorded from then on, and what is not: no longer recorded: successes of Logon, Logoff."""
    found: dict[str, dict[str, list[str]]] = {}
    for record in records:
        for code, (how, what) in _CHANGES.items():
            if code in record.text("AuditPolicyChanges"):
                found.setdefault(how, {}).setdefault(what, []).append(_subcategory(record))
    parts = []
    for how, kinds in found.items():
        every = dict.fromkeys(name for names in kinds.values() for name in names)
        both = [name for name in every if all(name in names for names in kinds.values())] if len(kinds) > 1 else []
        said = [f"successes and failures of {', '.join(both)}"] if both else []
        for what, names in kinds.items():
            if rest := [name for name in names if name not in both]:
                said.append(f"{what} of {', '.join(rest)}")
        parts.append(f"{how}: {'; '.join(said)}")
    return "; ".join(parts) or "in a way that is not known"


def _subcategory(record: Record) -> str:
    """The name of the subcategory that a change is of; its GUID, if it is not known."""
    guid = record.text("SubcategoryGuid").strip("{}")
    known = (name for number, name in enumerate(_SUBCATEGORIES, _FIRST) if guid.upper().startswith(f"{number:08X}-"))
    return next(known, guid or "a subcategory that is not named")
