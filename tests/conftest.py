"""Which tests run, where and when; fixtures for folders of small files and a real S3 server on loopback."""

import contextlib
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import nursery
from fanfold.storage import open_store
from helpers import free_port

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parent))  # for jobs.py, here and (through PYTHONPATH) in workers
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

# A shell that runs this in the background makes it, and every command that the tests interrupt, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Some containers set this, and then every command and worker of a test would compile all its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Ray reads this at its import, in whichever test file comes first: some tests join clusters on loopback.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

# Ten tests wait for a store that is gone, but not for as long as users do.
os.environ["FANFOLD_RETRY_SECONDS"] = "5"

# For tests that import ONNX Runtime before fanfold.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# No deadlines, since an example's time depends on how busy the machine is. The same examples every time.
hypothesis.settings.register_profile("fanfold", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.register_profile("all-seeds", hypothesis.settings.get_profile("fanfold"), max_examples=180)
hypothesis.settings.load_profile("fanfold")


FIRST = (
    "executors/test_ray_nodes.py",
    "executors/test_ray_clusters.py",
    "executors/test_ray.py",
    "aws/test_end_to_end.py",
    "infra/",
    "tls/test_tls_link.py",
    "tls/test_tls_emulate.py",
    "tls/test_tls_example.py",
    "aws/",
    "executors/",
    "test_docs.py",
    "core/test_faults.py",
)
"""The slowest tests, and those that stay together; if one of them started last, everything would wait for it."""

SHARED = ("synthesise", "stacks")
"""Session fixtures that are so slow that one worker of pytest-xdist makes them, for all tests."""

READER = "reader"
"""The access key on the S3 server that may only read."""

KILLS = 6
"""Seeds of `test_killed_at_any_moment` without `--all-seeds`: each kind of victim, twice."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for tests that only a change to the core needs."""
    parser.addoption("--all-seeds", action="store_true", help="try every seed of the tests that kill at random")


def pytest_configure(config: pytest.Config) -> None:
    """Try three times as many examples if all seeds are asked for."""
    if config.getoption("--all-seeds"):
        hypothesis.settings.load_profile("all-seeds")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let no garbage collection look through what is collected, which stays: not now, and not during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out seeds that were not requested, group the tests by what they share, and put the slowest first."""
    if not config.getoption("--all-seeds"):
        left_out = {item for item in items if item.get_closest_marker("seeds") and _seed(item) >= KILLS}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if (name := _group(item)) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: _place(item.path))


def _seed(item: pytest.Item) -> int:
    """The seed that a test is parametrized by."""
    seed: int = item.callspec.params["seed"]  # type: ignore[attr-defined]
    return seed


def _group(item: pytest.Item) -> str:
    """What a test shares with others, so that one worker takes them all: the machine's cores (two of Ray's clusters at
    once would slow each other down), one of `SHARED`, or its module's fixtures."""
    if item.path.name.startswith("test_ray"):
        return "ray"
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if any(value == "ray" for value in parameters if isinstance(value, str)):
        return "ray"
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    if "three" in fixtures:
        return "ray"
    if any(name in fixtures for name in SHARED):
        return SHARED[0]
    own = {name for name, found in fixtures.items() if found[-1].scope == "module"} - {"_end_of_ray"}
    return item.nodeid.partition("::")[0].replace("/", ".") if own else ""


@functools.cache
def _place(path: Path) -> int:
    """The position of a test file among all."""
    name = _name(path)
    return next((number for number, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


@functools.cache
def _name(path: Path) -> str:
    """A test file's name below this folder."""
    return path.relative_to(Path(__file__).parent).as_posix()


REAL = ("cli/", "executors/", "test_packaging.py")
"""Where tests start worker processes as users do. Elsewhere they are forked, in a fraction of the time."""


@pytest.fixture(autouse=True)
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork worker processes, save in some folders."""
    if not _name(request.path).startswith(REAL):
        monkeypatch.setattr("fanfold.executors.process.subprocess", nursery)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may use. Pytest closes its own to others, again whenever a pytest starts."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of 40 small text files in two folders: a/00.txt ... b/39.txt."""
    folder = tmp_path / "texts"
    for number in range(40):
        file = folder / ("a" if number < 20 else "b") / f"{number:02d}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"text {number}")
    return folder


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A path for a new database."""
    return str(tmp_path / "db")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, to be filled, or made read-only with `mount -o remount,ro`."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", where]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A separate cache for all workers of pytest-xdist: models are made once, and the user's cache is not touched."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANFOLD_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _end_of_ray() -> Iterator[None]:
    """A Ray cluster, or a connection to one, ends with the test file that made it."""
    yield
    if ray := sys.modules.get("ray"):
        ray.shutdown()


_rays = contextlib.ExitStack()
"""Ends the cluster that tests share."""
_shared: "list[Cluster]" = []
"""That cluster, while it runs."""


@pytest.fixture
def three() -> "Cluster":
    """A Ray cluster of three nodes with one CPU each, and a server for Ray Client.

    Consecutive tests share it. It gets its full number of nodes again after tests that killed some.
    """
    import rays  # late: Ray takes a second to import

    if not _shared:
        _rays.callback(_shared.clear)
        _shared.append(_rays.enter_context(rays.several(3, ray_client_server_port=free_port())))
    (cluster,) = _shared
    while len(cluster.worker_nodes) < 2:
        rays.add(cluster)
    rays.wait_for(lambda: len(rays.ray_nodes(cluster)) == 3, 60)  # Ray may not have noticed a dead one yet
    return cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """End the shared Ray cluster after the last test file that uses it: even an idle one needs some of a core."""
    try:
        return (yield)
    finally:
        if nextitem is None or (nextitem.path != item.path and _group(nextitem) != "ray"):
            _rays.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a SeaweedFS S3 server that checks credentials; its processes end with the tests."""
    folder = tmp_path_factory.mktemp("s3")
    config = folder / "s3.json"
    allowed = {"key": ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": "secret"}], "actions": actions}
        for key, actions in allowed.items()
    ]
    config.write_text(json.dumps({"identities": identities}))
    weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or "weed"
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    options += [f"-{name}.port.grpc={free_port()}" for name in ("s3", "master", "volume", "filer")]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        [
            *(weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"),
            *(f"-s3.config={config}", "-volume.max=500", "-master.volumeSizeLimitMB=64", *options),
        ],
        stdout=log,
        stderr=log,
    )
    try:
        yield _ready(f"http://127.0.0.1:{ports['s3']}", server, folder / "log")
    finally:
        server.kill()  # a clean shutdown takes half a minute
        server.wait(timeout=30)
        log.close()


def _ready(address: str, server: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the server stores an object."""
    os.environ.update(_credentials(address))
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(log.read_text()[-2000:])
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except urllib.error.HTTPError:
            try:
                open_store("s3://tests").put("ready", b"yes")
                return address
            except Exception:
                time.sleep(0.2)
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the S3 server did not start: " + log.read_text()[-2000:])


def _credentials(address: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def bucket(s3_server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new, empty prefix on the S3 server, whose address and keys are in the environment."""
    for name, value in _credentials(s3_server).items():
        monkeypatch.setenv(name, value)
    return f"s3://tests/{abs(hash(request.node.nodeid)):x}-{time.time_ns():x}"
