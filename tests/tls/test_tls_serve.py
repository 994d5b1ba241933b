"""`fanfold tls serve` with real sockets and clients: what it stores, what it refuses, what it lets clients take."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import (
    ALERT_112,
    CONTROL,
    KEY,
    LIVE,
    PAGE,
    Serving,
    answer,
    ask,
    connected,
    hello,
    in_process,
    reply,
    rows,
    serving,
    trusting,
    waited,
)

from commands import objects, on_terminal
from fanfold.tls.cells import cell_of
from fanfold.tls.flights import added
from fanfold.tls.serve.lab import hosts
from fanfold.tls.serve.names import Meaning, Names
from fanfold.tls.tcp import tcp_info
from helpers import free_port

NAMES = Names.of(CONTROL, LIVE)
FREE = ("--per-minute", 0)
SLACK = 3
"""Bytes that a signature of ECDSA may be longer or shorter than another."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of a lab, for tests that use keys of their own."""
    with serving(tmp_path_factory.mktemp("serve"), *FREE, is_fresh=True) as server:
        yield server


def key(number: int) -> str:
    """A key of a test's own."""
    return f"{number:032x}"


def of(server: Serving, wanted: str) -> dict[str, dict[str, Any]]:
    """The rows of a key, by role."""
    return {row["role"]: row for row in server.rows() if row["key"] == wanted}


@pytest.mark.parametrize(("version", "name"), [(ssl.TLSVersion.TLSv1_3, "1.3"), (ssl.TLSVersion.TLSv1_2, "1.2")])
def test_a_pair_of_handshakes(running: Serving, version: ssl.TLSVersion, name: str) -> None:
    """Both rows of a key are stored; the live flight is longer by its dummies, to the bytes that a signature varies."""
    context = trusting(running, minimum_version=version, maximum_version=version)
    mine = key(100 + version)
    for host in (CONTROL, f"37.{LIVE}"):
        status, text = ask(running, host, f"/s?k={mine}&n=37", context=context)
        assert status == 204
        assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in text
        assert b"\r\nTiming-Allow-Origin: *\r\n" in text
    with connected(running.port) as plain:
        fresh = tcp_info(plain).window
    control, live = of(running, mine)["control"], of(running, mine)["live"]
    cell = cell_of(f"rtt_ms=20,down_mbit=10,initcwnd=10,chain=ed25519+37x1000,kex=x25519,tls={name}")
    longer = added(cell, cell.parsed, control["first_flight_bytes"])
    assert abs(live["first_flight_bytes"] - control["first_flight_bytes"] - longer) <= 2 * SLACK
    for row in (control, live):
        assert (row["n"], row["prefix"], row["family"], row["tls"]) == (37, "127.0.0.0/24", 4, f"TLSv{name}")
        assert (row["hello_reads"], row["hello_retry"], row["asn"], row["retransmitted"]) == (1, 0, None, 0)
        assert 0 < row["handshake_ms"] < 30_000
        assert 0 <= row["accept_to_hello_ms"] < 30_000
        assert 0 < row["rtt_ms"] < 1000
        assert row["initcwnd"] == fresh
        assert row["mss"] > 1000
        assert row["group"] in ("x25519", "X25519MLKEM768")  # as this Python's OpenSSL chooses
        assert 100 < row["hello_bytes"] < 2500
        assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\dZ", row["at"])


def test_a_handshake_with_another_hello(running: Serving) -> None:
    """A client that must send another hello is marked, and its first flight is not the short request for it."""
    for number, groups in ((110, "X25519"), (111, "P-521:X25519")):
        target = f"GET /s?k={key(number)} HTTP/1.1\r\n\r\n"
        with subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-servername", f"3.{LIVE}", "-quiet",
             "-CAfile", running.authority, "-groups", groups],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as client:  # fmt: skip
            assert client.communicate(target.encode(), timeout=60)[0].startswith(b"HTTP/1.1 204 ")
    once, twice = of(running, key(110))["live"], of(running, key(111))["live"]
    assert (once["hello_retry"], twice["hello_retry"]) == (0, 1)
    assert abs(once["first_flight_bytes"] - twice["first_flight_bytes"]) <= 2 * SLACK + 30


