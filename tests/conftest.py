"""Fixtures: folders of small files, and a real S3 server on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from fanfold.storage import open_store
from helpers import free_port

sys.path.insert(0, str(Path(__file__).parent))  # for jobs.py, here and (by way of PYTHONPATH) in workers
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

# A shell that runs this in the background has it ignore Ctrl-C, and with it every command that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray reads it when it is imported, by whichever file of tests is the first: clusters on loopback are joined there.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

# For the tests that import ONNX Runtime before fanfold does.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# No deadlines: how long an example takes says how busy the machine is. The same examples every time.
hypothesis.settings.register_profile("fanfold", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("fanfold")


FIRST = (
    "executors/test_ray.py",
    "executors/test_ray_clusters.py",
    "aws/test_end_to_end.py",
    "test_faults.py",
    "test_docs.py",
)
"""Files that take minutes: begun last, one of them would keep everybody waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the workers of pytest-xdist take whole files, in this order."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(FIRST)))


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
    """Where a database may be made."""
    return str(tmp_path / "db")


@pytest.fixture(scope="module", autouse=True)
def _end_of_ray() -> Iterator[None]:
    """A Ray cluster, or a connection to one, ends with the file of tests that made it."""
    yield
    if ray := sys.modules.get("ray"):
        ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a SeaweedFS S3 server that checks credentials; its processes end with the tests."""
    folder = tmp_path_factory.mktemp("s3")
    config = folder / "s3.json"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "key", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.write_text(json.dumps({"identities": [identity]}))
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
        server.kill()  # a polite end takes it half a minute
        server.wait(timeout=30)
        log.close()


def _ready(address: str, server: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the server stores an object."""
    os.environ.update(_credentials(address))
    for _ in range(120):
        if server.poll() is not None:
            raise RuntimeError(log.read_text()[-2000:])
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except urllib.error.HTTPError:
            try:
                open_store("s3://tests").put("ready", b"yes")
                return address
            except Exception:
                time.sleep(0.5)
        except OSError:
            time.sleep(0.5)
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
def bucket(s3_server: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty prefix of its own on the S3 server, whose address and keys are in the environment."""
    os.environ.update(_credentials(s3_server))
    return f"s3://tests/{abs(hash(request.node.nodeid)):x}-{time.time_ns():x}"
