"""A bucket of a million objects without an upload: a proxy in front of an S3 server that makes up one prefix.

    listing.py PORT SERVER KEYS

`ListObjectsV2` of `pictures/` gets made-up answers, in pages of 1,000 like S3's, with continuation tokens;
everything else goes to SERVER (`http://127.0.0.1:8333`, which must not check signatures) byte for byte.
"""

import re
import socket
import socketserver
import sys
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"


def page(start: int, keys: int) -> str:
    """One page of the listing in S3's format."""
    entries = "".join(
        f"<Contents><Key>pictures/{n // 5000:04d}/{n:08d}.jpg</Key><LastModified>2026-01-01T00:00:00.000Z"
        f'</LastModified><ETag>"{n:032x}"</ETag><Size>{100_000 + n % 5000}</Size>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for n in range(start, min(start + PAGE, keys))
    )
    more = start + PAGE < keys
    token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>bench-bucket</Name><Prefix>pictures/</Prefix>'
        f"<KeyCount>{min(PAGE, keys - start)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )


class Proxy(socketserver.ThreadingTCPServer):
    """The address to forward to, and the number of keys to make up."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    backend: tuple[str, int]
    keys: int


class Connection(socketserver.StreamRequestHandler):
    """One client connection, kept open for many requests."""

    server: Proxy

    def handle(self) -> None:
        """Answer requests until the client disconnects."""
        while request := self._request():
            first = request.split(b"\r\n", 1)[0].decode()
            query = parse_qs(urlsplit(first.split(" ")[1]).query)
            if "list-type" in query and query.get("prefix") == ["pictures/"]:
                body = page(int(query.get("continuation-token", ["0"])[0]), self.server.keys).encode()
                self.wfile.write((_HEAD % len(body)).encode() + body)
            else:
                self._forward(request)
                return

    def _request(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := self.rfile.readline()):
                return b""
            head += line
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        return head + (self.rfile.read(int(length[1])) if length else b"")

    def _forward(self, request: bytes) -> None:
        """Forward a request and return its answer; this ends the connection."""
        first, _, rest = request.partition(b"\r\n")
        with socket.create_connection(self.server.backend) as backend:
            backend.sendall(first + b"\r\nConnection: close\r\n" + rest)
            while some := backend.recv(1 << 16):
                self.wfile.write(some)


if __name__ == "__main__":
    port, server, keys = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with Proxy(("127.0.0.1", port), Connection) as proxy:
        host, _, its_port = server.removeprefix("http://").partition(":")
        proxy.backend, proxy.keys = (host, int(its_port)), keys
        proxy.serve_forever()
