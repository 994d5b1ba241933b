"""A hub on loopback for tests: the endpoint for files of the Hugging Face hub, over real HTTP."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The hub's files, and the requests it received."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """By `org/repo/path`."""
    main: str = COMMIT
    """The newest commit."""
    commits: list[str] = field(default_factory=lambda: [COMMIT])
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """The hub's endpoint for files: /org/repo/resolve/revision/path."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def answer(self, send: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        org, repo, _, revision, path = [*self.path[1:].split("/", 4), *[""] * 5][:5]
        content = self.hub.files.get(f"{org}/{repo}/{path}")
        has_repo = any(name.startswith(f"{org}/{repo}/") for name in self.hub.files)
        known = revision in ("main", self.hub.main, *self.hub.commits)
        code = "EntryNotFound" if has_repo and known else "RevisionNotFound" if has_repo else "RepoNotFound"
        self.send_response(404 if content is None or not known else 200)
        if content is None or not known:
            self.send_header("X-Error-Code", code)
            content = b""
        self.send_header("X-Repo-Commit", revision if revision in self.hub.commits else self.hub.main)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub without files."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OurHandler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()
