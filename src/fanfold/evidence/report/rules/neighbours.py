"""The machines around this one: who logged on from where, who printed, who used its shares, which servers it used.

The names of values are those of the providers' manifests, as github.com/nasbench/EVTX-ETW-Resources lists them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv6Address, ip_address

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, status_of
from fanfold.evidence.report.record import Record

_LOCAL = ("127.0.0.1", "::1", "0.0.0.0", "::", "-", "")
_ROLES = (
    ("DNS-Server-Service", "DNS server", (2, 4)),
    ("DHCP-Server", "DHCP server", (1044,)),
    ("Security-Auditing", "domain controller", (4768,)),  # only one that gives out Kerberos tickets records this
)
_CATEGORIES = {0: "public", 1: "private", 2: "of a domain"}
_SHOWN, _NAMES_SHOWN = 40, 20
_NAME = 100  # characters of a name
_PEOPLE_SHOWN = 3  # accounts of a machine
_IP = re.compile(r"[0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F:.%]*")
_NETBIOS = 15  # characters of the old kind of name, at most
_NETWORK, _BY_DESKTOP = 3, 10
_SMB = (30803, 30804, 30805, 30806, 30807, 30808, 31001, 31010)
_REGISTRATION = (8003, 8004, 8005, 8006, 8007, 8008, 8009, 8015, 8016, 8017, 8018, 8019, 8020)
"""A name that could not be registered: the record has the machine's addresses, and its DNS servers."""
_ASKED, _ANSWERED = 3006, 3008
"""A program asks for a name, and what comes of it."""
_OWN_ADDRESS = (1000, 1002, 1007, 50010, 50013, 50028)
_WITH_SERVER = (1002, 50010, 50013)
_GATEWAY, _WIRELESS = (50055, 50062), (50065, 50066, 50067)


@dataclass
class Host:
    """A machine that was seen."""

    name: str
    addresses: set[str] = field(default_factory=set)
    what: dict[str, None] = field(default_factory=dict)
    """What it did, each once, in order."""
    people: dict[str, None] = field(default_factory=dict)
    """The accounts that logged on from there, without those of machines."""
    records: list[Record] = field(default_factory=list)

    @property
    def times(self) -> list[datetime]:
        """When it was seen, in order."""
        return sorted(record.time for record in self.records if record.time)


@dataclass(frozen=True)
class _Sight:
    """A record of another machine: its name, its address, and what it did."""

    record: Record
    name: str
    address: str
    what: str

    @property
    def person(self) -> str:
        """The account that came from there; empty if it is a machine's, or if none is recorded."""
        if self.record.event_id not in (4624, 4625, 4776, 4768):
            return ""
        name = self.record.text("TargetUserName").partition("@")[0]
        return "" if name.endswith("$") or name.upper() == "ANONYMOUS LOGON" else name


def hosts(case: Case) -> list[Host]:
    """The machines that were seen: those that people came from, then those seen most often.

    A record with an address alone is of the machine that had it, by other records.
    """
    own = {record.computer.partition(".")[0].lower() for record in case.records}
    own |= {name[:_NETBIOS] for name in own}
    sights = [*_seen(case)]
    mine = {one.address for one in sights if one.name.lower() in own} | own_addresses(case)
    found: dict[str, Host] = {}
    named: dict[str, Host] = {}  # by address
    for sight in sorted(sights, key=lambda sight: not sight.name):
        is_other = sight.name.lower() not in own and (sight.name or sight.address not in (*_LOCAL, *mine))
        if not is_other:
            continue
        host = named.get(sight.address) if not sight.name else found.get(sight.name.lower())
        if host is None:
            host = found.setdefault((sight.name or sight.address).lower(), Host(sight.name or sight.address))
        if sight.address not in (*_LOCAL, *mine):
            host.addresses.add(sight.address)
            named.setdefault(sight.address, host)
        host.what[sight.what] = None
        if sight.person:
            host.people[sight.person] = None
        host.records.append(sight.record)
    return sorted(found.values(), key=lambda host: (not host.people, -len(host.records), host.name))


def own_addresses(case: Case) -> set[str]:
    """The machine's own addresses, as far as its records and its registry tell them."""
    found = {_address(record, "Address1", "Address") for record in case.of("Dhcp-Client", *_OWN_ADDRESS)}
    for record in case.of("DNS-Client", *_REGISTRATION):
        found |= {_plain(text) for text in re.split(r"[\s,;]+", record.text("Ipaddress"))}
    for fact in case.facts_of("address"):
        found |= set(fact["value"]["addresses"])
    return found - {""}


