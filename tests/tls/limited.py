"""A TLS client with limits of our making: limited.py HOST PORT CA NAME=VALUE...

count=16      certificates that it accepts
bytes=20000   bytes of all certificates together
largest=9000  bytes of one certificate
flaky=FILE    above four certificates, it accepts every second time
hangs=16      certificates above which it does not end
lies=1        it exits with 1 after a handshake that it accepts
"""

import socket
import ssl
import sys
import time
from pathlib import Path

host, port, ca, *options = sys.argv[1:]
given = dict(option.split("=", 1) for option in options)
context = ssl.create_default_context(cafile=ca)
with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
    chain = [len(one.public_bytes(ssl._ssl.ENCODING_DER)) for one in tls._sslobj.get_unverified_chain()]
if len(chain) > int(given.get("hangs", 10**9)):
    time.sleep(600)
if len(chain) > int(given.get("count", 10**9)):
    sys.exit("error: too many certificates")
if sum(chain) > int(given.get("bytes", 10**9)) or max(chain) > int(given.get("largest", 10**9)):
    sys.exit("error: too many bytes")
if "flaky" in given and len(chain) > 4:
    with Path(given["flaky"]).open("a") as file:
        file.write(".")
    if Path(given["flaky"]).stat().st_size % 2:
        sys.exit("error: not this time")
sys.exit(int(given.get("lies", 0)))
