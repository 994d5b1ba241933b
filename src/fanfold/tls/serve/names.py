"""What the name in a client's hello (SNI) means: the control, a number of dummy certificates, or the page."""

import re
from dataclasses import dataclass
from typing import Literal

from fanfold.errors import UsageError

Role = Literal["control", "live", "page"]
MOST = 99
"""Dummy certificates: a name has two digits for them."""
NO_NAME = "no name"
BROKEN = "name too long, or broken"
DOT = "name ends with a dot"
UNKNOWN = "unknown name"
NO_NUMBER = "no such number"
"""Reasons to refuse, as they are counted."""
_LONGEST = 255  # bytes of a name in TLS, for OpenSSL
_LONGEST_HOST = 253 - len("99.")
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(rb"[1-9][0-9]?")


@dataclass(frozen=True)
class Meaning:
    """What a client asks for by its name."""

    role: Role
    n: int = 0
    """Dummy certificates."""


@dataclass(frozen=True)
class Names:
    """The names of an experiment, in lower case."""

    control: str
    """The name without dummy certificates: 0.c.example."""
    live: str
    """What follows the number in a live name: 1.example."""
    page: str
    most: int
    """The largest number of dummy certificates."""

    @classmethod
    def of(cls, control: str, live: str, page: str | None = None, most: int = 59) -> "Names":
        """The names that options say. `page` is the live domain itself, if it is not given. Raises UsageError."""
        if not 1 <= most <= MOST:
            raise UsageError(f"--max takes a number from 1 to {MOST}, not {most}.")
        control = _host("--control", control)
        live = _host("--live", live)
        names = cls(control if control.startswith("0.") else f"0.{control}", live, _host("--page", page or live), most)
        if isinstance(meant := names.meaning(names.page.encode()), str) or meant.role != "page":
            raise UsageError(f"--page {names.page} is a name that a handshake is measured at. Choose another one.")
        if names._number(names.control.encode()) is not None:
            raise UsageError(f"--control {names.control} is a live name. Choose another one.")
        return names

    def meaning(self, name: bytes | None) -> Meaning | str:
        """What a server name means, or why it is refused. Upper case is as lower case."""
        if not name:
            return NO_NAME
        if len(name) > _LONGEST:
            return BROKEN
        if name.endswith(b"."):
            return DOT
        lower = name.lower()  # of ASCII letters alone, as these are bytes
        if lower == self.control.encode():
            return Meaning("control")
        number = self._number(lower)
        if number is None:
            return Meaning("page") if lower == self.page.encode() else UNKNOWN
        return Meaning("live", int(number)) if _NUMBER.fullmatch(number) and int(number) <= self.most else NO_NUMBER

    def live_name(self, n: int) -> str:
        """The name with so many dummy certificates."""
        return f"{n}.{self.live}"

    def _number(self, name: bytes) -> bytes | None:
        """What is in the place of the number, if a name is below the live domain."""
        number, _, domain = name.partition(b".")
        return number if domain == self.live.encode() else None


def _host(option: str, name: str) -> str:
    """A host name in lower case. Raises UsageError."""
    lower = name.lower()
    if not lower.isascii():
        raise UsageError(f"{option} {name}: write the name as it is in the DNS, in ASCII (xn--...).")
    if not _HOST.fullmatch(lower) or len(lower) > _LONGEST_HOST:
        raise UsageError(f"{option} takes the name of a host, such as 1.example, not '{name}'.")
    return lower
