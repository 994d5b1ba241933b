"""The index of a table: which keys it holds, at which version and where, in little memory.

    a segment     high   ▁▁▂▃▃▅▆▆█  sorted: the first half of each key's digest      uint64[n]
                  low    ........   the second half                                  uint64[n]
                  versions, addresses                                                uint64[n] each
    its buckets   |  |  |  |  |     where the keys with the same first bits begin    uint32[n / 8]

Digests are as good as random, so the first bits of one say where in the segment it must be, within a cache line or
two: a lookup is two steps from memory rather than the two dozen of a binary search among ten million.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.bytes_]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

NOWHERE = np.uint64(2**64 - 1)
"""The address of a key that is not in the table."""

_BUCKET = 3  # keys in a bucket on average, as a power of two: eight times eight bytes are a cache line


class Index:
    """Which keys a table holds, at which version and where: 32 bytes a row, however long the keys.

    A key is known by its 128-bit digest: among ten million keys the chance that any two share one is 10^-25.
    Sorted segments, merged when they grow alike (a log-structured merge tree without the disk); in a lookup the
    newest segment wins.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def add(self, keys: Digests, versions: Words, addresses: Words) -> None:
        """Set where these keys, all different, are; an address of NOWHERE forgets a key."""
        if not len(keys):
            return
        high, low = _halves(keys)
        order = np.argsort(high)
        self.segments.append(Segment(high[order], low[order], versions[order], addresses[order]))
        while len(self.segments) > 1 and len(self.segments[-2]) < 2 * len(self.segments[-1]):
            self.segments.append(_merged(self.segments))

    def find(self, keys: Digests) -> tuple[Words, Words]:
        """The version and the address of each key; NOWHERE where it is absent."""
        high, low = _halves(keys)
        versions = np.zeros(len(keys), np.uint64)
        addresses = np.full(len(keys), NOWHERE)
        for segment in self.segments:
            hit, at = segment.find(high, low)
            versions[hit], addresses[hit] = segment.versions[at], segment.addresses[at]
        return versions, addresses

    def snapshot(self) -> "Index":
        """The index as it is now; later additions to either do not show in the other."""
        copy = Index()
        copy.segments = self.segments.copy()
        return copy

    def keys(self) -> Digests:
        """The digests of all keys held, in no order."""
        known = np.unique(np.concatenate([digests([]), *(segment.digests() for segment in self.segments)]))
        held: Digests = known[self.find(known)[1] != NOWHERE]
        return held


@dataclass
class Segment:
    """Keys, sorted by the first half of their digests."""

    high: Words
    low: Words
    versions: Words
    addresses: Words
    _buckets: npt.NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))

    def __len__(self) -> int:
        return len(self.high)

    def digests(self) -> Digests:
        """The keys' digests."""
        return np.stack([self.high, self.low], axis=1).view("S16").ravel()

    def find(self, high: Words, low: Words) -> tuple[Places, Places]:
        """Which of these digests are here, and where."""
        at = self._first(high)
        hits, places = [], []
        asked = np.arange(len(high))
        # More than once only if two keys share the first half of their digests: 1 in 370,000 tables of ten million.
        while len(asked):
            inside = at < len(self)
            asked, at = asked[inside], at[inside]
            alike = self.high[at] == high[asked]
            asked, at = asked[alike], at[alike]
            same = self.low[at] == low[asked]
            hits.append(asked[same])
            places.append(at[same])
            asked, at = asked[~same], at[~same] + 1
        none = np.empty(0, np.int64)
        return np.concatenate([none, *hits]), np.concatenate([none, *places])

    def _first(self, high: Words) -> Places:
        """Where the first key not below each of these begins: `np.searchsorted`, several times as fast."""
        bits = max(1, len(self).bit_length() - _BUCKET)
        if not len(self._buckets):
            edges = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
            inner = np.searchsorted(self.high, edges)
            self._buckets = np.concatenate([[0], inner, [len(self)]]).astype(np.uint32)
        bucket = (high >> np.uint64(64 - bits)).astype(np.int64)
        start, end = self._buckets[bucket].astype(np.int64), self._buckets[bucket + 1].astype(np.int64)
        widest = int((end - start).max(initial=0))
        for _ in range(widest.bit_length()):
            middle = (start + end) >> 1
            below = self.high[np.minimum(middle, len(self) - 1)] < high
            searching = start < end
            start = np.where(searching & below, middle + 1, start)
            end = np.where(searching & ~below, middle, end)
        return start


def _merged(segments: list[Segment]) -> Segment:
    """The last two segments, taken away, in one; where they share a key, the last one's.

    Column by column, each given up when it is copied, so that no more than a column is held twice.
    """
    new, old = segments.pop(), segments.pop()
    replaced = old.find(new.high, new.low)[1]
    keep = np.delete(np.arange(len(old)), replaced) if len(replaced) else slice(None)
    kept = old.high[keep]
    slots = np.searchsorted(kept, new.high)
    slots += np.arange(len(new))
    others = np.ones(len(kept) + len(new), bool)
    others[slots] = False
    del kept
    columns = [[one.addresses, one.versions, one.low, one.high] for one in (old, new)]
    del new, old

    def woven() -> Words:
        older, newer = (column.pop() for column in columns)
        both = np.empty(len(others), np.uint64)
        both[slots], both[others] = newer, older[keep]
        return both

    return Segment(woven(), woven(), woven(), woven())


def _halves(keys: Digests) -> tuple[Words, Words]:
    pairs = keys.view(np.uint64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


# Digests live no longer than the process and are never written down, so they may be what Python itself keys its
# dictionaries with, SipHash under a secret of this process: a sixth of what BLAKE2 takes, called key by key.


def digests(keys: Iterable[str]) -> Digests:
    """The 128-bit digest of each key: two hashes, of the key and of the key with a mark. Shape (n,), dtype S16."""
    known = keys if isinstance(keys, Sequence) else list(keys)
    halves = np.empty((len(known), 2), np.int64)
    halves[:, 0] = np.fromiter(map(hash, known), np.int64, len(known))
    halves[:, 1] = np.fromiter(map(hash, map("\0".__add__, known)), np.int64, len(known))
    return halves.view("S16").ravel()


def words(versions: Iterable[str]) -> Words:
    """The 64-bit digest of each version: compared for one key at a time, so 64 bits do. Shape (n,)."""
    known = versions if isinstance(versions, Sequence) else list(versions)
    return np.fromiter(map(hash, known), np.int64, len(known)).view(np.uint64)
