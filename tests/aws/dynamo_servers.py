"""Servers that speak DynamoDB's API over HTTP, and a proxy that throttles as DynamoDB does.

dynalite     the limits (25 items, 400 KB, 16 MB) and capacity units of the real one; no point-in-time recovery
moto         most operations, few of the limits
throttled    in front of either: leaves items of a call over, and declines calls, by a plan with a fixed seed
"""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

NODE = shutil.which("node")
DYNALITE = Path(__file__).parent.parent / "npm" / "node_modules" / "dynalite" / "cli.js"
ABSENT = "" if NODE and DYNALITE.exists() else "needs Node.js; install it, then: cd tests/npm && npm ci"
"""The reason why dynalite cannot be started, or an empty string."""


_LISTEN = """
const [index, options] = process.argv.slice(1);
const server = require(index)(JSON.parse(options)).listen(0, "127.0.0.1", function () {
  console.log("http://127.0.0.1:" + server.address().port);
});
"""


@contextmanager
def dynalite(**options: int) -> Iterator[str]:
    """An in-memory DynamoDB whose tables are ready at once; its address."""
    settings = json.dumps({"createTableMs": 0, "deleteTableMs": 0, **options})
    with started([str(NODE), "-e", _LISTEN, str(DYNALITE.with_name("index.js")), settings]) as address:
        yield address


@contextmanager
def moto(**variables: str) -> Iterator[str]:
    """A server for many of AWS's APIs; its address. `variables` are added to its environment."""
    server = shutil.which("moto_server", path=sysconfig.get_path("scripts")) or "moto_server"
    with started([server, "-H", "127.0.0.1", "-p", "0"], **variables) as address:
        yield address


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[str]:
    """A server that chooses its own port, so that nothing else can take it, and prints its address."""
    environment = os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"} | variables
    with tempfile.TemporaryFile("w+") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            yield _printed(server, out)
        finally:
            server.kill()
            server.wait(timeout=30)


def _printed(server: "subprocess.Popen[bytes]", out: IO[str]) -> str:
    """Wait for the printed address."""
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        out.seek(0)
        if found := re.search(r"http://127\.0\.0\.1:\d+", out.read()):
            return found[0]
        time.sleep(0.05)
    out.seek(0)
    raise RuntimeError(f"no server came up: {out.read()[-2000:]}")


def environment(address: str) -> dict[str, str]:
    """The variables that point boto3 at a server as DynamoDB, and at nothing else."""
    return {
        "AWS_ENDPOINT_URL_DYNAMODB": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass
class Throttle:
    """The behaviour of a table without capacity."""

    seed: int = 0
    left_over: float = 0.3
    """The fraction of a call's items that are left over."""
    declined: float = 0.2
    """The fraction of calls that are declined as a whole."""
    rate: float = math.inf
    """Items per second, of calls with several, that get through; the rest is left over as well."""
    after: int = 0
    """The number of calls before the first may be declined."""
    calls: Counter[str] = field(default_factory=Counter)
    """Received calls by operation, and how many of them were `declined` or had items `left over`."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free: float = field(default_factory=time.monotonic)
    _came: int = 0

    def decides(self, operation: str, items: int) -> tuple[bool, list[bool]]:
        """Whether a call is declined, and if not, which of its items are left over."""
        with self._lock:
            self.calls[operation] += 1
            rng = random.Random(f"{self.seed} {operation} {self.calls[operation]}")
            declined = rng.random() < self.declined and self._came >= self.after
            self._came += 1
            left = [rng.random() < self.left_over or not self._granted() for _ in range(items)]
            self.calls["declined"] += declined
            self.calls["left over"] += not declined and any(left)
            return declined, left

    def _granted(self) -> bool:
        """Whether there is capacity for an item now; unused capacity is not saved."""
        now = time.monotonic()
        if now < self._free:
            return False
        self._free = now + 1 / self.rate
        return True


@contextmanager
def throttled(server: str, plan: Throttle) -> Iterator[str]:
    """Run the proxy; the address to use instead of the server's."""
    proxy = _Proxy(("127.0.0.1", 0), _Handler)
    proxy.server, proxy.plan = server.removeprefix("http://"), plan
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    server: str
    plan: Throttle


class _Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    server: _Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        table, items = _items(operation, asked)
        declined, left = self.server.plan.decides(operation, len(items))
        if declined:
            kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            return self._answer(400, {"__type": kind, "message": "The level of configured throughput is exceeded."})
        kept = [item for item, over in zip(items, left, strict=True) if not over]
        over = [item for item, over in zip(items, left, strict=True) if over]
        if over and not kept:  # DynamoDB refuses an empty call
            answer: dict[str, Any] = {"Responses": {table: []}}
        else:
            _set(operation, asked, table, kept)
            status, answer = self._forward(asked)
            if status != 200:
                return self._answer(status, answer)
        if over:
            answer["UnprocessedItems" if operation == "BatchWriteItem" else "UnprocessedKeys"] = {
                table: over if operation == "BatchWriteItem" else asked["RequestItems"][table] | {"Keys": over}
            }
        return self._answer(200, answer)

    def _forward(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection(self.server.server)
        headers = {name: value for name, value in self.headers.items() if name != "Content-Length"}
        connection.request("POST", "/", json.dumps(asked), headers | {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def _items(operation: str, asked: dict[str, Any]) -> tuple[str, list[Any]]:
    """The table and the items of a call with several items."""
    for table, items in asked.get("RequestItems", {}).items():
        return table, items["Keys"] if operation == "BatchGetItem" else items
    return "", []


def _set(operation: str, asked: dict[str, Any], table: str, items: list[Any]) -> None:
    """Reduce a call to these items."""
    if operation == "BatchGetItem":
        asked["RequestItems"][table]["Keys"] = items
    elif table:
        asked["RequestItems"][table] = items
