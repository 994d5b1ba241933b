"""pyOpenSSL: pyopenssl.py HOST PORT CA."""

import socket
import sys

from OpenSSL import SSL

host, port, ca = sys.argv[1:]
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
context.load_verify_locations(ca)
context.set_verify(SSL.VERIFY_PEER)
with socket.create_connection((host, int(port))) as plain:
    plain.settimeout(None)
    tls = SSL.Connection(context, plain)
    tls.set_tlsext_host_name(host.encode())
    tls.set_connect_state()
    tls.do_handshake()
    tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert tls.recv(1000).startswith(b"HTTP/1.1 200")
