"""What the server answers.

    page:           GET /          the page            control, live:  GET /s?k=KEY&n=N   store the handshake
                    GET /pair.js   its script
                    GET /pair      a key and an n

Everything else is 404. A handshake is stored before its client is answered; 503 says that it could not be.
"""

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from fanfold.tls.serve.counts import Counts
from fanfold.tls.serve.handshake import Handshake
from fanfold.tls.serve.names import Names
from fanfold.tls.serve.prefix import Prefix
from fanfold.tls.serve.store import Row, Store

_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_OPEN = {"Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
_PARAMETERS = re.compile(r"k=([0-9a-f]{32})(?:&n=([1-9][0-9]?))?", re.ASCII)
_REQUEST = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]\r\n")
_BODY = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection[ \t]*:[ \t]*close", re.IGNORECASE)


@dataclass(frozen=True)
class Visit:
    """A connection whose handshake is done."""

    handshake: Handshake
    prefix: Prefix
    asn: int | None


@dataclass(frozen=True)
class Answer:
    """An answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False
    """The connection may be used again."""

    def encoded(self) -> bytes:
        """The bytes to send."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *([] if self.status == 204 else [f"Content-Length: {len(self.body)}"]),
            f"Connection: {'keep-alive' if self.keep else 'close'}",
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body


TOO_LARGE = Answer(431)
"""To a request whose head is too long."""


class Endpoints:
    """The answers of a server."""

    def __init__(self, names: Names, store: Store, counts: Counts) -> None:
        self._names, self._store, self._counts = names, store, counts
        settings = {"control": names.control, "live": names.live, "max": names.most}
        script = (files(__package__) / "page.js").read_text("utf-8").replace("SETTINGS", json.dumps(settings))
        to = f"'self' https://{names.control}:* https://*.{names.live}:*"
        policy = f"default-src 'none'; script-src 'self'; connect-src {to}; base-uri 'none'; form-action 'none'"
        self._page = {
            "/": Answer(
                200,
                (files(__package__) / "page.html").read_bytes(),
                {
                    "Content-Type": "text/html; charset=utf-8",
                    "Content-Security-Policy": policy,
                    "Referrer-Policy": "no-referrer",
                },
                keep=True,
            ),
            "/pair.js": Answer(
                200, script.encode(), {"Content-Type": "text/javascript; charset=utf-8", **_OPEN}, keep=True
            ),
        }

    def answer(self, head: bytes, visit: Visit) -> Answer:
        """The answer to a request, given its head with the empty line."""
        answer = self._answer(head, visit)
        self._counts.add(f"answers: {answer.status}")
        return answer

    def _answer(self, head: bytes, visit: Visit) -> Answer:
        request = _REQUEST.match(head)
        if not request:
            return Answer(400)
        method, target = (part.decode("ascii") for part in request.groups())
        if method != "GET" or _BODY.search(head):
            return Answer(404)
        path, _, query = target.partition("?")
        if visit.handshake.meaning.role != "page":
            return self._stored(query, visit) if path == "/s" else Answer(404)
        answer = self._pair() if path == "/pair" else self._page.get(path, Answer(404, keep=True))
        return Answer(answer.status, answer.body, answer.headers) if _CLOSE.search(head) else answer

    def _pair(self) -> Answer:
        """A key and an n, which are remembered: so a pair of which nothing arrives is known."""
        key, n = secrets.token_hex(16), 1 + secrets.randbelow(self._names.most)
        if self._store.issued(key, n, _minute()) != "new":
            self._counts.add("not stored")
            return Answer(503, headers=_OPEN)
        self._counts.add("issued")
        body = json.dumps({"key": key, "n": n}).encode()
        return Answer(200, body, {"Content-Type": "application/json", **_OPEN})  # one a connection: those have a rate

    def _stored(self, query: str, visit: Visit) -> Answer:
        """Store a handshake under the key that its client says."""
        meaning = visit.handshake.meaning
        found = _PARAMETERS.fullmatch(query)
        n = int(found[2]) if found and found[2] else meaning.n or None
        if not found or n not in (None, meaning.n or n) or (n or 1) > self._names.most:
            return Answer(400, headers=_OPEN)
        stored = self._store.handshake(_row(found[1], n, visit))
        self._counts.add({"new": f"stored: {meaning.role}", "again": "replays", "not": "not stored"}[stored])
        return Answer(503 if stored == "not" else 204, headers=_OPEN)


def _row(key: str, n: int | None, visit: Visit) -> Row:
    done = visit.handshake
    retransmitted = done.after.retransmitted
    return Row(
        key=key,
        role=done.meaning.role,
        n=n,
        prefix=visit.prefix.text,
        family=visit.prefix.family,
        asn=visit.asn,
        handshake_ms=done.handshake_ms,
        accept_to_hello_ms=done.accept_to_hello_ms,
        rtt_ms=done.before.rtt_ms,
        tls=done.tls,
        group=done.group,
        hello_bytes=done.hello_bytes,
        hello_reads=done.hello_reads,
        hello_retry=int(done.is_retried),
        first_flight_bytes=done.first_flight_bytes,
        initcwnd=done.before.window,
        mss=done.before.mss,
        retransmitted=retransmitted,
        at=_minute(),
    )


def _minute() -> str:
    """The time of day without its seconds, which could tell who it was."""
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
