"""The index of a table: which keys it holds, at which version and where, in little memory."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.bytes_]
Words = npt.NDArray[np.uint64]

NOWHERE = np.uint64(2**64 - 1)
"""The address of a key that is not in the table."""


class Index:
    """Which keys a table holds, at which version and where: 32 bytes a row, however long the keys.

    A key is known by its 128-bit digest: among ten million keys the chance that any two share one is 10^-25.
    Sorted segments, merged when they grow alike (a log-structured merge tree without the disk); in a lookup the
    newest segment wins.
    """

    def __init__(self) -> None:
        self.segments: list[tuple[Digests, Words, Words]] = []

    def add(self, keys: Digests, versions: Words, addresses: Words) -> None:
        """Set where these keys are; an address of NOWHERE forgets a key."""
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        self.segments.append((keys[order], versions[order], addresses[order]))
        while len(self.segments) > 1 and len(self.segments[-2][0]) < 2 * len(self.segments[-1][0]):
            new, old = self.segments.pop(), self.segments.pop()
            self.segments.append(_merged(old, new))

    def find(self, keys: Digests) -> tuple[Words, Words]:
        """The version and the address of each key; NOWHERE where it is absent."""
        versions = np.zeros(len(keys), np.uint64)
        addresses = np.full(len(keys), NOWHERE)
        for known, its_versions, its_addresses in self.segments:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hit = known[at] == keys
            versions[hit], addresses[hit] = its_versions[at[hit]], its_addresses[at[hit]]
        return versions, addresses

    def snapshot(self) -> "Index":
        """The index as it is now; later additions to either do not show in the other."""
        copy = Index()
        copy.segments = self.segments.copy()
        return copy

    def keys(self) -> Digests:
        """The digests of all keys held, sorted."""
        known = np.unique(np.concatenate([digests([]), *(segment[0] for segment in self.segments)]))
        held: Digests = known[self.find(known)[1] != NOWHERE]
        return held


def _merged(old: tuple[Digests, Words, Words], new: tuple[Digests, Words, Words]) -> tuple[Digests, Words, Words]:
    keys, versions, addresses = (np.concatenate(pair) for pair in zip(old, new, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, versions, addresses = keys[order], versions[order], addresses[order]
    last = np.append(keys[1:] != keys[:-1], True)  # the sort is stable, so the newest of equals comes last
    return keys[last], versions[last], addresses[last]


def digests(keys: Iterable[str]) -> Digests:
    """The 128-bit digest of each key. Shape (n,), dtype S16."""
    joined = b"".join(blake2b(key.encode(), digest_size=16).digest() for key in keys)
    return np.frombuffer(joined, np.dtype("S16"))


def words(versions: Iterable[str]) -> Words:
    """The 64-bit digest of each version: compared for one key at a time, so 64 bits do. Shape (n,)."""
    joined = b"".join(blake2b(version.encode(), digest_size=8).digest() for version in versions)
    return np.frombuffer(joined, np.uint64)
