"""Runs a client against our server, and says what came of it.

    accepted   it exits with 0, and the server saw its Finished; with `http`, a request of it was answered as well
    hung       it did not end in time, and sent no alert
    refused    all else

Neither is enough alone: a wrapper may exit with 0 after a failure, and a browser may finish and refuse afterwards.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.serialization import Encoding

from fanfold.errors import UsageError
from fanfold.tls.pki import Credentials
from fanfold.tls.probe.search import SERVER, Answer
from fanfold.tls.probe.server import ADDRESS, HOST, Listener, Visit
from fanfold.tls.server import context

NAMES = (HOST, ADDRESS)
"""What the server's certificate is for."""
PLACEHOLDERS = ("host", "port", "ca", "url", "ip")
_LONGEST = 2000
"""Characters of a client's output that are kept."""


@dataclass(frozen=True)
class Command:
    """A client's command line, with its placeholders. Raises UsageError if it does not say where the server is."""

    words: Sequence[str]
    http: bool = False
    """Whether the client has to send a request."""
    timeout: float = 8.0
    """Seconds that it has."""

    def __post_init__(self) -> None:
        if not self.words:
            raise UsageError("Name a client: fanfold tls probe -- curl --cacert {ca} {url}")
        if not any(f"{{{name}}}" in word for word in self.words for name in ("port", "url")):
            raise UsageError(
                "The client does not learn where the server is. Write {url}, or {host} and {port}: "
                "fanfold tls probe -- curl --cacert {ca} {url}"
            )
        if not 0 < self.timeout <= 600:
            raise UsageError(f"--timeout takes seconds up to 600, not {self.timeout:g}.")

    def ask(self, shown: Credentials) -> Answer:
        """Run the client once against a server that shows these credentials. Raises UsageError if it cannot be run."""
        with tempfile.TemporaryDirectory() as folder:
            ca = Path(folder) / "ca.pem"
            ca.write_bytes(shown.root.public_bytes(Encoding.PEM))
            with Listener(context(shown), self.timeout) as listener:
                places = {
                    "host": HOST,
                    "port": str(listener.port),
                    "ca": str(ca),
                    "url": f"https://{HOST}:{listener.port}/",
                    "ip": ADDRESS,
                }
                code, words = _run([_filled(word, places) for word in self.words], self.timeout)
        return self._judged(code, words, listener.visits)

    def _judged(self, code: int | None, words: str, visits: Sequence[Visit]) -> Answer:
        """The answer that lies in an exit code (None after a timeout), the client's words, and its connections."""
        done = [visit for visit in visits if visit.is_done and (visit.answered or not self.http)]
        tls = next((visit.tls for visit in reversed(visits) if visit.finished), "")
        if code == 0 and done:
            return Answer("accepted", tls=tls)
        if alert := next((visit.alert for visit in visits if visit.alert), ""):
            return Answer("refused", "client alert", words, alert, tls)
        if code is None:
            return Answer("hung", "timeout", words, tls=tls)
        if error := next((visit.error for visit in visits if visit.error), ""):
            return Answer("refused", "server error", f"{words}\n{SERVER}{error}".strip(), tls=tls)
        return Answer("refused", "client close", f"{words}\n{self._how_far(code, visits)}".strip(), tls=tls)

    def _how_far(self, code: int, visits: Sequence[Visit]) -> str:
        """What came of a client that ended by itself, without an alert."""
        if not visits:
            did = "it did not connect"
        elif not any(visit.finished for visit in visits):
            did = "it did not finish the handshake"
        elif self.http and not any(visit.answered for visit in visits):
            did = "it finished the handshake, but sent no request"
        else:
            did = "it finished the handshake"
        return f"exit code {code}; {did}"


def _filled(word: str, places: dict[str, str]) -> str:
    """A word with its placeholders filled in; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda match: places.get(match[1], match[0]), word)


def _run(words: list[str], timeout: float) -> tuple[int | None, str]:
    """The exit code of a command, None if it took too long, and what it wrote. Raises UsageError."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _started(words, out.fileno(), err.fileno()) as process:
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                code = None
        return code, f"{_tail(err)}\n{_tail(out)}".strip()


@contextmanager
def _started(words: list[str], out: int, err: int) -> "Iterator[subprocess.Popen[bytes]]":
    """A process that leads a group of its own, which is killed afterwards, with whatever it started."""
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    except OSError as error:
        raise UsageError(
            f"Cannot run the client '{words[0]}': {error.strerror}. Write its command behind --, as you would type it."
        ) from error
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(file: IO[bytes]) -> str:
    """The end of what was written to a file."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _LONGEST))
    return file.read().decode(errors="replace").strip()
