"""`fanfold tls probe`: what real clients accept, and scripted ones whose limits are known."""

import json
import sys
import time
from pathlib import Path

import pytest

from commands import fanfold
from fanfold.errors import UsageError
from fanfold.tls.probe import chains
from fanfold.tls.probe.client import Command
from fanfold.tls.probe.probe import Probed, probe
from fanfold.tls.probe.search import Answer, Limit
from fanfold.tls.sizes import CERTIFICATES_FIXED, of_scheme
from fanfold.tls.zoo import load

ZOO = load()
LONG = 120.0
"""Seconds that are enough on any machine."""
CURL = ("curl", "-sS", "--cacert", "{ca}", "{url}")
OPENSSL = ("openssl", "s_client", "-connect", "{host}:{port}", "-CAfile", "{ca}", "-verify_return_error")
LIMITED = (sys.executable, "-I", "-S", str(Path(__file__).with_name("limited.py")), "{host}", "{port}", "{ca}")
PYOPENSSL = """
import socket, sys
from OpenSSL import SSL
host, port, ca = sys.argv[1:]
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
context.load_verify_locations(ca)
context.set_verify(SSL.VERIFY_PEER)
tls = SSL.Connection(context, socket.create_connection((host, int(port))))
tls.set_tlsext_host_name(host.encode())
tls.set_connect_state()
tls.setblocking(True)
tls.do_handshake()
"""


def asked(*words: str, count: int = 0, size: int = 217, http: bool = False, timeout: float = LONG) -> Answer:
    """The answer of a client to a plain chain with certificates more."""
    return Command(words, http, timeout).ask(chains.added(ZOO, count, size))


def limited(*options: str) -> Probed:
    """What the scripted client accepts."""
    return probe([*LIMITED, *options], timeout=LONG, limits_only=True)


@pytest.mark.parametrize(
    ("client", "tls"),
    [(CURL, "TLSv1.3"), (OPENSSL, "TLSv1.3"), ((*OPENSSL, "-tls1_2"), "TLSv1.2"), (LIMITED, "TLSv1.3")],
    ids=["curl", "s_client", "s_client with TLS 1.2", "ssl"],
)
def test_openssl_accepts_102400_bytes_and_not_one_more(client: tuple[str, ...], tls: str) -> None:
    """The limit of OpenSSL's clients is that of the message; beyond it they send an alert, whose name is kept."""
    plain = chains.added(ZOO, 0).certificate_bytes
    most = 102_400 - chains.message([*plain, 0], tls)
    assert asked(*client, count=1, size=most) == Answer("accepted", tls=tls)
    answer = asked(*client, count=1, size=most + 1)
    assert (answer.outcome, answer.by, answer.alert) == ("refused", "client alert", "illegal_parameter")
    assert "excessive message size" in answer.text


@pytest.mark.parametrize("size", [200_000, 1 << 20])
def test_the_alert_of_a_client_that_reads_no_further_is_seen(size: int) -> None:
    """A client refuses a chain by its length, and goes while the server still sends."""
    for _ in range(3):
        assert asked(*CURL, count=1, size=size).alert == "illegal_parameter"


def test_curl_is_probed() -> None:
    """The command finds curl's limit of bytes, no limit of the count, and the schemes that fit."""
    done = fanfold("tls", "probe", "--http", "--timeout", LONG, "--json", "--", *CURL)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["limit"], found["most_bytes"], found["most_certificates"]) == ("bytes", 102_400, 402)
    assert found["bytes"]["at_limit"]["alert"] == "illegal_parameter"
    assert "excessive message size" in found["bytes"]["at_double"]["text"]
    schemes = {(row["scheme"], row["profile"]): row for row in found["schemes"]}
    assert schemes["SLH-DSA-128s", "2021"]["outcome"] == "accepted"
    assert schemes["UOV-Is-pkc", "2021"]["outcome"] == "refused"
    assert not schemes["UOV-Is-pkc", "2021"]["real"]
    assert schemes["RSA-2048", "2021"]["outcome"] == "accepted"
    assert {row["profile"] for row in found["schemes"]} == {*ZOO.profiles}


