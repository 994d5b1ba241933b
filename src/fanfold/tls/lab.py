"""The process that emulates links, and a worker's side of the pipe to it.

    Lab ──keys of cells──▶ pipe ──▶ main()       python -m fanfold.tls.lab
        ◀──────── facts, cell by cell            in a network namespace of its own, with a relay and a server below it

It is a separate process because a user without rights gets a namespace only for a whole process that has one thread,
and a worker has several. It ends with its worker, whose end closes the pipe.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from fanfold.errors import FanfoldError, MissingExtra, UsageError

_NEEDED = {"cryptography", "OpenSSL", "pyroute2"}
_GROUPS = {"x25519": Path(__file__).with_name("x25519.cnf")}
"""What OpenSSL reads at its start, where keys are not agreed on by its own choice: pyOpenSSL has no call for that."""
_FIRST_ML_DSA = 49
"""The version of `cryptography` from which on it signs with ML-DSA."""


class Lab:
    """A process that emulates links, for one way to agree on keys."""

    def __init__(self, zoo: str | None, kex: str = "x25519mlkem768") -> None:
        """Start it, and make a link to try. Raises UsageError where the system does not allow it, MissingExtra."""
        if sys.platform != "linux":
            raise UsageError(_refusal(f"{sys.platform} has none"))
        self._pipe, theirs = Pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), zoo or ""],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=os.environ | {"PYTHONPATH": path, "OPENSSL_CONF": str(_GROUPS.get(kex, os.devnull))},
            )
        kind, *content = self._receive()
        if kind != "ready":
            self.close()
            raise _missing(*content) if kind == "missing" else UsageError(_refusal(*content))

    def measure(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Measure cells of one link; see `emulate.measure`. Raises FanfoldError when the process ends."""
        self._pipe.send_bytes(json.dumps(keys).encode())
        return [self._receive() for _ in keys]

    def close(self) -> None:
        """End the process, with those below it."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _receive(self) -> Any:
        try:
            return json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            code = self._process.wait()
            self._output.seek(0)
            output = self._output.read().decode(errors="replace").strip().splitlines()
            says = f": {output[-1][:300]}" if output else ""
            raise FanfoldError(f"The process that emulates links has ended, with exit code {code}{says}") from error


def check(kex: str = "x25519mlkem768") -> None:
    """Raise UsageError where links cannot be emulated, MissingExtra where something is not installed."""
    Lab(None, kex).close()


def stack() -> str:
    """What does the handshakes, with its versions. Raises MissingExtra, and UsageError for one that is too old."""
    try:
        import cryptography

        if int(cryptography.__version__.partition(".")[0]) < _FIRST_ML_DSA:
            raise UsageError(
                f"cryptography {cryptography.__version__} cannot sign with ML-DSA; {_FIRST_ML_DSA} and later can. "
                "Install it with: pip install 'fanfold[tls]'"
            )
        from fanfold.tls import openssl
    except ModuleNotFoundError as error:
        raise _missing(error.name or "") from error
    return openssl.stack()


def _missing(module: str) -> Exception:
    """What to raise when a module is not there."""
    if module.partition(".")[0] in _NEEDED:
        return MissingExtra("tls", "Measuring real handshakes")
    return ModuleNotFoundError(f"No module named '{module}'", name=module)


def _refusal(why: str) -> str:
    return (
        f"This machine does not let users make network namespaces ({why}). Simulate instead: "
        "fanfold tls measure GRID DATABASE --backend simulate; or run as root."
    )


def main(pipe: Connection, zoo_file: str | None) -> None:
    """Be the process: measure the cells whose keys come through the pipe, until it closes."""
    try:
        from fanfold.tls import emulate, link, relay
    except ModuleNotFoundError as error:
        _send(pipe, ["missing", error.name])
        return
    try:
        link.enter()
        with link.Link(link.Setting(rtt=0.001, down=1e9, up=1e9, initcwnd=10, mss=1448)):
            pass
    except OSError as error:
        _send(pipe, ["refused", f"{error.strerror or error}"])
        return
    relay.come_first()
    _send(pipe, ["ready"])
    from fanfold.tls.cells import cell_of
    from fanfold.tls.zoo import load

    zoo = load(zoo_file)

    def alive() -> None:
        if pipe.poll():  # nothing is asked meanwhile: the worker has gone
            sys.exit()

    while True:
        for facts in emulate.measure([cell_of(key) for key in json.loads(pipe.recv_bytes())], zoo, alive):
            _send(pipe, facts)


def _send(pipe: Connection, content: Any) -> None:
    pipe.send_bytes(json.dumps(content).encode())


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        main(Connection(int(sys.argv[1])), sys.argv[2] or None)