def _seen(case: Case) -> Iterator[_Sight]:
    """Records of other machines, with plain names and addresses."""
    for record, name, address, what in _raw(case):
        name, address = name.lstrip("\\"), _plain(address)
        if _IP.fullmatch(name):
            name, address = "", address if address not in _LOCAL else _plain(name)
        yield _Sight(record, "" if name in _LOCAL else name.partition(".")[0], address, what)


def _raw(case: Case) -> Iterator[tuple[Record, str, str, str]]:
    """Records of other machines: the name, the address, and what it did."""
    for record in case.of("Security-Auditing", 4624, 4625):
        kind = record.number("LogonType")
        name, address = record.text("WorkstationName") or _machine(record), record.text("IpAddress")
        if kind == _NETWORK:
            yield record, name, address, "logged on over the network" if record.event_id == 4624 else "tried to log on"
        elif kind == _BY_DESKTOP and record.event_id == 4624:  # its WorkstationName is this machine's
            yield record, "", address, "logged on by Remote Desktop"
    for record in case.of("Security-Auditing", 4776):
        yield record, record.text("Workstation"), "", "had a password checked"
    for record in case.of("Security-Auditing", 4768, 4769):
        yield record, _machine(record), record.text("IpAddress"), "asked for Kerberos tickets"
    for record in case.of("Security-Auditing", 5140):
        share = record.text("ShareName").rpartition("\\")[2]
        yield record, "", record.text("IpAddress"), f"used the share {share}"
    for record in case.of("PrintService", 307):
        yield record, record.text("Param4", "4"), "", "printed"
    for record in case.of("TerminalServices-LocalSessionManager", 21, 25):
        if record.text("Address").upper() != "LOCAL":
            yield record, "", record.text("Address"), "logged on by Remote Desktop"
    for record in case.of("SMBClient", *_SMB):
        server = record.text("ServerName").lstrip("\\")
        if not server.lower().startswith("device\\"):  # else it is an adapter of this machine
            yield record, server.partition("\\")[0], _socket(record.text("Address")), "was asked for its shares"
    for record in case.of("GroupPolicy", 5308):
        address = record.text("DCIPAddress", "2").lstrip("\\")
        yield record, record.text("DCName", "1"), address, "was the domain controller"
    for record in case.of("NETLOGON", 5722, 5723, 5805):
        yield record, record.text("1"), "", "failed to connect to the domain"
    for record in case.of("NETLOGON", 5783):
        yield record, record.text("1"), "", "was the domain controller"
    for record in case.of("Dhcp-Client", *_WITH_SERVER):
        yield record, "", _address(record, "Address2"), "was the DHCP server"
    for record in case.of("Dhcp-Client", *_GATEWAY):
        yield record, "", _address(record, "Address"), "was the gateway"
    for record in case.of("DNS-Client", *_REGISTRATION):
        for server in re.split(r"[\s,;]+", record.text("DnsServerList")):
            yield record, "", server, "was the DNS server"


def _machine(record: Record) -> str:
    """The machine whose own account came; empty if it was another account."""
    name = record.text("TargetUserName").partition("@")[0]
    return name[:-1] if name.endswith("$") else ""


def _plain(address: str) -> str:
    """An address as the report writes it: an IPv4 address in one of IPv6 by itself, and no name of an adapter."""
    address = address.partition("%")[0].strip()
    try:
        known = ip_address(address)
    except ValueError:
        return "" if address in _LOCAL else address
    if isinstance(known, IPv6Address) and known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(known)


def _address(record: Record, *names: str) -> str:
    """An address, which Dhcp-Client writes as a number whose lowest byte comes first; empty if there is none."""
    for name in names:
        if number := record.number(name):
            return ".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24))
    text = record.text(*names)
    return _plain(text) if _IP.fullmatch(text) and not text.isdigit() else ""


def _socket(text: str) -> str:
    """The address in a SOCKADDR, which is written as hexadecimal digits; empty for anything else."""
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return ""
    family = int.from_bytes(data[:2], "little")
    if family == 2 and len(data) >= 8:
        return str(ip_address(data[4:8]))
    return str(ip_address(data[8:24])) if family == 23 and len(data) >= 24 else ""


def roles(case: Case) -> Iterator[tuple[str, list[Record]]]:
    """What this machine is for others: its DNS server, say. Only the server's own records tell."""
    for provider, role, ids in _ROLES:
        if records := [*case.of(provider, *ids)]:
            yield role, records


