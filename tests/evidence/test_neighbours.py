"""The machines around one: names, addresses, what they did; and the roles that this machine had."""

from typing import Any

import mesa
import pytest
from made_up import case, log, record, texts

from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import neighbours

LEASE = 0x0A64A8C0  # 192.168.100.10, as Dhcp-Client writes it


def network(account: str, address: str, name: str = "", number: int = 1, event_id: int = 4624) -> Record:
    """A logon over the network."""
    return record(
        event_id, number=number, LogonType="3", TargetUserName=account, WorkstationName=name, IpAddress=address
    )


def of(provider: str, event_id: int, **data: Any) -> Record:
    """A record of another provider, in the log System."""
    return record(event_id, log="System", provider=provider, **data)


def netlogon(event_id: int, *values: str) -> Record:
    """A record of NETLOGON, whose values have no names."""
    data = {str(number): value for number, value in enumerate(values, 1)}
    return Record("System", 1, mesa.at("12:00:00"), event_id, "NETLOGON", "HOST", data)


@pytest.mark.parametrize(
    ("given", "name", "addresses", "what"),
    [
        (network("eve", "::ffff:10.0.0.7", "PC7"), "PC7", {"10.0.0.7"}, "logged on over the network"),
        (network("PC7$", "10.0.0.7"), "PC7", {"10.0.0.7"}, "logged on over the network"),
        (network("eve", "fe80::1%12", "PC7"), "PC7", {"fe80::1"}, "logged on over the network"),
        (network("eve", "-", "PC7", event_id=4625), "PC7", set(), "tried to log on"),
        (record(4624, LogonType="10", WorkstationName="HOST", TargetUserName="eve", IpAddress="10.0.0.7"),
         "10.0.0.7", {"10.0.0.7"}, "logged on by Remote Desktop"),
        (record(4776, Workstation="PC7", TargetUserName="eve"), "PC7", set(), "had a password checked"),
        (record(4768, TargetUserName="PC7$", IpAddress="::ffff:10.0.0.7"), "PC7", {"10.0.0.7"},
         "asked for Kerberos tickets"),
        (record(4769, TargetUserName="PC7$@CORP.EXAMPLE", IpAddress="10.0.0.7"), "PC7", {"10.0.0.7"},
         "asked for Kerberos tickets"),
        (of("PrintService", 307, Param4="\\\\PC7", Param5="Printer"), "PC7", set(), "printed"),
        (of("TerminalServices-LocalSessionManager", 21, User="CORP\\eve", Address="10.0.0.7"), "10.0.0.7", {"10.0.0.7"},
         "logged on by Remote Desktop"),
        (of("SMBClient", 30804, ServerName="\\FILES", Address="020001bd0a000007"), "FILES", {"10.0.0.7"},
         "was asked for its shares"),
        (of("SMBClient", 30807, ServerName="\\FILES\\data"), "FILES", set(), "was asked for its shares"),
        (of("GroupPolicy", 5308, DCName="\\\\DC1.corp.example", DCIPAddress="\\\\10.0.0.7"), "DC1", {"10.0.0.7"},
         "was the domain controller"),
        (netlogon(5722, "PC7", "PC7$"), "PC7", set(), "failed to connect to the domain"),
        (netlogon(5783, "\\\\DC1.corp.example", "CORP"), "DC1", set(), "was the domain controller"),
        (of("Dhcp-Client", 1002, Address1=LEASE, Address2=0x0100000A), "10.0.0.1", {"10.0.0.1"}, "was the DHCP server"),
        (of("Dhcp-Client", 50055, Address=0x0100000A), "10.0.0.1", {"10.0.0.1"}, "was the gateway"),
        (of("DNS-Client", 8019, DnsServerList="\n\t10.0.0.7", Ipaddress="10.0.0.9"), "10.0.0.7", {"10.0.0.7"},
         "was the DNS server"),
    ],
)  # fmt: skip
def test_where_other_machines_are_seen(given: Record, name: str, addresses: set[str], what: str) -> None:
    """Each kind of record tells a machine's name or its address, and what it did."""
    (found,) = neighbours.hosts(case(given))
    assert (found.name, found.addresses, [*found.what]) == (name, addresses, [what])


@pytest.mark.parametrize(
    "given",
    [
        network("HOST$", "fe80::5"),
        network("eve", "::1"),
        network("eve", "-"),
        network("eve", "127.0.0.1", "HOST"),
        of("SMBClient", 30804, ServerName="\\Device\\NetBT_Tcpip_{1}"),
        of("TerminalServices-LocalSessionManager", 21, User="CORP\\eve", Address="LOCAL"),
    ],
)
def test_what_is_no_other_machine(given: Record) -> None:
    """The machine itself, its adapters and its console are no neighbours."""
    assert neighbours.hosts(case(given)) == []


def test_the_own_address_of_a_machine() -> None:
    """A record with an address alone, which is this machine's own by another record, is of no neighbour."""
    by_name = network("HOST$", "fe80::5", number=1), record(5140, number=2, ShareName="\\\\*\\D", IpAddress="fe80::5%3")
    by_lease = of("Dhcp-Client", 50028, Address=LEASE), network("eve", "192.168.100.10", number=3)
    assert neighbours.hosts(case(*by_name, *by_lease)) == []
    assert neighbours.own_addresses(case(*by_lease)) == {"192.168.100.10"}


