"""Verifies an image: every chunk is checked, and the digests of the whole disk are compared with those stored."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fanfold.evidence.disk.medium import Damage, Medium
from fanfold.evidence.disk.raw import strides
from fanfold.storage import looking_ahead

_STRIDE = 4 << 20  # bytes of a read
_AHEAD = 4  # strides that wait for the digests
DIGESTS = ("md5", "sha1")


@dataclass
class Verification:
    """What is known of an image once all of it was read."""

    stored: dict[str, str]
    """Digests by name: md5, sha1."""
    computed: dict[str, str] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    whole: bool = True
    """Whether the digests were to be computed, and not the chunks checked only."""

    @property
    def result(self) -> str:
        """`match`, `mismatch`, `no stored digest` or `not computed`."""
        if not self.whole:
            return "not computed"
        if not self.stored:
            return "no stored digest"
        return "match" if all(self.computed.get(name) == digest for name, digest in self.stored.items()) else "mismatch"


def verifying(
    medium: Medium, threads: int, others: Sequence[str] = (), *, whole: bool = True
) -> Iterator[int | Verification]:
    """Read a medium to its end: how many bytes were read, again and again, then the result.

    Raises OSError if it cannot be read. The digests cannot be computed in parts, so threads inflate ahead of them.

    Args:
        medium: What to read.
        threads: So many read ahead.
        others: The digests to compute if none are stored. Without any, the holes of sparse files are not read.
        whole: Whether to compute digests. Else only the checksum of each chunk is checked.
    """
    found = Verification(dict(medium.stored), whole=whole)
    names = (found.stored or others) if whole else ()
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    done = 0
    places = range(0, medium.end, _STRIDE) if digests else strides(medium, _STRIDE)

    def read(at: int) -> bytes:
        return medium.read_at(at, min(_STRIDE, medium.end - at))

    for part in looking_ahead(read, places, threads, threads + _AHEAD):
        for digest in digests.values():
            digest.update(part)
        done += len(part)
        yield done
    if medium.end == medium.size:  # else it is not the whole disk that was read
        found.computed = {name: digest.hexdigest() for name, digest in digests.items()}
    found.damage = medium.damage
    yield found
