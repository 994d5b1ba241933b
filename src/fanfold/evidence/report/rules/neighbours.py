"""The machines around this one: who logged on from where, who printed, who used its shares."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, status_of

_LOCAL = ("127.0.0.1", "::1", "0.0.0.0", "::", "-", "")
_ROLES = (("DNS-Server-Service", "DNS server", (2, 4)), ("DHCP-Server", "DHCP server", (1044,)))
_SHOWN = 40
_IP = re.compile(r"[0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F:.%]*")
_NETBIOS = 15  # characters of the old kind of name, at most


@dataclass
class Host:
    """A machine that was seen."""

    name: str
    addresses: set[str] = field(default_factory=set)
    what: dict[str, None] = field(default_factory=dict)
    """What it did, each once, in order."""
    records: list[Record] = field(default_factory=list)

    @property
    def times(self) -> list[datetime]:
        """When it was seen, in order."""
        return sorted(record.time for record in self.records if record.time)


def hosts(case: Case) -> list[Host]:
    """The machines that were seen, those seen most often first. A record with an address alone is of whoever had it."""
    own = {record.computer.partition(".")[0].lower() for record in case.records}
    found: dict[str, Host] = {}
    named: dict[str, Host] = {}  # by address
    for record, name, address, what in sorted(_seen(case), key=lambda seen: not seen[1]):
        name, address = name.lstrip("\\"), address.removeprefix("::ffff:")
        if _IP.fullmatch(name):
            name, address = "", address if address not in _LOCAL else name
        name = name.partition(".")[0]
        if (
            name.lower() in own
            or name.lower() in {one[:_NETBIOS] for one in own}
            or (not name and address in _LOCAL)
            or name in _LOCAL[:1]
        ):
            continue
        host = named.get(address) if not name else found.get(name.lower())
        if host is None:
            host = found.setdefault((name or address).lower(), Host(name or address))
        if address not in _LOCAL:
            host.addresses.add(address)
            named.setdefault(address, host)
        host.what[what] = None
        host.records.append(record)
    return sorted(found.values(), key=lambda host: (-len(host.records), host.name))


def _seen(case: Case) -> Iterator[tuple[Record, str, str, str]]:
    """Records of other machines: the name, the address, and what it did."""
    for record in case.of("Security-Auditing", 4624):
        if record.number("LogonType") == 3:
            yield record, record.text("WorkstationName"), record.text("IpAddress"), "logged on over the network"
    for record in case.of("Security-Auditing", 4625):
        if record.number("LogonType") == 3:
            yield record, record.text("WorkstationName"), record.text("IpAddress"), "tried to log on"
    for record in case.of("Security-Auditing", 4776):
        yield record, record.text("Workstation"), "", "had a password checked"
    for record in case.of("Security-Auditing", 4768, 4769):
        yield record, "", record.text("IpAddress"), "asked for Kerberos tickets"
    for record in case.of("Security-Auditing", 5140):
        share = record.text("ShareName").rpartition("\\")[2]
        yield record, "", record.text("IpAddress"), f"used the share {share}"
    for record in case.of("PrintService", 307):
        yield record, record.text("Param4", "4").lstrip("\\"), "", "printed"


def roles(case: Case) -> Iterator[tuple[str, list[Record]]]:
    """What this machine is for others: its DNS server, say. Only the server's own records tell."""
    for provider, role, ids in _ROLES:
        if records := [*case.of(provider, *ids)]:
            yield role, records


def _answer(case: Case) -> Iterator[Finding]:
    for role, records in roles(case):
        yield Finding(
            "host.role", f"The machine was a {role}.", status_of(records[-1]), None, [records[0], records[-1]]
        )
    for record in [*case.of("Dhcp-Client", 50028, 50067)][-1:]:
        yield Finding("host.address", f"Its address was {_address(record)}.", status_of(record), record.time, [record])
    printers = {record.text("Param5", "5"): record for record in case.of("PrintService", 307)}
    for printer, record in printers.items():
        yield Finding("host.printer", f"Printer: {printer}.", status_of(record), None, [record])
    found = hosts(case)
    for host in found[:_SHOWN]:
        where = f" ({', '.join(sorted(host.addresses))})" if host.addresses - {host.name} else ""
        seen = " to ".join(dict.fromkeys(map(case.clock.full, host.times[:1] + host.times[-1:])))
        count = f"{len(host.records):,} record{'s' * (len(host.records) > 1)}"
        text = f"{host.name}{where}: {', '.join(host.what)}; {count}{f', {seen}' * bool(seen)}."
        yield Finding("host.seen", text, status_of(host.records[0]), None, [host.records[0], host.records[-1]])
    if len(found) > _SHOWN:
        yield Finding("host.more", f"{len(found) - _SHOWN:,} more machines.", "shown")
    if not found:
        text = "No other machine is recorded: in logons, uses of shares, print jobs."
        reason = case.why_none("Security") or "those that there are were from this machine"
        yield Finding("host.none", text, "not recorded", reason=reason)


def _address(record: Record) -> str:
    """An address, which Dhcp-Client writes as a number whose lowest byte comes first."""
    number = record.number("Address1") or record.number("AddressValue")
    if number is None:
        return record.text("Address", "IPAddress") or "not told"
    return ".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24))


RULE = Rule(
    "host",
    "What was around it",
    (2, 4, 307, 1044, 4624, 4625, 4768, 4769, 4776, 5140, 50028, 50067),
    _answer,
)
