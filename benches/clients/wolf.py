"""wolfSSL, by its C library: wolf.py LIBRARY HOST PORT CA; without more than the library, its version."""

import ctypes
import socket
import sys

wolf = ctypes.CDLL(sys.argv[1])
wolf.wolfSSL_lib_version.restype = ctypes.c_char_p
wolf.wolfSSLv23_client_method.restype = ctypes.c_void_p
wolf.wolfSSL_CTX_new.restype = ctypes.c_void_p
wolf.wolfSSL_new.restype = ctypes.c_void_p
if len(sys.argv) == 2:
    sys.exit(print(wolf.wolfSSL_lib_version().decode()))
host, port, ca = sys.argv[2:]
wolf.wolfSSL_Init()
context = ctypes.c_void_p(wolf.wolfSSL_CTX_new(ctypes.c_void_p(wolf.wolfSSLv23_client_method())))
assert wolf.wolfSSL_CTX_load_verify_locations(context, ca.encode(), None) == 1
tls = ctypes.c_void_p(wolf.wolfSSL_new(context))
wolf.wolfSSL_check_domain_name(tls, host.encode())
with socket.create_connection((host, int(port))) as plain:
    wolf.wolfSSL_set_fd(tls, plain.fileno())
    if (code := wolf.wolfSSL_connect(tls)) != 1:
        text = ctypes.create_string_buffer(200)
        number = wolf.wolfSSL_get_error(tls, code)
        wolf.wolfSSL_ERR_error_string(ctypes.c_ulong(number & 0xFFFFFFFFFFFFFFFF), text)
        sys.exit(f"{number}: {text.value.decode()}")
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert wolf.wolfSSL_write(tls, request, len(request)) == len(request)
    answer = ctypes.create_string_buffer(1000)
    assert wolf.wolfSSL_read(tls, answer, 1000) > 0
