"""Mbed TLS, by python-mbedtls: mbed.py HOST PORT CA."""

import socket
import sys
from pathlib import Path

from mbedtls.tls import ClientContext, TLSConfiguration, TrustStore

host, port, ca = sys.argv[1:]
store = TrustStore.from_pem_file(Path(ca))
context = ClientContext(TLSConfiguration(trust_store=store, validate_certificates=True))
plain = context.wrap_socket(socket.socket(), server_hostname=host)
plain.connect((host, int(port)))
plain.do_handshake()
