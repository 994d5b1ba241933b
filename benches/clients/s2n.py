"""s2n, by awscrt: s2n.py HOST PORT CA."""

import sys

from awscrt import io
from awscrt.http import HttpClientConnection, HttpRequest

host, port, ca = sys.argv[1:]
options = io.TlsContextOptions()
options.override_default_trust_store_from_path(None, ca)
tls = io.ClientTlsContext(options).new_connection_options()
tls.set_server_name(host)
try:
    connection = HttpClientConnection.new(host, int(port), tls_connection_options=tls).result(60)
    request = HttpRequest("GET", "/")
    request.headers.add("Host", host)
    stream = connection.request(request)
    stream.activate()
    assert stream.completion_future.result(60) == 200
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
