"""Cells: the handshakes that a grid asks for. A cell is an item; its key says all that differs from the defaults.

    rtt_ms=20,down_mbit=10,initcwnd=30,chain=ecdsa-p256+1x17000,mss=1200

The chain of a cell:

    p256              a chain of that scheme: leaf and intermediate
    p256+1x17000      and one certificate more, of 17,000 bytes: sizes alone, with the signatures of today
    ml-dsa-44:2021    a handshake of that profile, with staple and SCTs if the profile has them
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from fanfold.tls.network import MSS, Network
from fanfold.tls.zoo import Scheme, Zoo

SMALLEST_DUMMY = 217
"""Bytes of the smallest certificate that we can add to a chain: Ed25519, no extension but the basic constraints."""
_NO_DER = (259, 65_540)
"""Bytes that no value in DER has: with one byte of content more, its length takes one more, too."""
MOST_DUMMIES = 1000
LARGEST_FLIGHT = 16 << 20

_CHAIN = re.compile(r"([\w.+-]{0,99}?[\w])(?:\+(\d{1,9})(?:x(\d{1,9}))?|:([\w.-]+))?")


@dataclass(frozen=True)
class Chain:
    """What the server sends: a scheme, and certificates beside or a profile."""

    scheme: str
    """As the zoo calls it, in lower case."""
    profile: str = ""
    dummies: int = 0
    dummy_bytes: int = 0

    @classmethod
    def of(cls, text: str) -> "Chain":
        """The chain that a text such as `p256+1x17000` describes. Raises ValueError, with a sentence."""
        match = _CHAIN.fullmatch(text.strip())
        if ":" in text and re.search(r"\+\d+x\d+", text):
            raise ValueError(f"'{text[:100]}' has certificates more and a profile. Leave one of them out")
        if not match:
            raise ValueError(f"'{text[:100]}' is not a chain: write p256, p256+1x17000 or ml-dsa-44:2021")
        name, count, size, profile = match.groups()
        dummies, dummy_bytes = int(count or 0), int(size or 0)
        if dummies and size is None:
            raise ValueError(f"'{text}' does not say how large its certificates are: write {text.strip()}x1000")
        _check_dummies(dummies, dummy_bytes)
        return cls(name, profile or "", dummies, dummy_bytes if dummies else 0)

    def known(self, zoo: Zoo) -> "Chain":
        """The same chain, with its scheme as the zoo calls it. Raises UsageError for names that are not there."""
        if self.profile:
            zoo.profile(self.profile)
        return replace(self, scheme=zoo.scheme(self.scheme).name.lower())

    def __str__(self) -> str:
        if self.profile:
            return f"{self.scheme}:{self.profile}"
        return f"{self.scheme}+{self.dummies}x{self.dummy_bytes}" if self.dummies else self.scheme

    @property
    def control(self) -> "Chain":
        """The chain that it is compared with: the same without what was added, or today's scheme."""
        return Chain("ecdsa-p256", self.profile) if self.profile else Chain(self.scheme)


_chain_of = lru_cache(1 << 10)(Chain.of)


def _check_dummies(count: int, size: int) -> None:
    if count > MOST_DUMMIES:
        raise ValueError(f"a chain has at most {MOST_DUMMIES:,} certificates more, not {count:,}")
    if count and size < SMALLEST_DUMMY:
        raise ValueError(f"the smallest certificate that can be added has {SMALLEST_DUMMY} bytes, not {size:,}")
    if count and size in _NO_DER:
        raise ValueError(f"no certificate has {size:,} bytes in DER: take {size - 1:,} or {size + 1:,}")
    if count * size > LARGEST_FLIGHT:
        raise ValueError(f"a flight of more than {LARGEST_FLIGHT >> 20} MB is not measured: {count:,} x {size:,} bytes")


def _is_chain(text: str) -> str:
    return str(Chain.of(text))


