"""tlslite-ng, which verifies no chain: tlslite_get.py HOST PORT."""

import socket
import sys

from tlslite.api import TLSConnection

host, port = sys.argv[1:]
tls = TLSConnection(socket.create_connection((host, int(port))))
tls.handshakeClientCert(serverName=host)
tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
assert tls.recv(1000).startswith(b"HTTP/1.1 200")
