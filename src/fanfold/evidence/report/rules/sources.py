"""The logs that answer each question, so that a report can say which of them are there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fanfold.evidence.report.case import Case
from fanfold.evidence.times import iso

State = Literal["there", "without records", "not read", "recovered", "not there"]

LOGS: Mapping[str, Sequence[str]] = {
    "machine": ("System",),
    "logon": ("Security", "TerminalServices-LocalSessionManager/Operational"),
    "remote": (
        "Security", "TerminalServices-LocalSessionManager/Operational",
        "TerminalServices-RemoteConnectionManager/Operational",
    ),
    "usb": ("Partition/Diagnostic", "Kernel-PnP/Configuration", "Ntfs/Operational", "Kernel-IO/Operational"),
    "program": ("Security", "Sysmon/Operational", "Application-Experience/Program-Telemetry", "System"),
    "taking": ("System", "Security"),
    "host": (
        "Security", "System", "SmbClient/Connectivity", "SmbClient/Security", "Dhcp-Client/Operational",
        "Dhcp-Client/Admin", "DNS-Client/Operational", "GroupPolicy/Operational", "NetworkProfile/Operational",
        "PrintService/Operational",
        "DNS Server", "Dhcp-Server/Operational",
    ),
    "account": ("Security",),
    "note": ("System", "Security", "PowerShell/Operational", "Windows Defender/Operational"),
    "power": ("System",),
    "clock": ("System", "Security"),
    "cleared": ("Security", "System", "Application"),
}  # fmt: skip
"""The short names of the logs, by the questions' ids. No log can tell what cannot be shown."""


@dataclass(frozen=True)
class Source:
    """A log that would tell, and whether it is there."""

    log: str
    state: State
    records: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "log": self.log,
            "state": self.state,
            "records": self.records,
            "first_time": iso(self.first),
            "last_time": iso(self.last),
        }


def sources(case: Case, question: str) -> Iterator[Source]:
    """The logs that answer a question, as far as they are there."""
    for name in LOGS.get(question, ()):
        log = case.log(name)
        if case.is_unread(name):
            yield Source(name, "not read")
        elif log is None:
            count, _, _, first, last = case.recovered(name)
            yield Source(name, "recovered" if count or case.is_carved(name) else "not there", count, first, last)
        elif not log["records"]:
            yield Source(name, "without records")
        else:
            yield Source(name, "there", log["records"], log.get("first_time"), log.get("last_time"))


def in_words(found: Sequence[Source]) -> str:
    """One sentence for each state: Looked at: Security, System. Not there: Sysmon/Operational."""
    named = (("Looked at", "there"), ("Without records", "without records"), ("Not read", "not read"),
             ("Only recovered records of", "recovered"), ("Not there", "not there"))  # fmt: skip
    parts = ((words, [source.log for source in found if source.state == state]) for words, state in named)
    return " ".join(f"{words}: {', '.join(logs)}." for words, logs in parts if logs)
