"""A web server whose pages behave like real servers: one manner per page, named by the first part of its path.

`/HEAD 405/x` answers HEAD with 405, `/chunked/x` does not announce its length, and so on: see `Manners`.
"""

import gzip
import http.server
import itertools
import os
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote, unquote

LAST_MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"


class Site(http.server.ThreadingHTTPServer):
    """Serves one text at every address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, text: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Manners)
        self.text = text
        self.modified = LAST_MODIFIED
        """The modification time of pages of the manner `ranges`."""
        self.asked: list[str] = []
        """Every request as received: method and target, byte for byte."""
        self.heads: list[dict[str, str]] = []
        """The headers of each request, with lower-case names."""
        self.times: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.over = threading.Event()
        """Set when the tests are done with the server, to release hanging requests."""

    def handle_error(self, *_: object) -> None: ...

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def page(self, manner: str, name: str = "x.txt") -> str:
        """The address of a page of this manner."""
        return f"{self.address}/{quote(manner)}/{name}"


class Manners(http.server.BaseHTTPRequestHandler):
    """Answers HEAD and GET as the first part of the path asks."""

    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        target = self.raw_requestline.decode("latin-1").split(" ")[1]  # self.path has lost double slashes
        self.server.asked.append(f"{self.command} {target}")
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.server.times[f"{self.command} {target}"] += 1
        manner, _, more = unquote(target.lstrip("/").split("/")[0]).partition(" ")
        with suppress(ConnectionError):
            getattr(self, f"_{manner}", self._plain)(more, self.server.times[f"{self.command} {target}"])

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...

    def _plain(self, _more: str = "", _time: int = 0, **headers: str) -> None:
        usual = {"Content-Length": str(len(self.server.text)), "Last_Modified": LAST_MODIFIED}
        self._answer(200, usual | headers)

    def _answer(self, status: int, headers: dict[str, str], body: bytes | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.server.text if body is None else body)

    def _HEAD(self, status: str, time: int) -> None:
        """HEAD is answered with a status."""
        if self.command == "HEAD":
            self._answer(int(status), {"Content-Length": "0"})
        else:
            self._plain(status, time)

    def _GET(self, status: str, _time: int) -> None:
        """Every request is answered with a status."""
        self._answer(int(status), {"Content-Length": "0"}, b"")

    def _chunked(self, _more: str, _time: int) -> None:
        """The answer does not announce its length."""
        text = self.server.text
        self._answer(200, {"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))

    def _unending(self, _more: str, _time: int) -> None:
        """The answer ends with the connection, without a length."""
        self.close_connection = True
        self._answer(200, {"Connection": "close"})

    def _etag(self, more: str, _time: int) -> None:
        """The ETag differs with every answer; on request, so does Last-Modified, or it is absent."""
        modified = {"": LAST_MODIFIED, "alone": "", "now": self.date_time_string()}[more]
        self._plain(ETag=f'"{next(self.server.numbers)}"', Last_Modified=modified)

    def _tagged(self, tag: str, _time: int) -> None:
        """An ETag, with the time of the answer as Last-Modified."""
        self._plain(ETag=f'"{tag}"', Last_Modified=self.date_time_string())

    def _ranges(self, more: str, time: int) -> None:
        """Serves ranges: with `cut TIMES` the first answers break off, with `shift` they start elsewhere."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        size = len(self.server.text)
        if not asked:
            self._plain(Last_Modified=self.server.modified)
        elif (first := int(asked[1]) + (more == "shift")) >= size:
            self._answer(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"}, b"")
        else:
            part = self.server.text[first : int(asked[2]) + 1]
            said = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{size}", "Content-Length": str(len(part))}
            is_cut = more.startswith("cut") and time <= int(more.split()[1])
            self._answer(206, said | {"Last-Modified": self.server.modified}, part[:1] if is_cut else part)
            if is_cut:
                self._reset("1", 0)

    def _short(self, _more: str, _time: int) -> None:
        """The body is shorter than announced."""
        self.close_connection = True
        self._answer(200, {"Content-Length": str(len(self.server.text) + 1)})

    def _cut(self, times: str, time: int) -> None:
        """The body breaks off in the middle, the first times."""
        if self.command == "GET" and time <= int(times):
            self._answer(200, {"Content-Length": str(len(self.server.text))}, self.server.text[:3])
            self._reset("1", 0)
        else:
            self._plain()

    def _gzip(self, _more: str, _time: int) -> None:
        """The body is compressed, although that was not requested."""
        packed = gzip.compress(self.server.text)
        self._answer(200, {"Content-Length": str(len(packed)), "Content-Encoding": "gzip"}, packed)

    def _busy(self, more: str, time: int) -> None:
        """Answers 503 with the seconds to wait, the first times: `busy TIMES SECONDS`."""
        times, _, seconds = more.partition(" ")
        if time <= int(times):
            self._answer(503, {"Content-Length": "0", "Retry-After": seconds}, b"")
        else:
            self._plain()

    def _reset(self, times: str, time: int) -> None:
        """Resets the connection, the first times."""
        if time > int(times or 1 << 30):
            self._plain()
        else:  # a linger time of zero makes the close a reset
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.wfile.flush()
            os.close(self.connection.detach())

    def _hang(self, _more: str, _time: int) -> None:
        """Never answers."""
        self.server.over.wait(60)
        self.close_connection = True

    def _drip(self, _more: str, _time: int) -> None:
        """Sends a byte from time to time, for ever."""
        self._answer(200, {"Content-Length": "1000000"}, b"")
        while self.command == "GET" and not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def _to(self, address: str, _time: int) -> None:
        """Redirects to an address, or to itself."""
        self._answer(302, {"Location": unquote(address) or self.path, "Content-Length": "0"}, b"")


@contextmanager
def site(text: bytes = b"text") -> Iterator[Site]:
    """Run such a server."""
    server = Site(text)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
