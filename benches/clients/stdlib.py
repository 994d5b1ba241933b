"""The module `ssl` of Python, or one that takes its place: stdlib.py MODULE HOST PORT CA."""

import importlib
import socket
import sys

module, host, port, ca = sys.argv[1:]
ssl = importlib.import_module(module)
context = ssl.create_default_context(cafile=ca)
with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
    tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert tls.recv(1000).startswith(b"HTTP/1.1 200")
