"""Brings the connections of each pair together, and counts those that are missing.

records, by key ──▶ pairs ──┬─▶ counts by n
                            ├─▶ times by n
                            └─▶ losses by prefix
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fanfold.tls.analysis.rows import CONTROL, ISSUED, LIVE, ROLES, TWICE
from fanfold.tls.analysis.spill import Records, Spill

TIMES = np.dtype([("n", "<i2"), ("prefixes", "<u8", 2), ("ms", "<f8", 2)])
"""The times of a pair, and the prefixes of both connections, control first. A time that is not known is NaN."""
LOSSES = np.dtype([("prefix", "<u8"), ("n", "<i2"), ("role", "i1"), ("lost", "?")])
"""A connection, its n or 0, and whether the other one of its pair is missing."""
Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Pairs:
    """What all pairs amount to. Each array has a count for each n, from 0 (not known) to the largest n."""

    max_n: int
    times: Spill
    """Parts are numbered by n."""
    losses: Spill
    """All connections of a prefix are in one part."""
    keys: int = 0
    both: int = 0
    controls: Counts = field(init=False)
    """Controls by the n that they say themselves."""
    lost_lives: Counts = field(init=False)
    lives: Counts = field(init=False)
    lost_controls: Counts = field(init=False)
    issued: Counts = field(init=False)
    lost_both: Counts = field(init=False)

    def __post_init__(self) -> None:
        for name in ("controls", "lost_lives", "lives", "lost_controls", "issued", "lost_both"):
            setattr(self, name, np.zeros(self.max_n + 1, np.int64))

    def add(self, records: Records, dropped: Counter[str]) -> None:
        """Add all records of some keys. Of a key that came twice in a role, the first with a time counts."""
        if not len(records):
            return
        firsts, at = _by_key(records, dropped)
        has = at >= 0
        n = np.where(has, firsts["n"][at], 0)
        control, live = has[:, CONTROL], has[:, LIVE]
        self.keys += int((control | live).sum())
        self.both += int((control & live).sum())
        for total, of, lost, missing in (
            (self.controls, CONTROL, self.lost_lives, ~live),
            (self.lives, LIVE, self.lost_controls, ~control),
            (self.issued, ISSUED, self.lost_both, ~(control | live)),
        ):
            total += self._counted(n[has[:, of], of])
            lost += self._counted(n[has[:, of] & missing, of])
        self._keep_times(firsts, at, np.where(live, n[:, LIVE], n[:, CONTROL]))
        self._keep_losses(firsts, at, n)

    def _counted(self, n: Any) -> Counts:
        return np.bincount(n, minlength=self.max_n + 1)

    def _keep_times(self, firsts: Records, at: Any, n: Any) -> None:
        kept = np.zeros(len(at), TIMES)
        kept["n"] = n
        for role in (CONTROL, LIVE):
            rows = firsts[at[:, role]]
            kept["prefixes"][:, role] = rows["prefix"]
            kept["ms"][:, role] = np.where(at[:, role] >= 0, rows["ms"], np.nan)
        kept = kept[(n > 0) & np.isfinite(kept["ms"]).any(axis=1)]
        self.times.add(kept, kept["n"])

    def _keep_losses(self, firsts: Records, at: Any, n: Any) -> None:
        for role in (CONTROL, LIVE):
            there = at[:, role] >= 0
            kept = np.zeros(int(there.sum()), LOSSES)
            kept["prefix"] = firsts["prefix"][at[there, role]]
            kept["n"], kept["role"] = n[there, role], role
            kept["lost"] = at[there, LIVE if role == CONTROL else CONTROL] < 0
            kept = kept[kept["prefix"] > 0]
            self.losses.add(kept, (kept["prefix"] % len(self.losses.parts)).astype(np.int64))


def _by_key(records: Records, dropped: Counter[str]) -> tuple[Records, Any]:
    """The first record of each key and role; and for each key, the place of its record in each role, or -1."""
    order = np.lexsort((np.isnan(records["ms"]), records["role"], records["key"]))  # keeps the order otherwise
    ordered = records[order]
    new_key = np.append(True, ordered["key"][1:] != ordered["key"][:-1])
    is_first = new_key | np.append(True, ordered["role"][1:] != ordered["role"][:-1])
    dropped[TWICE] += int((~is_first & np.isfinite(ordered["ms"])).sum())
    group = (np.cumsum(new_key) - 1)[is_first]
    firsts = ordered[is_first]
    at = np.full((group[-1] + 1 if len(group) else 0, len(ROLES)), -1)
    at[group, firsts["role"]] = np.arange(len(firsts))
    return firsts, at


@dataclass(frozen=True)
class Attribution:
    """Prefixes that cannot do more than k certificates, as far as their connections tell."""

    lose_all: int
    """Prefixes that lose all lives above k, and none up to k."""
    of: int
    """Prefixes with enough controls on both sides of k."""


_ENOUGH = 3  # controls on each side: fewer are lost by chance, too


def attributed(losses: Spill, above: Sequence[int]) -> tuple[list[Attribution], int]:
    """For each k, the prefixes that lose everything above it and nothing up to it; and the number of all prefixes."""
    sums = np.zeros((len(above), 2), np.int64)
    prefixes = 0
    for part in losses.parts:
        rows = losses.read(part)
        found, at = np.unique(rows["prefix"], return_inverse=True)
        prefixes += len(found)
        controls = rows["role"] == CONTROL
        for number, k in enumerate(above):
            sums[number] += _limited(at[controls], rows["n"][controls], rows["lost"][controls], k, len(found))
    return [Attribution(int(lose_all), int(of)) for lose_all, of in sums], prefixes


def _limited(at: Any, n: Any, lost: Any, k: int, prefixes: int) -> tuple[int, int]:
    over, under = n > k, (n >= 1) & (n <= k)
    controls_over, controls_under = (np.bincount(at[chosen], minlength=prefixes) for chosen in (over, under))
    lost_over, lost_under = (np.bincount(at[chosen & lost], minlength=prefixes) for chosen in (over, under))
    enough = (controls_over >= _ENOUGH) & (controls_under >= _ENOUGH)
    return int((enough & (lost_over == controls_over) & (lost_under == 0)).sum()), int(enough.sum())
