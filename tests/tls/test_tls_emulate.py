"""Real handshakes over emulated links: bytes exactly, steps by round trips, and failures with their stage."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from emulated import measured, need_links, one

import fanfold
from fanfold.tls import Tls, lab
from fanfold.tls.cells import Cell
from fanfold.tls.flights import predicted
from fanfold.tls.grid import Grid
from fanfold.tls.network import HEADERS
from fanfold.tls.zoo import load
from faults import once, wait_for
from helpers import failures

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="links are emulated on Linux alone"),
    pytest.mark.xdist_group("tls-links"),
]
RTT = 100
PLAIN, FRAME, RECORD = 1999, 5, 22
"""Bytes of an Ed25519 flight, of a certificate's frame in it, and of a record's head."""


def dummy_for(flight: int) -> int:
    """The size of the dummy that makes a flight of so many bytes."""
    message = PLAIN - 1443
    for records in range(8):
        size = flight - PLAIN - FRAME - RECORD * records
        if -(-(message + size + FRAME) // 16_384) - 1 == records:
            return size
    raise ValueError(flight)


@pytest.mark.parametrize(("initcwnd", "mss"), [(10, 1448), (30, 1448), (10, 1200)])
def test_walls_are_where_they_are_to_the_byte(tmp_path: Path, initcwnd: int, mss: int) -> None:
    """A flight that fills the initial window takes a round trip less than one with a byte more."""
    wall = initcwnd * mss
    chains = [f"ed25519+1x{dummy_for(flight)}" for flight in (wall, wall + 1)]
    rows, failed = measured(tmp_path, one(chains, rtt_ms=RTT, initcwnd=initcwnd, mss=mss, reps=4))
    assert failed == {}
    within, beyond = (next(row for key, row in rows.items() if chain in key) for chain in chains)
    assert (within["first_flight_bytes"], beyond["first_flight_bytes"]) == (wall, wall + 1)
    assert (within["initcwnd_seen"], within["mss_seen"]) == (initcwnd, mss)
    step = min(beyond["live_ms"]) - min(within["live_ms"])  # noise only adds to a time
    assert 0.85 * RTT <= step <= 1.5 * RTT
    assert min(within["live_ms"]) - min(within["control_ms"]) < 0.5 * RTT
    assert min(beyond["live_ms"]) >= 2 * RTT


@pytest.mark.parametrize(
    ("tls", "kex"), [("1.3", "x25519mlkem768"), ("1.3", "x25519"), ("1.2", "x25519")], ids=lambda value: value
)
def test_bytes_of_a_flight_are_known_before(tmp_path: Path, tls: str, kex: str) -> None:
    """Ed25519: what is sent is what was predicted, to the byte, over the ends of records and however cut up."""
    sizes = ("", "+1x217", "+1x5000", "+17x1000", "+3x17000", *(f"+1x{size}" for size in range(15_822, 15_831)))
    rows, failed = measured(tmp_path, one([f"ed25519{size}" for size in sizes], tls=tls, kex=kex, rtt_ms=2, reps=1))
    assert (len(rows), failed) == (len(sizes), {})
    for row in rows.values():
        assert row["first_flight_bytes"] == row["predicted_flight_bytes"], row["key"]
        assert (row["tls"], row["kex"], row["staple_bytes"], row["unverified"]) == (tls, kex, 0, None)
        assert (row["hello_bytes"] > 1400) == (kex == "x25519mlkem768")


def test_six_signatures_over_a_link(tmp_path: Path) -> None:
    """Chains of P-256 and ML-DSA with SCTs and a staple: verified, delivered, and as large as estimated."""
    chains = ["p256:2021", "ml-dsa-44:2021", "ml-dsa-65:2021", "ml-dsa-87:2026", "falcon-512:2021", "rsa-2048"]
    rows, failed = measured(tmp_path, one(chains))
    assert failed == {}
    found = {f"{row['scheme']}:{row['profile']}": row for row in rows.values()}
    for name, most in (
        ("ecdsa-p256:2021", 64),
        ("ml-dsa-44:2021", 64),
        ("ml-dsa-65:2021", 64),
        ("falcon-512:2021", 64),
    ):
        row = found[name]
        assert abs(row["first_flight_bytes"] - row["predicted_flight_bytes"]) <= most
        assert row["staple_bytes"] > load().scheme(row["scheme"]).sig
    assert found["ml-dsa-44:2021"]["crypto_bytes"] == 17_144
    assert found["ml-dsa-44:2021"]["unverified"] == "ocsp,sct"
    assert found["ml-dsa-87:2026"]["unverified"] == "sct"
    assert found["falcon-512:2021"]["unverified"] == "handshake,leaf,intermediate,ocsp,sct"
    assert found["rsa-2048:None"]["unverified"] is None
    controls = {row["control_flight_bytes"] for name, row in found.items() if ":2021" in name}
    assert max(controls) - min(controls) <= 8  # ECDSA's signatures differ by some bytes


def test_a_row_has_every_column(tmp_path: Path) -> None:
    """Where handshakes are real, nothing is null but what has no value; each list is as long as asked."""
    rows, _ = measured(tmp_path, one(["ed25519+1x17000"], reps=3))
    (row,) = rows.values()
    assert [name for name, value in row.items() if value is None] == ["profile", "unverified"]
    for name in ("live_ms", "control_ms", "client_ms", "connect_ms", "server_cpu_ms", "client_cpu_ms"):
        assert (len(row[name]), min(row[name]) > 0) == (3, True)
    assert min(row["connect_ms"]) >= 20
    assert (row["backend"], row["thrown_away"], row["extra_round_trips"] >= 1) == ("emulate", 4, True)
    assert row["server"].startswith("pyOpenSSL")
    assert Tls().recipe() == {"backend": "emulate", "rows": "1", "server": row["server"], "client": row["client"]}


def test_failures_have_a_stage_and_others_go_on(tmp_path: Path) -> None:
    """A chain that the client refuses, and a congestion control that there is not; the other cells are done."""
    grid = (
        one(["ed25519", "ed25519+1x102400", "ed25519+400x400"])
        + "\n"
        + "\n".join(
            ["[[cells]]", *(f"{name} = {value}" for name, value in (("chain", '"ed25519"'), ("cc", '"nosuch"')))]
        )
    )
    rows, failed = measured(tmp_path, grid)
    assert [row["key"] for row in rows.values()] == ["rtt_ms=20,down_mbit=100,initcwnd=10,chain=ed25519,reps=2"]
    said = {key.split("chain=")[1]: (row["stage"], row["error"], row["message"]) for key, row in failed.items()}
    refused = ("handshake", "SSLError", "client: excessive message size; server: tls alert illegal parameter")
    assert said["ed25519+1x102400,reps=2"] == said["ed25519+400x400,reps=2"] == refused
    stage, error, message = said["ed25519,reps=2,cc=nosuch"]
    assert (stage, error) == ("link", "FileNotFoundError")
    assert message.startswith("cannot use the congestion control nosuch: ")


def test_what_differs_from_what_was_asked_is_a_failure() -> None:
    """A window, a segment, a key agreement, a staple or a flight that is not as asked or built."""
    need_links()
    from fanfold.tls import emulate
    from fanfold.tls.client import Done
    from fanfold.tls.pki import credentials
    from fanfold.tls.wire import Seen

    cell = Cell(20, 100, 10, "ed25519+1x1000")
    live, control = (
        emulate._Shown(number, credentials(chain, load()))
        for number, chain in enumerate((cell.parsed, cell.parsed.control))
    )

    def both(
        flight: int = 0, window: int = 10, mss: int = 1448, group: str = cell.kex, staple: int = 0
    ) -> emulate._Both:
        server = {"window": window, "mss": mss, "sent": [flight]}
        return emulate._Both(Done(Seen(), 1.0, staple, group), server)

    assert emulate._checked(cell, live, both()) == both()
    lossy = replace(cell, loss=0.1)
    assert emulate._checked(lossy, live, both(window=1)) == both(window=1)  # as TCP begins after a loss
    with pytest.raises(emulate.Failed, match="is 4, not 10 as asked"):
        emulate._checked(lossy, live, both(window=4))
    for changed, stage, says in (
        (both(window=1), "link", "the window of the server's TCP is 1, not 10 as asked"),
        (both(window=4), "link", "the window of the server's TCP is 4, not 10 as asked"),
        (both(mss=536), "link", "the mss of the server's TCP is 536, not 1448 as asked"),
        (both(group="x25519"), "handshake", "the keys were agreed on by x25519, not by x25519mlkem768"),
        (both(staple=9), "staple", "the client got a staple of 9 B; 0 B were built"),
    ):
        with pytest.raises(emulate.Failed) as raised:
            emulate._checked(cell, live, changed)
        assert (raised.value.args[0], raised.value.args[2]) == (stage, says)
    for more, stage in ((1005, None), (1006, "bytes"), (1004, "bytes")):
        facts = emulate._facts(emulate._Measured(cell, live, control, [_full(both(3000 + more))], [_full(both(3000))]))
        assert facts.get("stage") == stage


def _full(one_: "object") -> "object":
    one_.server |= {"first_bytes": 1, "first_reads": 1, "ms": 1.0, "cpu_ms": 1.0, "retransmitted": 0}  # type: ignore[attr-defined]
    return one_


def test_a_scheme_that_is_smaller_than_its_stand_in(tmp_path: Path) -> None:
    """Ed25519 stands for schemes that we cannot sign with, as far as they are not smaller."""
    need_links()
    scheme = 'name = "Tiny"\nlevel = 1\nstatus = "draft"\npk = 9\nsig = 9\nsizes = ["pub:none"]\nsingle = true'
    (tmp_path / "zoo.toml").write_text(f"[[scheme]]\n{scheme}\n")
    opened = lab.Lab(str(tmp_path / "zoo.toml"))
    (facts,) = opened.measure(["rtt_ms=20,down_mbit=100,initcwnd=10,chain=tiny:2026,reps=1"])
    opened.close()
    assert (facts["stage"], facts["error"]) == ("chain", "TooSmall")


def test_tls_1_2_needs_keys_that_it_knows(tmp_path: Path) -> None:
    """A hybrid key agreement in TLS 1.2 is left out, with what to write; ML-DSA there as well."""
    need_links()
    (tmp_path / "a.grid.toml").write_text(one(["ed25519", "ml-dsa-44"], tls="1.2"))
    run = fanfold.run(Tls(), source=str(tmp_path / "a.grid.toml"), database=str(tmp_path / "db"))
    assert list(run) == []
    assert run.report.left_out == {
        'TLS 1.2 has no x25519mlkem768 (write kex = "x25519")': 1,
        "post-quantum certificates need TLS 1.3": 1,
    }


def wait_until_more_is_done(driver: "subprocess.Popen[bytes]", database: str) -> None:
    """Wait until a run has done one task more, or has ended."""

    def done() -> int:
        return len([*Path(database).glob("_runs/*/receipts/*")])

    before = done()
    wait_for(lambda: driver.poll() is not None or done() > before)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_runs_of_real_handshakes_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """Workers and drivers are killed while they measure: in the end each cell is there once, and none is lost."""
    need_links()
    rng, database = random.Random(seed), str(tmp_path / "db")
    chains = [f"ed25519+1x{size}" for size in range(1000, 9000, 1000)]
    grid = one(chains, rtt_ms=20, reps=3).replace("initcwnd = 10\n", "")
    (tmp_path / "a.grid.toml").write_text(grid.replace("[grid]", "[grid]\ninitcwnd = [10, 20]"))
    words = [sys.executable, "-m", "fanfold", "tls", "measure", tmp_path / "a.grid.toml", database, "--task-size", "2"]
    for _ in range(2):
        with subprocess.Popen([*map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
            wait_until_more_is_done(driver, database)
            time.sleep(rng.random() / 2)
            with suppress(psutil.NoSuchProcess):
                for victim in psutil.Process(driver.pid).children(recursive=True):  # workers, labs, relays, servers
                    if rng.random() < 0.4:
                        victim.kill()
            time.sleep(rng.random())
            driver.kill()
    run = fanfold.run(Tls(), source=str(tmp_path / "a.grid.toml"), database=database)
    list(run)
    assert (run.report.listed, run.report.ok + run.report.unchanged, run.report.lost) == (16, 16, 0)
    assert run.report.unchanged > 0
    assert (len(once(database, "tls")), failures(database)) == (16, {})


def test_a_changed_number_of_handshakes_measures_those_cells_again(tmp_path: Path) -> None:
    """`reps` is part of a cell's version: its row is replaced; a value added to an axis does the new cells only."""
    rows, _ = measured(tmp_path, one(["ed25519"], rtt_ms=2, reps=1))
    more, _ = measured(tmp_path, one(["ed25519", "ed25519+1x1000"], rtt_ms=2, reps=1))
    (key,) = rows
    assert (len(more), more[key]["at"]) == (2, rows[key]["at"])


