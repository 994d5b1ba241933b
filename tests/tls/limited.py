"""A TLS client with limits of our making: limited.py HOST PORT CA NAME=VALUE...

count=16      certificates that it accepts
bytes=20000   bytes of all certificates together
largest=9000  bytes of one certificate
flaky=FILE    above four certificates, it accepts every second time
hangs=16      certificates above which it does not end
lies=1        it exits with 1 after a handshake that it accepts
"""

# It runs some hundred times in the tests, so it goes without the modules `ssl` and `socket`: their classes take most of
# the time of a start.
import _socket
import _ssl
import sys
import time

host, port, ca, *options = sys.argv[1:]
given = dict(option.split("=", 1) for option in options)
context = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(ca)
plain = type("Plain", (_socket.socket,), {})()  # of a class of ours, since TLS refers to it weakly
plain.connect((host, int(port)))
tls = context._wrap_socket(plain, False, host)
tls.do_handshake()
chain = [len(one.public_bytes(_ssl.ENCODING_DER)) for one in tls.get_unverified_chain()]
plain.close()
if len(chain) > int(given.get("hangs", 10**9)):
    time.sleep(600)
if len(chain) > int(given.get("count", 10**9)):
    sys.exit("error: too many certificates")
if sum(chain) > int(given.get("bytes", 10**9)) or max(chain) > int(given.get("largest", 10**9)):
    sys.exit("error: too many bytes")
if "flaky" in given and len(chain) > 4:
    import os

    file = os.open(given["flaky"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, b".")
    if os.fstat(file).st_size % 2:
        sys.exit("error: not this time")
sys.exit(int(given.get("lies", 0)))
