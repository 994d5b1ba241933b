"""A network between a client and a server, as people write it: rtt=50ms,down=20Mbit."""

import re
from dataclasses import dataclass, fields, replace
from typing import Self

from fanfold.errors import UsageError
from fanfold.tls.zoo import found_in

HEADERS = 52
"""Bytes of a segment beside its data: IPv4, TCP, and TCP's time stamps."""
MSS = 1500 - HEADERS
"""Bytes of data in a full segment, on Ethernet."""

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
_WHOLE = {"initcwnd", "mss", "quickack"}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_LIMITS = {
    "rtt": (1e-6, 10.0, "1us and 10s"),
    "down": (1e3, 1e12, "1kbit and 1000Gbit"),
    "up": (1e3, 1e12, "1kbit and 1000Gbit"),
    "initcwnd": (1, 1000, "1 and 1000"),
    "mss": (88, 65_483, "88 and 65483"),
    "quickack": (0, 1000, "0 and 1000"),
    "cpu": (0.0, 10.0, "0 and 10s"),
}


@dataclass(frozen=True)
class Network:
    """What lies between a client and a server, and how the server's TCP begins."""

    rtt: float = 0.05
    """Seconds of a round trip, without the time to send."""
    down: float = 20e6
    """Bits per second from the server to the client."""
    up: float = 0.0
    """Bits per second from the client to the server; 0 for as many as down."""
    initcwnd: int = 10
    """Segments that the server may send before the first acknowledgement."""
    mss: int = MSS
    """Bytes of data in a full segment."""
    quickack: int = 16
    """Segments that the client acknowledges one by one before it acknowledges every second one."""
    cpu: float = 0.0
    """Seconds of computation in a handshake, on both sides."""

    @classmethod
    def parse(cls, text: str, **more: float) -> Self:
        """The network that a text such as `rtt=50ms,down=20Mbit` describes. Raises UsageError."""
        values: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (one.strip() for one in part.partition("="))
            if not equals:
                raise UsageError(f"'{part}' in the link has no value. A link is written as rtt=50ms,down=20Mbit.")
            found_in({field.name: None for field in fields(cls)}, name, "setting of a link")
            if name in values:
                raise UsageError(f"The link has two values of {name}. Leave one of them out.")
            values[name] = _value(name, value)
        return cls()._with(**values, **more)

    def _with(self, **values: float) -> Self:
        for name, value in values.items():
            low, high, shown = _LIMITS[name]
            if not low <= value <= high and not (name == "up" and value == 0):
                raise UsageError(f"The link's {name} must be between {shown}.")
        if parts := [name for name in _WHOLE & values.keys() if values[name] != int(values[name])]:
            raise UsageError(f"The link's {parts[0]} must be a whole number, not {values[parts[0]]:g}.")
        whole = {name: int(value) if name in _WHOLE else value for name, value in values.items()}
        return replace(self, **whole)  # type: ignore[arg-type]

    def of_window(self, initcwnd: int) -> Self:
        """The same network with another initial window, in segments. Raises UsageError."""
        return self._with(initcwnd=initcwnd)

    @property
    def upstream(self) -> float:
        """Bits per second from the client to the server."""
        return self.up or self.down


def _value(name: str, text: str) -> float:
    """A number with its unit, in seconds, bits per second, or as it is."""
    units = _SECONDS if name in ("rtt", "cpu") else _BITS if name in ("down", "up") else {"": 1.0}
    match = _NUMBER.fullmatch(text)
    factor = {unit.lower(): factor for unit, factor in units.items()}.get(match[2].lower()) if match else None
    if match is None or factor is None:
        kinds = f"a number and one of {', '.join(units)}" if "" not in units else "a number"
        raise UsageError(f"The link's {name} is '{text}', but it takes {kinds}.")
    return float(match[1]) * factor
