"""What a server name means; what is left of an address; and what a network may take."""

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.tls.analysis.rows import cut as network
from fanfold.tls.serve.asn import Numbers
from fanfold.tls.serve.certificates import covers
from fanfold.tls.serve.limits import Limits, Rates
from fanfold.tls.serve.names import Meaning, Names
from fanfold.tls.serve.prefix import address_of, cut

NAMES = Names.of("0.c.example", "1.example", most=59)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        (b"0.c.example", Meaning("control")),
        (b"0.C.Example", Meaning("control")),
        (b"1.example", Meaning("page")),
        (b"1.1.example", Meaning("live", 1)),
        (b"59.1.EXAMPLE", Meaning("live", 59)),
        (b"60.1.example", "no such number"),
        (b"100.1.example", "no such number"),
        (b"0.1.example", "no such number"),
        (b"007.1.example", "no such number"),
        (b"+5.1.example", "no such number"),
        (b"5 .1.example", "no such number"),
        ("٣.1.example".encode(), "no such number"),
        (b"xn--8hb.1.example", "no such number"),
        ("５.1.example".encode(), "no such number"),
        (b".1.example", "no such number"),
        (b"5.1.example.", "name ends with a dot"),
        (b"0.c.example.", "name ends with a dot"),
        (b"5.1.example\n", "unknown name"),
        (b"x.0.c.example", "unknown name"),
        (b"c.example", "unknown name"),
        (b"5.5.1.example", "unknown name"),
        (b"5.1xexample", "unknown name"),
        (b"127.0.0.1", "unknown name"),
        ("ＥＸＡＭＰＬＥ".encode(), "unknown name"),
        (b"", "no name"),
        (None, "no name"),
        (b"5" * 246 + b".1.example", "name too long, or broken"),
    ],
)
def test_what_names_mean(name: bytes | None, meaning: Meaning | str) -> None:
    """The names of the experiment mean what they say, in any case; all others have a reason to be refused."""
    assert NAMES.meaning(name) == meaning


labels = st.one_of(
    st.integers(-5, 120).map(str),
    st.text("0123456789+-._eE ٣５xn", max_size=6),
    st.sampled_from(["0", "c", "1", "example", "EXAMPLE", "ｅxample", "007", "1e1", "0x5", "٣", "\0"]),
)
odd = st.one_of(
    st.binary(max_size=260),
    st.lists(labels, max_size=5).map(".".join).map(str.encode),
    st.builds(lambda number, end: f"{number}.1.example{end}".encode(), labels, st.sampled_from(["", ".", "\0", " "])),
)


@given(odd)
@example(b"9.1.example")
@example(b"10.1.EXAMPLE")
def test_only_the_names_of_the_experiment_are_accepted(name: bytes) -> None:
    """Of all bytes that a client can send as a name, exactly those of the three forms are accepted."""
    meaning = NAMES.meaning(name)
    live = re.fullmatch(rb"([1-9]|[1-5][0-9])\.1\.example", name.lower())
    if name.lower() == b"0.c.example":
        assert meaning == Meaning("control")
    elif name.lower() == b"1.example":
        assert meaning == Meaning("page")
    elif live:
        assert meaning == Meaning("live", int(live[1]))
    else:
        assert isinstance(meaning, str)


def test_names_of_options() -> None:
    """Options are in lower case; --control may be its domain alone; the page is at the live domain by default."""
    assert Names.of("C.example", "1.Example") == Names("0.c.example", "1.example", "1.example", 59)
    assert Names.of("0.c.example", "1.example", "www.example", 9) == Names("0.c.example", "1.example", "www.example", 9)


@pytest.mark.parametrize(
    ("control", "live", "page", "most", "says"),
    [
        ("0.c.example", "1.example", None, 0, "--max takes a number from 1 to 99, not 0"),
        ("0.c.example", "1.example", None, 100, "--max takes a number from 1 to 99, not 100"),
        ("c..example", "1.example", None, 59, "--control takes the name of a host"),
        ("c.example", "1.example.", None, 59, "--live takes the name of a host"),
        ("c.example", "https://1.example", None, 59, "--live takes the name of a host"),
        ("c.example", "bücher.example", None, 59, "as it is in the DNS, in ASCII"),
        ("c.example", "1.example", "5.1.example", 59, "--page 5.1.example is a name that a handshake is measured at"),
        ("c.example", "1.example", "0.c.example", 59, "--page 0.c.example is a name that a handshake is measured at"),
        ("1.example", "1.example", None, 59, "--control 0.1.example is a live name"),
        ("c.example", "x" * 64 + ".example", None, 59, "--live takes the name of a host"),
    ],
)
def test_names_that_cannot_work(control: str, live: str, page: str | None, most: int, says: str) -> None:
    """Names that mean two things, or that are none, are refused with what is wrong."""
    with pytest.raises(UsageError, match=re.escape(says)):
        Names.of(control, live, page, most)


