"""`fanfold tls serve`: pairs of handshakes with real clients, as in the article of 2021.

    page ──its script──▶ control: 0.c.example    ──▶ a row: role control ┐
                    └──▶ live:    17.1.example   ──▶ a row: role live    ┘ one key
                         17 dummy certificates in the handshake

`names.py` says what a server name means, `contexts.py` has the certificates for it, `handshake.py` does and times a
handshake, `http.py` answers, `store.py` keeps rows, and `server.py` holds them together within `limits.py`. Addresses
are cut in `prefix.py`, before anything else sees them.
"""
