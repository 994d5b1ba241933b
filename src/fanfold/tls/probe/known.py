"""What clients are known to accept: known.toml, which benches/probe.py writes."""

from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from fanfold.tls.written import checked, content_of

FILE = Path(__file__).with_name("known.toml")


@dataclass(frozen=True)
class Known:
    """What one client accepts, with its defaults."""

    client: str
    version: str
    kind: Literal["none", "count", "bytes", "both", "flaky"]
    """What it limits: the number of certificates, their bytes, both, or none up to what was tried."""
    date: date
    """When it was tried."""
    by: str
    """Where the client is from."""
    certificates: int | None = None
    """Certificates that it accepted, at most."""
    bytes: int | None = None
    """Bytes of a message of certificates that it accepted, at most."""
    one: bool = False
    """Whether the bytes are those of one certificate: it accepts more in several."""
    ml_dsa: bool | None = None
    """Whether it accepts a chain of ML-DSA."""
    tls: str = ""
    """The version of TLS."""
    how: str = ""
    """Its command line."""
    ended: str = ""
    """Who ended the first handshake that was not accepted."""

    @property
    def most_certificates(self) -> int | None:
        """Its limit of certificates; None if it has none."""
        return self.certificates if self.kind in ("count", "both") else None

    @property
    def most_bytes(self) -> int | None:
        """Its limit of bytes, of all certificates together; None if it has none."""
        return self.bytes if self.kind in ("bytes", "both") and not self.one else None


@dataclass(frozen=True)
class _File:
    """What the file has."""

    format: Literal[1] = 1
    client: tuple[Known, ...] = ()


@cache
def known() -> tuple[Known, ...]:
    """All of them, by their names."""
    content, text = content_of(FILE)
    return checked(_File, content, FILE, text).client
