"""The simulation of a server's flight: walls to the byte, and the rules of slow start."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import fanfold
from fanfold.tls.article import claims
from fanfold.tls.model import model
from fanfold.tls.network import Network
from fanfold.tls.simulate import Flight, extra_round_trips, handshake, walls

STEPS = Path(__file__).with_name("steps.csv")
networks = st.builds(
    Network,
    rtt=st.floats(0.001, 0.5),
    down=st.floats(1e6, 1e9),
    up=st.floats(1e6, 1e9),
    initcwnd=st.integers(1, 60),
    mss=st.integers(500, 9000),
    quickack=st.integers(0, 30),
)


@pytest.mark.parametrize(("initcwnd", "mss"), [(10, 1448), (30, 1448), (10, 1200), (30, 1200)])
def test_a_wall_is_where_one_byte_more_costs_a_round_trip(initcwnd: int, mss: int) -> None:
    """At 100 ms and 100 Mbit/s, the byte above each wall costs nearly a whole round trip, and no other byte does."""
    network = Network(rtt=0.1, down=1e8, initcwnd=initcwnd, mss=mss)
    for wall in walls(network, 2):
        below, above, further = (handshake(wall + more, network) for more in (0, 1, 2))
        assert above - below > 0.085
        assert further - above < 0.001


def test_walls_are_where_the_window_ends() -> None:
    """The window doubles with every round trip: 10, 30 and 70 segments of 1,448 bytes."""
    assert walls(Network(initcwnd=10)) == [14_480, 43_440, 101_360]
    assert walls(Network(initcwnd=30), 2) == [43_440, 130_320]


@given(network=networks, size=st.integers(1, 200_000))
def test_a_flight_takes_at_least_what_its_bytes_and_the_way_take(network: Network, size: int) -> None:
    """No flight is faster than light and the link; one that fits into the window takes no longer than that."""
    seconds = Flight(network, size).seconds()
    segments = -(-size // network.mss)
    least = (size + segments * 52) * 8 / network.down + network.rtt / 2
    assert seconds >= least - 1e-9
    if segments <= network.initcwnd:
        assert seconds == pytest.approx(least)


@given(network=networks, size=st.integers(1, 200_000), more=st.integers(1, 50_000))
def test_more_bytes_never_take_less(network: Network, size: int, more: int) -> None:
    """A larger flight ends later; the same one ends at the same time, to the last bit."""
    assert handshake(size + more, network) >= handshake(size, network)
    assert handshake(size, network) == handshake(size, network)


@given(network=networks, size=st.integers(1, 200_000))
def test_a_larger_window_never_takes_longer_by_a_round_trip(network: Network, size: int) -> None:
    """What a larger window saves is round trips."""
    assert handshake(size, network.of_window(network.initcwnd * 2)) <= handshake(size, network) + network.rtt / 2


def test_round_trips_are_told_from_sending() -> None:
    """On a slow link a large flight takes long without a further round trip, since the line is never idle."""
    slow, fast = Network(rtt=0.02, down=2e6), Network(rtt=0.1, down=1e8)
    for network, expected in ((slow, 0), (fast, 1)):
        seconds, usual = handshake(20_000, network), handshake(2645, network)
        assert extra_round_trips(seconds, 20_000, usual, 2645, network) == expected


def test_it_agrees_with_handshakes_on_an_emulated_link() -> None:
    """88 cells that were measured: after the difference of the control, 3 % in the mean and 8 % at most."""
    with STEPS.open() as file:
        rows = list(csv.DictReader(file))
    controls = {_link(row): row for row in rows if row["dummy_certs"] == "0"}
    errors = []
    for row in rows:
        control = controls[_link(row)]
        network = _network(row)
        simulated = handshake(int(row["first_flight_bytes"]), network) * 1000
        offset = float(control["server_p50_ms"]) - handshake(int(control["first_flight_bytes"]), network) * 1000
        errors.append(abs(simulated + offset - float(row["server_p50_ms"])) / float(row["server_p50_ms"]))
    assert len(errors) == 88
    assert sum(errors) / 88 <= 0.03
    assert max(errors) <= 0.08


def _link(row: dict[str, str]) -> tuple[str, ...]:
    return row["rtt_ms"], row["down_mbit"], row["initcwnd"]


def _network(row: dict[str, str]) -> Network:
    rtt, down = float(row["rtt_ms"]) / 1000, float(row["down_mbit"]) * 1e6
    return Network(rtt=rtt, down=down, initcwnd=int(row["initcwnd"]))


def test_quic_waits_until_the_address_is_proven() -> None:
    """Three times the client's 2,500 bytes are six datagrams of 1,200; then the window has grown by them."""
    found = model("rtt=100ms,down=20Mbit", over="quic")
    assert found.curves[10].walls == (7200, 26_400, 64_800)
    assert (found.network.mss, found.network.initcwnd) == (1200, 10)  # datagrams, not segments of TCP
    small, large = (model("rtt=100ms", over="quic", sizes=[size], base=0).curves[10].ms[0] for size in (7200, 7201))
    assert large - small > 85


def test_the_articles_claims_are_judged() -> None:
    """Each claim has a verdict; those on bytes and walls are reproduced, a guess is not, and bumps cannot be tested."""
    found = [claim.verdict for claim in claims()]
    assert found == ["reproduced"] * 4 + ["not reproduced"] + ["cannot be tested"] * 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--base", "-5"], "--base takes a number of bytes up to 16,777,216, not -5."),
        (["--base", "99999999999999"], "--base takes a number of bytes up to 16,777,216"),
        (["ML-DSA-44", "--walls"], "fanfold tls model takes no further argument: ML-DSA-44. See:"),
        (["--over", "quic", "--initcwnd", "5"], "--initcwnd is of TCP; QUIC begins with 10 datagrams."),
        (["--like-article", "--link", "rtt=50ms"], "--like-article shows claims, which have links of their own."),
    ],
)
def test_flags_that_make_no_sense_are_refused(words: list[str], sentence: str) -> None:
    """A number out of range, a flag without effect, an argument too many: exit code 2, and what is wrong."""
    done = fanfold("tls", "model", *words)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_model_shows_walls_and_times() -> None:
    """The command prints both, one of them, or JSON with every size."""
    done = fanfold("tls", "model", "--link", "rtt=50ms,down=20Mbit")
    assert "iw10: 14,480, 43,440, 101,360 B" in done.stdout
    assert "60,000 B" in done.stdout
    assert "60,000 B" not in fanfold("tls", "model", "--walls").stdout
    found = json.loads(fanfold("tls", "model", "--link", "rtt=50ms,down=20Mbit", "--json").stdout)
    assert [len(curve["ms"]) for curve in found["curves"]] == [61, 61]
    assert "not reproduced: With a window of 10" in fanfold("tls", "model", "--like-article").stdout