def _plain(value: float) -> float:
    """A number without a decimal point if it needs none: 20 and 20.0 are one cell."""
    return int(value) if value == int(value) else value


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False), AfterValidator(_plain)]
_Count = Annotated[int, Field(ge=1, le=10_000, strict=True)]


@dataclass(frozen=True)
class Cell:
    """A handshake to be measured, and the link that it is measured on. `checked_cell` sees that its values are valid.

    Not a class of pydantic's: a million cells are listed in seconds.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    rtt_ms: Annotated[_Number, Field(ge=0.001, le=10_000)]
    down_mbit: Annotated[_Number, Field(ge=0.001, le=1_000_000)]
    initcwnd: Annotated[int, Field(ge=1, le=1000, strict=True)]
    chain: Annotated[str, AfterValidator(_is_chain)]
    reps: _Count = 20
    """Handshakes, and as many of the control."""
    up_mbit: Annotated[_Number, Field(ge=0, le=1_000_000)] = 0
    """0 for as many as down."""
    loss: Annotated[_Number, Field(ge=0, le=0.5)] = 0
    """Part of the segments that are lost, in both directions."""
    queue_kb: Annotated[_Number, Field(ge=0, le=1_000_000)] = 0
    """Room before the link down; 0 for no limit."""
    mss: Annotated[int, Field(ge=88, le=65_483, strict=True)] = MSS
    cc: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,16}$")] = "cubic"
    """The server's congestion control."""
    kex: Literal["x25519mlkem768", "x25519"] = "x25519mlkem768"
    tls: Literal["1.3", "1.2"] = "1.3"
    seed: Annotated[int, Field(ge=0, le=2**31, strict=True)] = 1
    """Of the order of the handshakes."""

    @property
    def key(self) -> str:
        """Its name: what every cell has, then what differs from the defaults."""
        shown = [(name, getattr(self, name), default) for name, default in defaults().items()]
        return ",".join(f"{name}={value}" for name, value, default in shown if default is MISSING or value != default)

    def version(self, scheme: Scheme) -> str:
        """Changes when the cell does, or the sizes of its scheme."""
        values = [getattr(self, name) for name in defaults()]
        return blake2b(repr([*values, scheme.pk, scheme.sig]).encode(), digest_size=16).hexdigest()

    @property
    def parsed(self) -> Chain:
        """Its chain, taken apart."""
        return _chain_of(self.chain)

    @property
    def link(self) -> tuple[Any, ...]:
        """What cells that are measured on one link have in common."""
        return self.rtt_ms, self.down_mbit, self.up_mbit, self.loss, self.queue_kb, self.initcwnd, self.mss, self.cc

    @property
    def network(self) -> Network:
        """Its link, to be simulated."""
        return Network(
            rtt=self.rtt_ms / 1000,
            down=self.down_mbit * 1e6,
            up=self.up_mbit * 1e6,
            initcwnd=self.initcwnd,
            mss=self.mss,
        )


@cache
def defaults() -> Mapping[str, Any]:
    """The values that cells have unless a grid says otherwise, by name, in the order of keys."""
    return {field.name: field.default for field in fields(Cell)}


_checked = TypeAdapter(Cell).validate_python


def checked_cell(values: Mapping[str, Any], zoo: Zoo) -> Cell:
    """The cell with these values. Raises pydantic's ValidationError, and UsageError for names that the zoo has not."""
    cell: Cell = _checked(dict(values))
    return replace(cell, chain=str(cell.parsed.known(zoo)))


def cell_of(key: str) -> Cell:
    """The cell of a key."""
    texts = dict(part.split("=", 1) for part in key.split(","))
    return Cell(**{name: _KINDS.get(name, _decimal)(text) for name, text in texts.items()})


def _decimal(text: str) -> float:
    return _plain(float(text))


_KINDS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("chain", "cc", "kex", "tls"), str),
    **dict.fromkeys(("initcwnd", "reps", "mss", "seed"), int),
}