def test_curl_stores_a_pair(running: Serving) -> None:
    """curl stores both rows."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for host in (CONTROL, f"59.{LIVE}"):
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--cacert", running.authority, "-o", os.devnull, "-w", "%{http_code}",
             "--resolve", f"{host}:{running.port}:127.0.0.1",
             f"https://{host}:{running.port}/s?k={key(120)}&n=59"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("204", "")
    assert {role: row["n"] for role, row in of(running, key(120)).items()} == {"control": 59, "live": 59}


def test_nothing_is_resumed(running: Serving) -> None:
    """The server sends no session tickets, and a session that a client offers again leads to a whole handshake."""
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context = trusting(running, minimum_version=version, maximum_version=version)
        session = None
        for _ in range(2):
            with context.wrap_socket(connected(running.port), server_hostname=f"2.{LIVE}", session=session) as secure:
                answer(secure, b"GET /nothing HTTP/1.1\r\n\r\n")  # tickets of TLS 1.3 come with the answer
                assert not secure.session_reused
                session = secure.session
                assert not (session and session.has_ticket)


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"], ["h2"], []])
def test_only_http_1_1_is_agreed_on(running: Serving, offered: list[str]) -> None:
    """A client that offers h2 gets http/1.1, or no protocol."""
    context = trusting(running)
    if offered:
        context.set_alpn_protocols(offered)
    with context.wrap_socket(connected(running.port), server_hostname=CONTROL) as secure:
        assert secure.selected_alpn_protocol() == ("http/1.1" if "http/1.1" in offered else None)


def test_tls_1_1_is_refused(running: Serving) -> None:
    """The oldest version is TLS 1.2."""
    versions = bytes.fromhex("002b 0005 04 0304 0303")  # the extension supported_versions
    new = hello(CONTROL.encode())
    assert versions in new
    old = new.replace(versions, bytes.fromhex("002b 0005 04 0302 0301"))
    assert reply(running.port, old) == bytes.fromhex("15 0303 0002 02 46")  # protocol_version


@pytest.mark.parametrize(
    "name",
    [
        None,
        b"example.com",
        f"007.{LIVE}".encode(),
        f"+5.{LIVE}".encode(),
        f"٣.{LIVE}".encode(),
        f"60.{LIVE}".encode(),
        f"5.{LIVE}.".encode(),
        f"bücher.{LIVE}".encode(),
        b"5." * 124 + LIVE.encode(),
        b"5." * 1000 + LIVE.encode(),
        f"5.{LIVE}\0".encode(),
        b"",
    ],
)
def test_odd_names_are_refused(tmp_path: Path, name: bytes | None) -> None:
    """A name that is not of the experiment, and none, gets the alert unrecognized_name, and is counted by reason."""
    with in_process(tmp_path) as server:
        sent = reply(server.port, hello(name))
        if name == b"":  # no name of TLS at all: OpenSSL finds the message broken
            assert sent.startswith(b"\x15")
            return
        assert (len(sent), sent[-2:]) == (len(ALERT_112), ALERT_112[-2:])
        expected = NAMES.meaning(name) if name is None or b"\0" not in name else "name too long, or broken"
        for _ in waited():
            if server.counts.now().get(f"refused: {expected}") == 1:
                break
        assert server.log == []
    assert not rows(tmp_path / "exp.sqlite")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.one_of(
        st.binary(min_size=1, max_size=300),
        st.builds(lambda head, tail: head + tail, st.binary(max_size=8), st.just(f".{LIVE}".encode())),
        st.text("0123456789.", max_size=12).map(lambda head: f"{head}.{LIVE}".encode()),
    )
)
def test_any_name_is_accepted_or_refused(running: Serving, name: bytes) -> None:
    """Over a socket, names are accepted as `Names` says, and all others get the alert unrecognized_name."""
    sent = reply_to_hello(running.port, hello(name))
    if isinstance(NAMES.meaning(name), Meaning):
        assert sent.startswith(b"\x16")
    else:
        assert sent[-2:] == ALERT_112[-2:]


def reply_to_hello(port: int, sent: bytes) -> bytes:
    """The first bytes that come back."""
    with connected(port) as plain:
        plain.sendall(sent)
        return plain.recv(1 << 16)


def test_upper_case_is_lower_case(running: Serving) -> None:
    """A name in upper case is that of the experiment."""
    assert reply_to_hello(running.port, hello(f"5.{LIVE}".upper().encode())).startswith(b"\x16")


@pytest.mark.parametrize(
    ("host", "request_", "status"),
    [
        (CONTROL, f"GET /s?k={key(200)} HTTP/1.1", 204),
        (CONTROL, f"GET /s?k={key(201)}&n=60 HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)}&n=0 HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)}&n=007 HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)}&n= HTTP/1.1", 400),
        (CONTROL, f"GET /s?n=5&k={key(201)} HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)}&n=5&n=5 HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201).upper()[:-3]}ABC HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)[1:]} HTTP/1.1", 400),
        (CONTROL, f"GET /s?k={key(201)}0 HTTP/1.1", 400),
        (CONTROL, "GET /s HTTP/1.1", 400),
        (CONTROL, "GET /s?k=%30 HTTP/1.1", 400),
        (f"5.{LIVE}", f"GET /s?k={key(202)}&n=6 HTTP/1.1", 400),
        (f"5.{LIVE}", f"GET /s?k={key(202)}&n=5 HTTP/1.1", 204),
        (f"5.{LIVE}", f"POST /s?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", f"HEAD /s?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", f"OPTIONS /s?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", f"GET /s?k={key(203)} HTTP/1.1\r\nContent-Length: 1", 404),
        (f"5.{LIVE}", f"GET /S?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", f"GET /s/?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", f"GET https://{CONTROL}/s?k={key(203)} HTTP/1.1", 404),
        (f"5.{LIVE}", "GET / HTTP/1.1", 404),
        (CONTROL, "GET /pair HTTP/1.1", 404),
        (PAGE, f"GET /s?k={key(203)} HTTP/1.1\r\nConnection: close", 404),
        (PAGE, "GET /favicon.ico HTTP/1.1\r\nConnection: close", 404),
        (PAGE, "GET /?from=somewhere HTTP/1.1\r\nConnection: close", 200),
        (CONTROL, "GET /s?k=\xff HTTP/1.1", 400),
        (CONTROL, "GET  /s HTTP/1.1", 400),
        (CONTROL, "GET /s HTTP/2", 400),
        (CONTROL, "nonsense", 400),
        (CONTROL, "GET /s HTTP/1.1\r\nX: " + "x" * 8192, 431),
        (CONTROL, "x" * 20_000, 431),
        (PAGE, "GET / HTTP/1.1\r\nX: " + "x" * 9000, 431),
    ],
)
def test_requests(running: Serving, host: str, request_: str, status: int) -> None:
    """Only what the page asks for is answered; a bad key is not stored."""
    got, text = ask(running, host, request=f"{request_}\r\n\r\n".encode("latin-1"))
    assert got == status
    assert b"\r\nCache-Control: no-store\r\n" in text
    assert not of(running, key(201)) | of(running, key(203))


def test_a_handshake_has_one_row(running: Serving) -> None:
    """A second request in a connection is not answered: it would be another row of the same handshake."""
    two = "".join(f"GET /s?k={key(number)} HTTP/1.1\r\n\r\n" for number in (210, 211))
    _, text = ask(running, f"5.{LIVE}", request=two.encode())
    assert text.count(b"HTTP/1.1 204") == 1
    assert of(running, key(210))
    assert not of(running, key(211))


def test_the_page_keeps_its_connection(running: Serving) -> None:
    """Page, script and pair come through one connection; the page has a policy; the pair is stored."""
    targets = ["/", "/pair.js", "/nothing", "/", "/pair"]
    many = "".join(f"GET {target} HTTP/1.1\r\n\r\n" for target in targets)
    _, text = ask(running, PAGE, request=many.encode())
    assert re.findall(rb"HTTP/1.1 (\d+) ", text) == [b"200", b"200", b"404", b"200", b"200"]
    policy = (
        f"default-src 'none'; script-src 'self'; connect-src 'self' https://{CONTROL}:* https://*.{LIVE}:*; "
        "base-uri 'none'; form-action 'none'"
    )
    assert f"\r\nContent-Security-Policy: {policy}\r\n".encode() in text
    assert b"<script src=" in text
    assert b"style" not in text
    pair = json.loads(re.findall(rb"\{\"key.*?\}", text)[0])
    assert re.fullmatch("[0-9a-f]{32}", pair["key"])
    assert {row["key"]: row["n"] for row in running.rows("issued")}[pair["key"]] == pair["n"]


def test_pairs_are_drawn_from_all_sizes(tmp_path: Path) -> None:
    """With --max 3, n is 1, 2 or 3, each about as often, and each pair that was handed out is stored."""
    with serving(tmp_path / "s", *FREE, "--max", 3) as server:
        context = trusting(server)
        two = b"GET /pair HTTP/1.1\r\n\r\n" * 2  # the second one is not answered
        drawn = Counter[int]()
        for _ in range(150):
            _, text = ask(server, PAGE, context=context, request=two)
            drawn.update(int(n) for n in re.findall(rb'"n": (\d+)\}', text))
        assert drawn.keys() == {1, 2, 3}
        assert drawn.total() == 150
        assert min(drawn.values()) > 25  # less once in a million times
        assert len(server.rows("issued")) == 150
        assert ask(server, CONTROL, f"/s?k={KEY}&n=4")[0] == 400


def test_analyze_reads_the_store(tmp_path: Path) -> None:
    """While the server runs, `analyze` finds the pairs, a live handshake that is missing, and a pair without both."""
    with serving(tmp_path / "s", *FREE) as server:
        context = trusting(server)
        for number in range(12):
            _, text = ask(server, PAGE, "/pair", context=context)
            pair = json.loads(text.partition(b"\r\n\r\n")[2])
            for host in () if number == 0 else (CONTROL,) if number == 1 else (CONTROL, f"{pair['n']}.{LIVE}"):
                assert ask(server, host, f"/s?k={pair['key']}&n={pair['n']}", f"127.0.{number}.1", context)[0] == 204
        (found,) = objects("tls", "analyze", server.store, "--bins", "1-59", "--draws", 99)
        assert (found["rows"], found["keys"], found["both"], found["prefixes"], found["dropped"]) == (
            21,
            11,
            10,
            11,
            {},
        )
        assert (found["missing"]["live"]["lost"], found["missing"]["live"]["of"]) == (1, 11)
        assert (found["missing"]["both"]["lost"], found["missing"]["both"]["of"]) == (1, 12)
        server.stop()


def test_replays_count_once(tmp_path: Path) -> None:
    """The first row of a key and role stays; others are answered alike, and counted."""
    with serving(tmp_path / "s") as server:
        for n in (7, 8, 7):
            assert ask(server, f"{n}.{LIVE}")[0] == 204
        first = server.rows()
        assert [row["n"] for row in first] == [7]
        counts = server.stop()
    assert (counts["stored: live"], counts["replays"]) == (1, 2)


def test_nothing_of_an_address_is_left(tmp_path: Path) -> None:
    """After visits from 127.0.7.9 and ::1, also odd and broken ones, neither is in what the server has written.

    Python warns of sockets that are not closed, with their addresses, as it does with PYTHONDEVMODE.
    """
    sources = ["127.0.7.9", *(["::1"] if "::1" in hosts() else [])]
    with serving(tmp_path / "s", "--per-minute", 1, PYTHONDEVMODE="1") as server:
        for number, source in enumerate(sources):
            assert ask(server, CONTROL, f"/s?k={key(number)}", source)[0] == 204
            assert ask(server, f"5.{LIVE}", f"/s?k={key(number)}", source)[0] == 204
            assert ask(server, PAGE, "/pair", source)[0] == 200
            assert ask(server, PAGE, "/x", source, request=b"x\r\n\r\n")[0] == 400
            assert reply(server.port, hello(b"example.com"), source)[-2:] == ALERT_112[-2:]
            reply(server.port, b"GET / HTTP/1.0\r\n\r\n", source)
            connected(server.port, source).close()
            for _ in range(25):
                reply(server.port, hello(None), source)
        live = server.everything()
        prefixes = {row["key"]: (row["prefix"], row["family"]) for row in server.rows()}
        assert prefixes.pop(key(1), ("::/48", 6)) == ("::/48", 6)
        assert prefixes == {key(0): ("127.0.7.0/24", 4)}
        counts = server.stop()
        written = live + server.everything()
    assert counts["over: too many of one network"] >= 5
    assert b"127.0.7.0/24" in written
    assert b"127.0.7.9" not in written
    assert b"::1" not in written
    assert socket.inet_aton("127.0.7.9") not in written


def test_numbers_of_networks(tmp_path: Path) -> None:
    """With a table, the number of the network is stored; it may be smaller than what is left of the address."""
    table = tmp_path / "table.tsv"
    table.write_text("127.0.7.8\t127.0.7.15\t64500\tXX\tLOOP\n")
    with serving(tmp_path / "s", "--asn", table) as server:
        for number, source in enumerate(["127.0.7.9", "127.0.7.1"]):
            ask(server, CONTROL, f"/s?k={key(number)}", source)
        assert [(row["prefix"], row["asn"]) for row in server.rows()] == [
            ("127.0.7.0/24", 64500),
            ("127.0.7.0/24", None),
        ]
        assert b"127.0.7.9" not in server.everything()


def test_a_network_may_make_20_at_once(tmp_path: Path) -> None:
    """More connections of one /24 are closed at once and counted; another /24 is served meanwhile."""
    with serving(tmp_path / "s", "--per-minute", 1) as server:
        for number in range(20):
            assert ask(server, CONTROL, f"/s?k={key(number)}", f"127.0.3.{number + 1}")[0] == 204
        for number in range(20, 24):
            reply(server.port, hello(CONTROL.encode()), f"127.0.3.{number + 1}")
        assert ask(server, CONTROL, f"/s?k={key(99)}", "127.0.4.1")[0] == 204
        assert server.stop()["over: too many of one network"] >= 1


def test_slow_clients_hold_nobody_up(tmp_path: Path) -> None:
    """Clients that send a byte now and then are closed when their time is over; others are served meanwhile."""
    with in_process(tmp_path, handshake_s=6.0, request_s=6.0) as server:
        served = Serving(None, tmp_path, server.port)
        slow = [connected(server.port) for _ in range(50)]
        begun = time.monotonic()
        first = hello(CONTROL.encode())
        for byte in first[:3]:
            for one in slow:
                with suppress(ConnectionError):  # on a slow machine, its time is over already
                    one.sendall(bytes([byte]))
            assert ask(served, CONTROL, f"/s?k={key(byte)}")[0] == 204
        idle = trusting(served).wrap_socket(connected(server.port), server_hostname=f"1.{LIVE}")
        for one in [*slow, idle]:
            one.settimeout(60)
            with one:
                assert one.recv(1) == b""
        assert time.monotonic() - begun >= 5
        for _ in waited():
            if not server.held():
                break
        assert server.counts.now()["ended: too slow"] == 51
        assert server.log == []


def test_a_slow_reader_is_closed(tmp_path: Path) -> None:
    """A client that does not read its flight, and never answers, is closed when its time is over."""
    with in_process(tmp_path, handshake_s=2.0) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(hello(f"59.{LIVE}".encode()))
            for _ in waited():
                if server.counts.now().get("ended: too slow"):
                    break
        assert not server.counts.now().get("handshakes: live")


def test_a_long_hello_is_closed(tmp_path: Path) -> None:
    """A client that sends more than 64 kB before its handshake is done is closed, and counted."""
    with in_process(tmp_path) as server:
        record = b"\x16\x03\x01" + (16_000).to_bytes(2)
        message = b"\1" + (120_000).to_bytes(3) + b"\3\3" + bytes(119_998)
        reply(server.port, b"".join(record + message[at : at + 16_000] for at in range(0, 112_000, 16_000)))
        for _ in waited():
            if server.counts.now().get("ended: too many bytes"):
                break


def test_so_many_connections_at_a_time(tmp_path: Path) -> None:
    """Connections above the limit are closed at once and counted; when one ends, there is room again."""
    with in_process(tmp_path, connections=3) as server:
        held = [connected(server.port) for _ in range(3)]
        for _ in waited():
            if server.held() == 3:
                break
        assert reply(server.port, hello(None)) == b""
        assert server.counts.now()["over: too many at a time"] == 1
        held[0].close()
        for _ in waited():
            if reply(server.port, hello(None))[-2:] == ALERT_112[-2:]:
                break
        for one in held[1:]:
            one.close()


def test_a_hello_in_pieces(running: Serving) -> None:
    """A hello that comes in two packets is counted as such, with all of its bytes."""
    for number, pause in enumerate((0.2, 1, 5, 25)):  # until the server has read the first piece before the second
        size = sent_in_pieces(running, key(300 + number), pause)
        row = of(running, key(300 + number))["live"]
        assert row["hello_bytes"] == size
        if row["hello_reads"] == 2:
            break
    assert row["hello_reads"] == 2
    assert row["handshake_ms"] >= pause * 900  # the clock starts with the first byte


def sent_in_pieces(server: Serving, wanted: str, pause: float) -> int:
    """Store a handshake whose hello is in two pieces, with a pause between; returns the bytes of the hello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(server).wrap_bio(incoming, outgoing, server_hostname=f"1.{LIVE}")
    with connected(server.port) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        sent = outgoing.read()
        plain.sendall(sent[:100])
        time.sleep(pause)
        plain.sendall(sent[100:])
        for _ in waited():
            incoming.write(plain.recv(1 << 16))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        client.write(f"GET /s?k={wanted} HTTP/1.1\r\n\r\n".encode())
        plain.sendall(outgoing.read())
        while plain.recv(1 << 16):
            pass
    return len(sent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    """Exit code 0 and the counts at the end; what was acknowledged is in the file, and clients that wait are let go."""
    with serving(tmp_path / "s") as server:
        assert ask(server, CONTROL)[0] == 204
        with connected(server.port) as waiting:
            begun = time.monotonic()
            counts = server.stop(number)
            waiting.settimeout(60)
            assert waiting.recv(1) == b""
        assert counts["stored: control"] == 1
        assert time.monotonic() - begun < 60
        assert not server.store.with_name("exp.sqlite-wal").exists()
        assert len(server.rows()) == 1


def test_counts_are_shown_meanwhile(tmp_path: Path) -> None:
    """On stderr there is a line with the counts, and another one when they have changed."""
    with serving(tmp_path / "s") as server:
        log = tmp_path / "s" / "log"
        for _ in waited():
            if "no connections yet\n" in log.read_text():
                break
        ask(server, CONTROL)
        reply(server.port, hello(None))
        for _ in waited():
            if "2 connected, 1 control stored, 1 refused\n" in log.read_text():
                break
        server.stop()


def test_an_error_of_the_server(tmp_path: Path) -> None:
    """An error that nobody expects ends its connection alone; where it was is said, and not what, or for whom."""
    with in_process(tmp_path) as server:
        served = Serving(None, tmp_path, server.port)
        endpoints, server._conversation._endpoints = server._conversation._endpoints, None
        with pytest.raises((OSError, AssertionError)):
            ask(served, CONTROL, source="127.0.7.9")
        server._conversation._endpoints = endpoints
        assert ask(served, CONTROL)[0] == 204
        assert server.counts.now()["ended: error of the server"] == 1
        assert len(server.log) == 1
        assert re.fullmatch(r"AttributeError at connection.py:\d+; the connection was closed\.", server.log[0])


def test_on_a_terminal(tmp_path: Path) -> None:
    """Counts are shown in place while it runs; Ctrl-C leaves all of them."""
    store, port = tmp_path / "exp.sqlite", free_port()

    def visit() -> None:
        for _ in waited():
            with suppress(OSError):
                served = Serving(None, tmp_path, port)
                assert ask(served, CONTROL)[0] == 204
                break
        time.sleep(1)
        os.kill(int(store.with_name("exp.sqlite-lock").read_text()), signal.SIGINT)

    visitor = threading.Thread(target=visit)
    visitor.start()
    code, lines = on_terminal(100, "tls", "serve", "--lab", "--store", store, "--port", port)
    visitor.join()
    shown = "\n".join(lines)
    assert code == 0, shown
    assert f"Page: https://{PAGE}:{port}/" in shown
    assert re.search(r"1 connected, .*1 control stored", shown)
    assert re.search(r"^ +1  stored: control$", shown, re.M)
    assert "Traceback" not in shown


def test_many_clients_at_once(tmp_path: Path) -> None:
    """120 clients in 10 threads, each pair with an n of its own: every row is there once, with its n and its flight."""
    with serving(tmp_path / "s", *FREE, is_fresh=True) as server:
        context = trusting(server)
        ended: list[int] = []

        def visit(start: int) -> None:
            for number in range(start, 60, 10):
                n = 1 + number % 59
                ended.append(ask(server, CONTROL, f"/s?k={key(number)}&n={n}", context=context)[0])
                ended.append(ask(server, f"{n}.{LIVE}", f"/s?k={key(number)}", context=context)[0])

        threads = [threading.Thread(target=visit, args=(start,)) for start in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(ended) == {204: 120}
        found = server.rows()
        assert Counter(row["role"] for row in found) == {"control": 60, "live": 60}
        for row in found:
            assert row["n"] == 1 + int(row["key"], 16) % 59
            n = row["n"] if row["role"] == "live" else 0
            assert 700 + 1005 * n <= row["first_flight_bytes"] <= 2300 + 1005 * n + 22 * 4
        server.stop()