@given(st.ip_addresses(v=4))
def test_ipv4_addresses_are_cut_to_24_bits(address: IPv4Address) -> None:
    """Nothing of the last byte is left, also if the address comes as an IPv6 address."""
    network = int(address) >> 8 << 8
    assert cut(address_of(str(address))) == (f"{IPv4Address(network)}/24", 4)
    assert cut(address_of(f"::ffff:{address}")) == (f"{IPv4Address(network)}/24", 4)


@given(st.ip_addresses(v=6))
def test_ipv6_addresses_are_cut_to_48_bits(address: IPv6Address) -> None:
    """Nothing of the last 80 bits is left; of an IPv4 address inside (6to4), nothing of its last byte."""
    text, family = cut(address_of(str(address)))
    if address.ipv4_mapped:
        return
    bits = 40 if address.sixtofour else 48
    assert (text, family) == (f"{IPv6Address(int(address) >> (128 - bits) << (128 - bits))}/{bits}", 6)


@given(st.ip_addresses())
@example(IPv6Address("2002:c000:02ff::1"))
@example(IPv6Address("::ffff:192.0.2.1"))
def test_an_analysis_cuts_addresses_as_the_server_does(address: IPv4Address | IPv6Address) -> None:
    """What the server stores and the whole address are one network to an analysis, also inside IPv6 (6to4)."""
    stored, _ = cut(address_of(str(address)))
    assert network(stored.encode()) == network(str(address).encode()) > 0


def test_addresses_as_sockets_say_them() -> None:
    """An address with a zone, and one of 6to4."""
    assert cut(address_of("fe80::1234%eth0")) == ("fe80::/48", 6)
    assert cut(address_of("2002:c000:02ff::1")) == ("2002:c000:200::/40", 6)


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("*.1.example", "5.1.example", True),
        ("5.1.example", "5.1.example", True),
        ("*.1.example", "1.example", False),
        ("*.1.example", "5.5.1.example", False),
        ("*.example", "5.1.example", False),
        ("*", "example", False),
    ],
)
def test_names_of_certificates(pattern: str, name: str, does: bool) -> None:
    """A * stands for one label."""
    assert covers(pattern, name) is does


def test_networks_have_numbers(tmp_path: Path) -> None:
    """The number of a network comes from the range that an address is in; addresses in no range have none."""
    table = tmp_path / "ip2asn.tsv"
    table.write_text(
        "192.0.2.0\t192.0.2.255\t64500\tXX\tONE\n"
        "198.51.100.0\t198.51.100.127\t64501\tXX\tTWO\r\n"
        "203.0.113.0\t203.0.113.255\t0\tNone\tNot routed\n"
        "2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\t64502\tXX\tTHREE\n"
    )
    numbers = Numbers.read(table)
    found = [
        numbers.of(address_of(text))
        for text in (
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "198.51.100.128",
            "203.0.113.1",
            "0.0.0.1",
            "2001:db8::7",
            "2001:db9::",
        )
    ]
    assert found == [64500, 64500, None, None, None, 64502, None]
    table.write_text("192.0.2.0 192.0.2.255 64500\n")
    with pytest.raises(UsageError, match=r"Line 1 of .* is not a range of addresses"):
        Numbers.read(table)


def test_a_network_has_a_burst_and_then_a_rate() -> None:
    """20 at once, then one a second; another network has its own; a pause fills no more than a burst."""
    rates = Rates(Limits())
    assert [rates.take("a", 0.0) for _ in range(22)] == [True] * 20 + [False] * 2
    assert rates.take("b", 0.0)
    assert [rates.take("a", 1.5), rates.take("a", 1.6), rates.take("a", 2.1)] == [True, False, True]
    assert sum(rates.take("a", 1000.0) for _ in range(50)) == 20


def test_networks_are_forgotten() -> None:
    """A network whose bucket is full again takes no memory, and neither do more than 100,000."""
    rates = Rates(Limits())
    for number in range(1000):
        rates.take(str(number), number / 1000)
    assert len(rates._buckets) == 1000
    rates.take("new", 30.0)
    assert len(rates._buckets) == 1
    for number in range(100_500):
        rates.take(str(number), 30.0)
    assert len(rates._buckets) == 100_000