def test_a_limit_is_shown_in_sentences(tmp_path: Path) -> None:
    """The limits of a client in plain sentences, with its words."""
    options = [*LIMITED, "count=9", "bytes=20000"]
    done = fanfold("tls", "probe", "--limits-only", "--timeout", LONG, "--", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == 'Certificates: 9 are accepted, 10 are not: the client ends it ("error: too many certificates").'
    assert lines[1].endswith('B is not: the client ends it ("error: too many bytes").')
    assert lines[2].startswith("Limit: count 9 and bytes 20,0")  # with the lengths of the message's parts


def test_a_limit_of_the_count() -> None:
    """A client that accepts 16 certificates; its limit of bytes is that of OpenSSL."""
    found = limited("count=16")
    assert (found.limits_count, found.most_certificates, found.most_bytes) == (True, 16, 102_400)
    assert found.count.at_limit
    assert "too many certificates" in found.count.at_limit.text


@pytest.mark.parametrize(
    ("count", "size", "kind", "most"),
    [
        (Limit(13, 14, 400), Limit(1 << 20, None, 1 << 20), "count", 15),
        (Limit(8, 9, 400), Limit(32_000, 32_001, 1 << 20), "both", 10),
    ],
)
def test_kinds_of_limits(count: Limit, size: Limit, kind: str, most: int) -> None:
    """A client that refuses one certificate of 217 B more, and one of a megabyte or not."""
    found = Probed((), "TLSv1.3", (342, 329), count, size, split=None, rows=())
    assert (found.kind, found.most_certificates) == (kind, most)


def test_a_limit_of_bytes_is_not_one_of_the_count() -> None:
    """A client that accepts 20,000 B refuses a long list of small certificates too, but only because of its bytes."""
    found = limited("bytes=20000")
    assert found.kind == "bytes"
    assert found.count.refused
    assert found.bytes.most == 20_000 - sum(found.plain)
    assert not found.one_certificate


def test_a_limit_of_one_certificate() -> None:
    """A client that accepts no certificate of more than 9,000 B accepts two of them."""
    found = limited("largest=9000")
    assert (found.kind, found.bytes.most, found.one_certificate) == ("bytes", 9000, True)


def test_a_client_that_accepts_no_certificate_beside_its_chain() -> None:
    """Its limit is the plain chain's length; nothing is known of bytes."""
    found = limited("count=2")
    assert (found.kind, found.most_certificates, found.bytes.most) == ("count", 2, None)


def test_a_flaky_client_has_no_limit(tmp_path: Path) -> None:
    """A client that accepts every second time is flaky, with how often it did."""
    found = limited(f"flaky={tmp_path / 'tries'}", "count=40")
    assert found.kind == "flaky"
    assert any(len(counts) == 2 for counts in found.count.flaky.values())


def test_a_hang_is_not_a_refusal() -> None:
    """A client that does not end in time hangs, although the server saw its Finished."""
    assert asked(*LIMITED, "hangs=4", count=2).outcome == "accepted"
    answer = asked(*LIMITED, "hangs=4", count=3, timeout=3)
    assert (answer.outcome, answer.by) == ("hung", "timeout")


@pytest.mark.parametrize("ignore", ["", "trap '' TERM INT HUP; "], ids=["plain", "ignores SIGTERM"])
def test_nothing_of_a_client_that_hangs_stays(ignore: str, tmp_path: Path) -> None:
    """Its whole group of processes is killed, even if it ignores signals."""
    script = f"{ignore}sleep 600 & echo $! > {tmp_path}/child; : {{url}}; wait; sleep 600"
    answer = asked("sh", "-c", script, timeout=2)
    assert (answer.outcome, answer.by) == ("hung", "timeout")
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + LONG
    while _runs(child):  # a signal takes its time on a busy machine
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(process: int) -> bool:
    """Whether a process has not ended; one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_exit_code_without_a_handshake_is_not_believed() -> None:
    """A client that exits with 0 and never connected is refused; so is one that left in the middle."""
    assert asked("true", "{url}") == Answer("refused", "client close", "exit code 0; it did not connect")
    left = "import socket, sys; socket.create_connection(('{ip}', {port})).close()"
    answer = asked(sys.executable, "-c", left)
    assert (answer.outcome, answer.text) == ("refused", "exit code 0; it did not finish the handshake")


def test_an_exit_code_of_1_after_a_handshake_is_a_refusal() -> None:
    """The server saw all of the handshake, but the client says that it failed."""
    answer = asked(*LIMITED, "lies=1")
    assert (answer.outcome, answer.by, answer.text) == (
        "refused",
        "client close",
        "exit code 1; it finished the handshake",
    )


def test_with_http_a_request_has_to_come() -> None:
    """A client that finishes the handshake and asks for nothing is accepted only without --http."""
    assert asked(*OPENSSL).outcome == "accepted"
    answer = asked(*OPENSSL, http=True)
    assert (answer.outcome, answer.by) == ("refused", "client close")
    assert "sent no request" in answer.text
    assert asked(*CURL, http=True).outcome == "accepted"


def test_real_chains_of_ml_dsa_are_verified() -> None:
    """A client with OpenSSL 4 accepts a chain of ML-DSA-65."""
    row = next(one for one in chains.rows(ZOO) if (one.scheme.name, one.profile) == ("ML-DSA-65", "2021"))
    assert row.real
    client = (sys.executable, "-c", PYOPENSSL, "{host}", "{port}", "{ca}")
    assert Command(client, timeout=LONG).ask(row.credentials).outcome == "accepted"


def test_chains_of_a_profile_have_the_bytes_of_their_scheme() -> None:
    """A stand-in has as many bytes as the zoo says, beside what the names take; a real chain within 60 B."""
    for row in chains.rows(ZOO):
        if row.profile in ("2021", "2026"):
            message = chains.message(row.credentials.certificate_bytes, "TLSv1.3")
            counted = of_scheme(ZOO, row.scheme.name, row.profile).certificates
            assert abs(message - counted - CERTIFICATES_FIXED) <= 60, row.scheme.name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--", "no-such-client", "{url}"], "Cannot run the client 'no-such-client': No such file or directory."),
        (["--", "/etc/passwd", "{url}"], "Cannot run the client '/etc/passwd': Permission denied."),
        (["--", "curl", "https://localhost"], "The client does not learn where the server is. Write {url}"),
        ([], "Name a client: fanfold tls probe -- curl --cacert {ca} {url}"),
        (["--timeout", "0", "--", "curl", "{url}"], "--timeout takes seconds up to 600, not 0."),
        (["--known", "--", "curl", "{url}"], "--known shows a table; it takes no client."),
        (["--timeout", "60", "--", "curl", "-sS", "{url}"], "(refused, client alert unknown_ca)"),
    ],
)
def test_wrong_commands_say_what_to_type(words: list[str], says: str) -> None:
    """Exit code 2, and a sentence."""
    done = fanfold("tls", "probe", *words)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_client_that_trusts_nothing_is_not_probed() -> None:
    """A client that refuses the plain chain gets its own words back."""
    with pytest.raises(UsageError, match=r"does not accept a plain chain of RSA-2048 either .*unknown_ca"):
        probe(["curl", "-sS", "{url}"], timeout=LONG)


def test_known_clients() -> None:
    """The table has at least twelve clients, each with its version, kind, value and date; and the article's two."""
    done = fanfold("tls", "probe", "--known", "--json")
    clients = json.loads(done.stdout)["clients"]
    tried = [one for one in clients if one["by"] != "the article"]
    assert len({one["client"] for one in tried}) >= 12
    for one in clients:
        assert one["version"]
        assert one["date"]
        assert one["kind"] in ("none", "count", "bytes", "both", "flaky")
        assert one["certificates"] or one["bytes"]
    article = {one["client"]: one["bytes"] for one in clients if one["by"] == "the article"}
    assert article == {"OpenSSL": 102_400, "Go": 65_536}
    assert "Java" in fanfold("tls", "probe", "--known").stdout
