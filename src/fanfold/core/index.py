"""The index of a table: which keys it holds, at which version and where, in little memory.

    a segment     high   ▁▁▂▃▃▅▆▆█  sorted: the first half of each key's digest      uint64[n]
                  low    ........   the second half                                  uint64[n]
                  versions, addresses, and where items have detail rows: sizes       uint64[n] each
    its buckets   |  |  |  |  |     where the keys with the same first bits begin    uint32[n / 8]

Digests are as good as random, so the first bits of one say where in the segment it must be, within a cache line or
two: a lookup is two steps from memory rather than the two dozen of a binary search among ten million.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.bytes_]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NOWHERE = np.uint64(2**64 - 1)
"""The address of a key that is not in the table."""

_BUCKET = 3  # keys in a bucket on average, as a power of two: eight times eight bytes are a cache line


class Index:
    """Which keys a table holds, at which version and where: 32 bytes an item, however long the keys.

    A sized index also knows how many detail rows each item has, in 8 bytes more.
    A key is known by its 128-bit digest: among ten million keys the chance that any two share one is 10^-25.
    Sorted segments, merged when they grow alike (a log-structured merge tree without the disk); in a lookup the
    newest segment wins.
    """

    def __init__(self, *, sized: bool = False) -> None:
        self.sized = sized
        self.segments: list[Segment] = []
        self.pieces: dict[bytes, list[tuple[int, int]]] = {}
        """Of items whose rows are not all in one run: the address and the length of each. See `enter`."""

    def add(self, keys: Digests, versions: Words, addresses: Words, sizes: Words | None = None) -> None:
        """Set where these keys, all different, are; an address of NOWHERE forgets a key."""
        if not len(keys):
            return
        if self.pieces:
            for key in keys.tolist():
                self.pieces.pop(key, None)
        high, low = _halves(keys)
        order = np.argsort(high)
        values = [versions[order], addresses[order]]
        if self.sized:
            values.append(np.zeros(len(keys), np.uint64) if sizes is None else sizes[order])
        self.segments.append(Segment(high[order], low[order], values))
        while len(self.segments) > 1 and len(self.segments[-2]) < 2 * len(self.segments[-1]):
            self.segments.append(_merged(self.segments))

    def enter(self, keys: Digests, versions: Words, addresses: Words, sizes: Words) -> None:
        """Set where runs of rows are, in a sized index; further runs of an item that is there already are added to it.

        Nearly every item is one run. One that a fragment's end cuts is several, and a scan meets it in several batches.
        """
        _, known, had = self.measure(keys)
        _, inverse, times = np.unique(keys, return_inverse=True, return_counts=True)
        odd = (known != NOWHERE) | (times[inverse] > 1)
        self.add(keys[~odd], versions[~odd], addresses[~odd], sizes[~odd])
        runs: dict[bytes, list[tuple[int, int]]] = {}
        last: dict[bytes, int] = {}
        for at, key in zip(np.flatnonzero(odd).tolist(), keys[odd].tolist(), strict=True):
            earlier = self.pieces.get(key) or [(int(known[at]), int(had[at]))] * int(known[at] != NOWHERE)
            _join(runs.setdefault(key, list(earlier)), int(addresses[at]), int(sizes[at]))
            last[key] = at
        ends = np.fromiter(last.values(), np.int64, len(last))
        first = np.array([parts[0][0] for parts in runs.values()], np.uint64)
        total = np.array([sum(size for _, size in parts) for parts in runs.values()], np.uint64)
        self.add(keys[ends], versions[ends], first, total)
        self.pieces.update((key, parts) for key, parts in runs.items() if len(parts) > 1)

    def runs(self, keys: Digests) -> tuple[Words, Words]:
        """The addresses and lengths of all runs of rows of these keys, in a sized index."""
        _, addresses, sizes = self.measure(keys)
        if not self.pieces:
            return addresses[addresses != NOWHERE], sizes[addresses != NOWHERE]
        parts = [self.pieces.get(key, []) for key in keys.tolist()]
        single = (addresses != NOWHERE) & ~np.fromiter(map(bool, parts), bool, len(parts))
        more = np.array([part for some in parts for part in some], np.uint64).reshape(-1, 2)
        return np.concatenate([addresses[single], more[:, 0]]), np.concatenate([sizes[single], more[:, 1]])

    def places(self, keys: Digests, *, runs: bool) -> Iterator[tuple[int, Words]]:
        """Where the rows of these keys are: the ids of fragments, and the offsets in each, in order.

        An item is a row; with `runs`, any number of runs of rows.
        """
        if runs:
            starts, sizes = self.runs(keys)
        else:
            starts = self.find(keys)[1]
            sizes = np.ones(len(starts), np.uint64)
        order = np.argsort(starts)
        starts, sizes = starts[order], sizes[order]
        ids, first = np.unique(starts >> np.uint64(32), return_index=True)
        parts = (np.split(part, first[1:]) for part in (starts, sizes))
        for id, at, lengths in zip(ids.tolist(), *parts, strict=False):
            before = np.cumsum(lengths, dtype=np.uint64) - lengths
            base = (at & np.uint64(2**32 - 1)) - before  # may wrap below 0, and back
            yield id, np.repeat(base, lengths.astype(np.int64)) + np.arange(int(lengths.sum()), dtype=np.uint64)

    def has(self, keys: Digests) -> Mask:
        """Whether each key is there."""
        there: Mask = self.find(keys)[1] != NOWHERE
        return there

    def find(self, keys: Digests) -> tuple[Words, Words]:
        """The version and the address of each key; NOWHERE where it is absent."""
        versions, addresses = self._find(keys, 2)
        return versions, addresses

    def measure(self, keys: Digests) -> tuple[Words, Words, Words]:
        """The version, the address and the size of each key, in a sized index; NOWHERE and 0 where it is absent."""
        versions, addresses, sizes = self._find(keys, 3)
        return versions, addresses, sizes

    def _find(self, keys: Digests, columns: int) -> list[Words]:
        high, low = _halves(keys)
        found = [np.full(len(keys), NOWHERE if column == 1 else np.uint64(0)) for column in range(columns)]
        for segment in self.segments:
            hit, at = segment.find(high, low)
            for column, values in zip(found, segment.values, strict=False):
                column[hit] = values[at]
        return found

    def snapshot(self) -> "Index":
        """The index as it is now; later additions to either do not show in the other."""
        copy = Index(sized=self.sized)
        copy.segments, copy.pieces = self.segments.copy(), self.pieces.copy()
        return copy

    def keys(self) -> Digests:
        """The digests of all keys held, in no order."""
        known = np.unique(np.concatenate([digests([]), *(segment.digests() for segment in self.segments)]))
        held: Digests = known[self.has(known)]
        return held


@dataclass
class Segment:
    """Keys, sorted by the first half of their digests."""

    high: Words
    low: Words
    values: list[Words]
    """Their versions and addresses, and their sizes in a sized index."""
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
    columns = [[*reversed(one.values), one.low, one.high] for one in (old, new)]
    del new, old

    def woven() -> Words:
        older, newer = (column.pop() for column in columns)
        both = np.empty(len(others), np.uint64)
        both[slots], both[others] = newer, older[keep]
        return both

    high, low = woven(), woven()
    return Segment(high, low, [woven() for _ in range(len(columns[0]))])


def _join(runs: list[tuple[int, int]], address: int, size: int) -> None:
    """Add a run to an item's runs: to the last one, if it goes on from there."""
    if runs and sum(runs[-1]) == address:
        runs[-1] = (runs[-1][0], runs[-1][1] + size)
    else:
        runs.append((address, size))


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
