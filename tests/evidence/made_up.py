"""Records and machines that are made up, for tests of the rules."""

from typing import Any

import mesa

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.record import Record


def record(
    event_id: int, time: str = "12:00:00", log: str = "Security", number: int = 1, provider: str = "", **data: Any
) -> Record:
    """A record of the log Security, or of another one; `provider`: its short name, if it is not the log's usual one."""
    providers = {
        "Security": "Microsoft-Windows-Security-Auditing",
        "System": "Microsoft-Windows-Kernel-General",
        "Partition/Diagnostic": "Microsoft-Windows-Partition",
        "Ntfs/Operational": "Microsoft-Windows-Ntfs",
        "Sysmon/Operational": "Microsoft-Windows-Sysmon",
    }
    usual = "EventLog" if event_id in (6005, 6006, 6008, 6013) else providers.get(log, log)
    name = f"Microsoft-Windows-{provider}" if provider else usual
    return Record(log, number, mesa.at(time), event_id, name, "HOST", data)


def case(*records: Record, **more: Any) -> Case:
    """A machine with these records and no logs."""
    return Case("host", records, more.pop("logs", []), more.pop("container", {}), **more)


def texts(rule: Any, given: Case) -> list[tuple[str, str]]:
    """The sentences of a rule, each with its status, those below others included."""
    found = []
    for finding in rule.answer(given):
        found += [(one.text, one.status) for one in (finding, *finding.details)]
    return found


def log(name: str, **more: Any) -> dict[str, Any]:
    """The coverage of a log."""
    return {"path": f"{name}.evtx", "origin": "live", "newest_time": mesa.at("18:00:00"), "last_record_id": 9,
            "first_record_id": 1, "dirty": False, "records": 9, "gaps": [], **more}  # fmt: skip


def logon(time: str = "12:00:00", number: int = 1, event_id: int = 4624, **data: Any) -> Record:
    """A logon at the console."""
    return record(event_id, time, number=number, **{**mesa.LOGON, "TargetLogonId": f"0x{number:x}", **data})