def test_predictions_are_the_simulation_s_too() -> None:
    """A simulated row and a measured one begin with the same number of bytes."""
    cell = Cell(20, 100, 10, "ed25519+1x5000")
    assert predicted(cell, load()) == (PLAIN + 5005, PLAIN)
    assert HEADERS + cell.mss == 1500


def test_a_plan_of_real_handshakes_is_computed(tmp_path: Path) -> None:
    """No handshake is made: those of a link are added up, each with the warm-up of its chain; lost ones are unknown."""
    file = tmp_path / "a.grid.toml"
    file.write_text(one(["ed25519", "ed25519+1x9000", "ml-dsa-44:2021"], rtt_ms=1000, reps=10))
    told = fanfold.preview(Tls(), source=str(file), database=str(tmp_path / "db"), workers=1)
    chains = {
        "ed25519": 2 * 10 + 10 + 2,
        "ed25519+1x9000": 12,
        "p256:2021": 12,
    }  # handshakes of 2 round trips and a half
    trips = 2.5 * sum(chains.values()) + 3.5 * 12  # ML-DSA-44 is beyond the wall
    assert (told.todo, told.sampled) == (3, 0)
    assert told.seconds is not None
    assert trips < told.seconds < 1.05 * trips
    expect = Tls().expected()
    assert expect
    (item,) = Grid.open(_lossy(tmp_path), backend="emulate").items()
    assert expect(item) is None
    assert Tls(backend="simulate").expected() is None


def _lossy(folder: Path) -> Path:
    file = folder / "lossy.grid.toml"
    file.write_text(one(["ed25519"], loss=0.01))
    return file
