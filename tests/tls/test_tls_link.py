"""Emulated links: what they change (nothing), what they need (little), and how they end (with their process)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from emulated import ROOT, measured, need_links, one, ordinary, state_of_the_host

from commands import fanfold
from fanfold import FanfoldError, MissingExtra, UsageError
from fanfold.executors.local import Local
from fanfold.machine import cores
from fanfold.tls import Tls, lab

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="links are emulated on Linux alone"),
    pytest.mark.xdist_group("tls-links"),  # two at once would disturb each other
]
SLOW = one(["ed25519+1x17000"], rtt_ms=200, reps=500)
REFUSED = "This machine does not let users make network namespaces (unshare: No space left on device). Simulate"


def command(folder: Path, grid: str, *options: str) -> list[str]:
    """The words of a command that measures a grid."""
    (folder / "a.grid.toml").write_text(grid)
    words = [sys.executable, "-m", "fanfold", "tls", "measure", folder / "a.grid.toml", folder / "db", *options]
    return [str(word) for word in words]


def environment(folder: Path) -> dict[str, str]:
    """Variables by which any Python of this version finds our packages."""
    places = [str(ROOT / "src"), *(place for place in sys.path if place.endswith("site-packages"))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def below(process: psutil.Process) -> list[psutil.Process]:
    """The processes that belong to a command."""
    return process.children(recursive=True)


def running(module: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run a module; one may end while it is looked at."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if module in process.cmdline():
                found.append(process)
    return found


def emulating(command: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """All processes of a command, once its link is up: a worker, a lab, a relay and a server are among them."""
    parent = psutil.Process(command.pid)
    for _ in range(600):
        found = below(parent)
        if len(running("fanfold.tls.lab", found)) >= 3 and len(found) >= 4:
            return found
        time.sleep(0.1)
    raise AssertionError("no link came up within a minute")


def test_an_ordinary_user_measures() -> None:
    """A user without rights gets rows, the ML-DSA one with its staple; nothing on the host is changed."""
    need_links()
    before = state_of_the_host()
    with TemporaryDirectory() as name:  # pytest's own are closed to others
        Path(name).chmod(0o777)
        words = ordinary(command(Path(name), one(["ed25519+1x17000", "ml-dsa-44:2021"]), "--json"))
        variables = environment(Path(name))
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 2
    assert "Back end: emulate" in done.stderr
    assert state_of_the_host() == before


@pytest.mark.parametrize("victim", ["worker", "lab", "everything"])
def test_killed_processes_leave_nothing(tmp_path: Path, victim: str) -> None:
    """kill -9 in the middle of a handshake: no process, namespace, device, route or setting is left."""
    need_links()
    before = state_of_the_host()
    words = command(tmp_path, SLOW, "--workers", "1")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        found = emulating(driver)
        labs = running("fanfold.tls.lab", found)
        workers = running("fanfold.executors.process", found)
        driver.send_signal(signal.SIGSTOP)  # or it would start another worker
        for one_ in {"worker": workers, "lab": labs[:1], "everything": []}[victim]:
            one_.kill()
        if victim == "lab":
            psutil.wait_procs(labs[1:], timeout=60)
            workers[0].kill()
        driver.kill()
    gone, alive = psutil.wait_procs(found, timeout=60)
    assert (len(gone), alive) == (len(found), [])
    for _ in range(50):  # the kernel removes devices a little later
        if (after := state_of_the_host()) == before:
            break
        time.sleep(0.2)
    assert after == before


def without_user_namespaces(words: list[str]) -> list[str]:
    """The words of a command for a machine where no user namespace can be made."""
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    return ["unshare", "-Ur", "sh", "-c", shell, "sh", *words]


@pytest.mark.parametrize("backend", ["auto", "emulate"])
def test_where_namespaces_are_refused_a_sentence_says_so(tmp_path: Path, backend: str) -> None:
    """Exit code 2, the reason, and what to type; nothing is simulated instead, and no database is made."""
    need_links()
    words = without_user_namespaces(command(tmp_path, one(["ed25519"]), "--backend", backend))
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert REFUSED in done.stderr
    assert "fanfold tls measure GRID DATABASE --backend simulate; or run as root." in done.stderr
    assert not (tmp_path / "db").exists()


def test_a_simulation_needs_no_namespaces(tmp_path: Path) -> None:
    """What such a user is advised to do works."""
    need_links()
    words = without_user_namespaces(command(tmp_path, one(["ed25519"]), "--backend", "simulate", "--json"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, 1)


def test_workers_refuse_once_where_links_cannot_be_made(tmp_path: Path) -> None:
    """A worker tries a link when it starts: one error ends the run, rather than thousands of failed cells."""
    need_links()
    script = (
        "import fanfold, sys; from fanfold.tls import Tls\n"
        "for _ in fanfold.run(Tls(), source=sys.argv[1], database=sys.argv[2]): pass"
    )
    (tmp_path / "a.grid.toml").write_text(one(["ed25519", "ed25519+1x1000"]))
    words = [sys.executable, "-c", script, str(tmp_path / "a.grid.toml"), str(tmp_path / "db")]
    words = without_user_namespaces(words)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith("fanfold.errors.UsageError: This machine does not let users")


def test_a_user_namespace_serves_where_root_has_no_rights(tmp_path: Path) -> None:
    """Root of a container, who may make user namespaces but no other ones, is served as users are."""
    need_links()
    if os.getuid():
        pytest.skip("needs root")
    powers = "-all,+setfcap"
    words = ["setpriv", f"--bounding-set={powers}", "--inh-caps=-all", *command(tmp_path, one(["ed25519"]), "--json")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, 1), done.stderr


@pytest.mark.parametrize("number", [0, 1], ids=["relay", "server"])
def test_a_part_that_dies_is_no_failure_of_a_cell(number: int) -> None:
    """When the relay or the server is killed, the lab ends with an error: the task is done again by another one."""
    need_links()
    opened = lab.Lab(None)
    errors: list[str] = []

    def work() -> None:
        with pytest.raises(FanfoldError) as raised:
            opened.measure(["rtt_ms=20,down_mbit=100,initcwnd=10,chain=ed25519,reps=5000"])
        errors.append(str(raised.value))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(300):
        parts = sorted(psutil.Process(opened._process.pid).children(), key=lambda part: part.pid)
        if len(parts) == 2:
            break
        time.sleep(0.1)
    time.sleep(0.5)
    parts[number].kill()
    thread.join(120)
    name = ("relay", "server")[number]
    assert [error.partition("code ")[2] for error in errors] == [f"1: RuntimeError: the {name}'s process has ended"]
    assert psutil.wait_procs(parts, timeout=30)[1] == []
    opened.close()


def test_importing_and_simulating_need_no_extra() -> None:
    """`import fanfold.tls`, the schema and a simulation leave OpenSSL, cryptography and pyroute2 alone."""
    script = """if True:
        import sys
        import fanfold.tls
        from fanfold.tls.work import Simulating
        from fanfold.tls.zoo import load
        from fanfold.job import Item
        job = fanfold.tls.Tls(backend="simulate")
        assert isinstance(job.open(), Simulating) and job.recipe() and job.schema()
        key = "rtt_ms=20,down_mbit=10,initcwnd=10,chain=ed25519"
        assert len(list(job.open()([Item(key, 0, "1", key)], None))) == 1
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"OpenSSL", "cryptography", "pyroute2"}))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["OpenSSL", "cryptography", "pyroute2"])
def test_a_missing_package_is_named_by_its_extra(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the packages of the extra is needed, and the error says what to install."""
    need_links()
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('absent', name={module!r})")
    monkeypatch.syspath_prepend(tmp_path)  # also of the process that emulates links
    done = fanfold(*command(tmp_path, one(["ed25519"]))[3:])
    assert done.returncode == 2
    assert str(MissingExtra("tls", "Measuring real handshakes")) in done.stderr


def test_a_cryptography_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says which version signs with ML-DSA."""
    cryptography = pytest.importorskip("cryptography")
    monkeypatch.setattr(cryptography, "__version__", "48.0.1")
    with pytest.raises(UsageError, match=r"cryptography 48\.0\.1 cannot sign with ML-DSA; 49 and later can"):
        lab.stack()


def test_workers_are_as_many_as_have_three_cores() -> None:
    """A relay, a server and a client each want a core; a simulation wants one."""
    assert (Tls().worker_cpus, Tls(backend="simulate").worker_cpus) == (3, 1)
    assert Local(None, Tls().worker_cpus).workers == max(1, cores() // 3)


def test_too_many_workers_are_warned_of(tmp_path: Path) -> None:
    """A warning, with the number that is right; the run goes on."""
    need_links()
    done = fanfold(*command(tmp_path, one(["ed25519"], reps=1), "--workers", str(cores()), "--json")[3:])
    assert f"Use --workers {max(1, cores() // 3)}." in done.stderr
    assert json.loads(done.stdout)["ok"] == 1


def test_back_ends_that_there_are_not() -> None:
    """A name that is not a back end is refused, with those that are."""
    with pytest.raises(UsageError, match=r"'netem' is not a back end\. Use one of: auto, emulate, simulate\."):
        Tls(backend="netem")  # type: ignore[arg-type]


def test_links_of_other_sizes_and_queues(tmp_path: Path) -> None:
    """Loss and a short queue are what the link has, not what a cell fails of: lost segments are sent again.

    Packets of the largest size that there is arrive whole.
    """
    grid = one(["ed25519+1x60000"], reps=3, rtt_ms=5, queue_kb=20, initcwnd=30)
    grid += '\n[[cells]]\nchain = "ed25519+1x90000"\nmss = 65483\nqueue_kb = 0\n'
    rows, failed = measured(tmp_path, grid)
    row, large = sorted(rows.values(), key=lambda one: one["mss"])
    assert (failed, row["retransmitted"] > 0, row["queue_kb"]) == ({}, True, 20)
    assert large["mss_seen"] == 65_483