def test_machines_do_not_hide_people() -> None:
    """On a domain controller the machines' own accounts come most often; where a person came from is told before."""
    machines = [network(f"PC{n}$", f"10.0.1.{n}", number=1000 * n + k) for n in range(1, 46) for k in range(5)]
    person = network("eve", "10.0.0.7", "KIOSK", number=9)
    found = texts(neighbours.RULE, case(*machines, person))
    told = [text for text, _ in found]
    assert told[0] == ("KIOSK (10.0.0.7): logged on over the network, by eve; 1 record, Sun 23 May 2021, 12:00:00 UTC.")
    assert told[-1] == "6 more machines, seen less often."


def test_one_machine_with_several_addresses() -> None:
    """Its link-local address and its address of IPv4 are told together."""
    given = case(network("PC7$", "fe80::7%4", number=1), network("PC7$", "10.0.0.7", number=2))
    (found,) = neighbours.hosts(given)
    assert found.addresses == {"10.0.0.7", "fe80::7"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (of("DNS-Server-Service", 2), "The machine was a DNS server."),
        (of("DHCP-Server", 1044), "The machine was a DHCP server."),
        (record(4768, TargetUserName="eve", IpAddress="10.0.0.7"), "The machine was a domain controller."),
    ],
)
def test_roles(given: Record, sentence: str) -> None:
    """The server's own records tell its role."""
    assert sentence in {text for text, _ in texts(neighbours.RULE, case(given))}


@pytest.mark.parametrize(
    "given",
    [
        of("DNS-Client", 8019, DnsServerList="10.0.0.7"),
        of("Dhcp-Client", 50013, Address1=LEASE, Address2=LEASE),
        record(4776, Workstation="PC7", TargetUserName="eve"),
        record(4769, TargetUserName="eve", IpAddress="10.0.0.7"),
    ],
)
def test_a_client_is_no_server(given: Record) -> None:
    """Records of a client of a service do not make the machine its server."""
    assert not [text for text, _ in texts(neighbours.RULE, case(given)) if text.startswith("The machine was a ")]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (of("Dhcp-Client", 50028, Address=LEASE), "Its address was 192.168.100.10, Sun 23 May 2021, 12:00:00 UTC."),
        (of("Dhcp-Client", 1002, Address1=LEASE, Address2=1), "Its address was 192.168.100.10, Sun 23 May 2021, "
         "12:00:00 UTC."),
        (of("Dhcp-Client", 50067, NetworkHintString="cafe", HWAddress="00"), 'It was connected to the network "cafe", '
         "wireless, Sun 23 May 2021, 12:00:00 UTC."),
        (of("NetworkProfile", 10000, Name="corp.example", Category=2),
         'It was connected to the network "corp.example", of a domain, Sun 23 May 2021, 12:00:00 UTC.'),
        (of("PrintService", 300, Param1="Laser"), "Printer: Laser."),
        (netlogon(5719, "CORP"), "Sun 23 May 2021, 12:00:00 UTC: it found no domain controller of CORP."),
    ],
)  # fmt: skip
def test_addresses_networks_and_printers(given: Record, sentence: str) -> None:
    """What else was around the machine."""
    assert (sentence, "shown") in texts(neighbours.RULE, case(given))


def test_a_network_that_windows_does_not_know() -> None:
    """The name of a network that is not known yet is none."""
    given = case(of("NetworkProfile", 10000, Name="Identifying...", Category=0), logs=[log("Security")])
    assert [text for text, _ in texts(neighbours.RULE, given)] == [
        "No other machine is recorded: in logons, uses of shares, print jobs."
    ]


@pytest.mark.parametrize("text", ["", "zz", "0x", "02", "17000000", "0200"])
def test_what_is_no_address_of_a_socket(text: str) -> None:
    """Bytes that hold no address give none."""
    found = neighbours.hosts(case(of("SMBClient", 30804, ServerName="\\FILES", Address=text)))
    assert [host.addresses for host in found] == [set()]


def test_names_that_were_asked_for() -> None:
    """Each name with how often it was asked for; a question and its answer count once."""

    def asked(number: int, event_id: int, name: str) -> Record:
        return record(event_id, f"12:00:{number:02}", "DNS-Client/Operational", number, "DNS-Client", QueryName=name)

    names = [(3006, "B.example."), (3008, "b.example"), (3006, "b.example"), (3008, "a.example"), (3006, "")]
    given = case(*(asked(number, *one) for number, one in enumerate(names)))
    assert texts(neighbours.RULE, given)[0] == (
        "Names that the machine asked for, with how often: b.example (2), a.example (1), "
        "Sun 23 May 2021, 12:00:00 UTC to Sun 23 May 2021, 12:00:03 UTC.", "shown",
    )  # fmt: skip
    many = case(*(asked(number, 3006, f"host{number:02}") for number in range(25)))
    assert "host19 (1); and 5 more, " in texts(neighbours.RULE, many)[0][0]