def _answer(case: Case) -> Iterator[Finding]:
    for role, records in roles(case):
        ends = [records[0], records[-1]]
        yield Finding("host.role", f"The machine was a {role}.", status_of(records[-1]), None, ends)
    yield from _own(case)
    printers = {record.text("Param5", "5"): record for record in case.of("PrintService", 307)}
    printers = {record.text("Param1", "1"): record for record in case.of("PrintService", 300)} | printers
    for printer, record in printers.items():
        yield Finding("host.printer", f"Printer: {printer}.", status_of(record), None, [record])
    found = hosts(case)
    for host in found[:_SHOWN]:
        yield _host(case, host)
    if hidden := found[_SHOWN:]:
        yield more("host.more", hidden, "machine", ", seen less often", hidden[0].records[:1])
    yield from _asked_for(case)
    if not found:
        text = "No other machine is recorded: in logons, uses of shares, print jobs."
        reason = case.why_none("Security") or "those that are recorded were from this machine itself"
        yield Finding("host.none", text, "not recorded", reason=reason)


def _asked_for(case: Case) -> Iterator[Finding]:
    """The names whose addresses the machine asked for, those that it asked for most often first."""
    found: dict[str, dict[int, list[Record]]] = {}
    for record in case.of("DNS-Client", _ASKED, _ANSWERED):
        name = record.text("QueryName").rstrip(".").lower()[:_NAME]
        found.setdefault(name, {}).setdefault(record.event_id, []).append(record)
    found.pop("", None)
    if not found:
        return
    asked = {name: max(some.values(), key=len) for name, some in found.items()}  # a question has a record of each
    order = sorted(asked.items(), key=lambda one: (-len(one[1]), one[0]))
    names = ", ".join(f"{name} ({len(records):,})" for name, records in order[:_NAMES_SHOWN])
    more_names = f"; and {len(order) - _NAMES_SHOWN:,} more" if len(order) > _NAMES_SHOWN else ""
    every = sorted((record for records in asked.values() for record in records), key=lambda one: one.record_id)
    text = f"Names that the machine asked for, with how often: {names}{more_names}{case.span(every)}."
    yield Finding("host.names", text, status_of(*every), None, [every[0], every[-1]])


def _own(case: Case) -> Iterator[Finding]:
    """The machine's own addresses, its domain and its networks."""
    addresses: dict[str, list[Record]] = {}
    for record in case.of("Dhcp-Client", *_OWN_ADDRESS):
        if address := _address(record, "Address1", "Address"):
            addresses.setdefault(address, []).append(record)
    for address, records in addresses.items():
        text = f"Its address was {address}{case.span(records)}."
        yield Finding("host.address", text, status_of(records[-1]), None, [records[0], records[-1]])
    for record in [*case.of("NETLOGON", 5719)][-1:]:
        text = f"{case.when(record)}it found no domain controller of {record.text('1')}."
        yield Finding("host.domain", text, status_of(record), record.time, [record])
    networks: dict[str, list[Record]] = {}
    for record in case.of("NetworkProfile", 10000):
        if not record.text("Name").startswith(("Identifying", "Unidentified")):  # Windows does not know which it is
            category = _CATEGORIES.get(record.number("Category"), "of an unknown kind")  # type: ignore[arg-type]
            networks.setdefault(f'"{record.text("Name")}", {category}', []).append(record)
    for record in case.of("Dhcp-Client", *_WIRELESS):
        networks.setdefault(f'"{record.text("NetworkHintString")}", wireless', []).append(record)
    for network, records in networks.items():
        text = f"It was connected to the network {network}{case.span(records)}."
        yield Finding("host.network", text, status_of(records[-1]), None, [records[0], records[-1]])


def _host(case: Case, host: Host) -> Finding:
    where = f" ({', '.join(sorted(host.addresses))})" if host.addresses - {host.name} else ""
    more = f" and {len(host.people) - _PEOPLE_SHOWN} more" if len(host.people) > _PEOPLE_SHOWN else ""
    people = f", by {', '.join([*host.people][:_PEOPLE_SHOWN])}{more}" if host.people else ""
    count = f"{len(host.records):,} record{'s' * (len(host.records) > 1)}"
    text = f"{host.name}{where}: {', '.join(host.what)}{people}; {count}{case.span(host.records)}."
    return Finding("host.seen", text, status_of(host.records[0]), None, [host.records[0], host.records[-1]])


RULE = Rule(
    "host",
    "What was around it",
    (
        *(2, 4, 21, 25, 300, 307, 1044, 4624, 4625, 4768, 4769, 4776, 5140, 5308, 10000),
        *(5719, 5722, 5723, 5783, 5805),
        *_SMB,
        *(_ASKED, _ANSWERED),
        *_REGISTRATION,
        *_OWN_ADDRESS,
        *_GATEWAY,
        *_WIRELESS,
    ),
    _answer,
)
