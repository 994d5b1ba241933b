"""The article's claims, each with what the cells of a table say about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fanfold.tls.article import ADDED, FIGURES, GUESS, Claim, Topic, Verdict, claims
from fanfold.tls.report.rows import Row, link_of, name_of, slower
from fanfold.tls.simulate import walls
from fanfold.tls.sizes import BUDGET

Said = tuple[str, Verdict]
"""What cells say, and what that makes of a claim."""

_NEAR = 0.15  # of a size: cells that add so much more or less count as of that size
_CLOSE = 0.05  # a slowdown that is off by no more is the article's
_LONG = 2.5  # times that a link carries a window in a round trip, so that 60 % of another one is waiting
_UNTESTED: Verdict = "cannot be tested"


@dataclass(frozen=True)
class Judged:
    """A claim, and what cells say about it."""

    claim: Claim
    cells: str
    verdict: Verdict
    """By the cells alone; the claim has that by what is computed."""


def judged(rows: Sequence[Row]) -> list[Judged]:
    """All claims, given the rows of a report."""
    return [Judged(claim, *_CHECKS[claim.topic](rows)) for claim in claims()]


def _more(row: Row) -> int:
    """Bytes that a flight has more than its control's."""
    more: int = row["first_flight_bytes"] - row["control_flight_bytes"]
    return more


def _added(rows: Sequence[Row]) -> Said:
    found: dict[str, int] = {name_of(row): _more(row) for row in rows if row["profile"] == "2021"}
    there = {scheme: found[f"{scheme}:2021"] for scheme in ADDED if f"{scheme}:2021" in found}
    if not there:
        return "No cell has one of these schemes with the profile 2021.", _UNTESTED
    ok = all(round(more, -3) == ADDED[scheme] for scheme, more in there.items())
    says = "; ".join(f"{scheme}:2021 {more:+,} B of first flight" for scheme, more in there.items())
    return f"{says}.", "reproduced" if ok else "not reproduced"


def _budget(rows: Sequence[Row]) -> Said:
    some = [row for row in rows if row["profile"] == "2021" and row["crypto_bytes"] <= BUDGET and row["initcwnd"] == 10]
    known = [row for row in some if row["extra_round_trips"] is not None]
    if not known:
        return "No cell has the profile 2021, up to 9 kB, and a window of 10.", _UNTESTED
    late = [row for row in known if row["extra_round_trips"]]
    says = f"{len(known) - len(late)} of {len(known)} such cells with a window of 10 take no further round trip."
    return says, "not reproduced" if late else "reproduced"


def _walls(rows: Sequence[Row]) -> Said:
    """Where the first further round trip begins, on links where it shows."""
    says, verdicts = [], []
    for window in (10, 30):
        some = [row for row in rows if row["initcwnd"] == window and row["mss"] > 1400 and _is_long(row)]
        within = [row["first_flight_bytes"] for row in some if row["extra_round_trips"] == 0]
        beyond = [row["first_flight_bytes"] for row in some if row["extra_round_trips"]]
        if within and beyond:
            says.append(f"window of {window}: between {max(within):,} and {min(beyond):,} B of first flight")
            wall = walls(link_of(some[0]), 1)[0]
            verdicts.append(max(within) <= wall < min(beyond))
        else:
            says.append(f"window of {window}: no cells on both sides")
    said = "; ".join(says)
    verdict: Verdict = _UNTESTED if not verdicts else "reproduced" if all(verdicts) else "not reproduced"
    return f"{said[0].upper()}{said[1:]}.", verdict


def _is_long(row: Row) -> bool:
    """Whether a further round trip shows on the link of a row: most of it is waiting; and its control takes none."""
    network = link_of(row)
    wall = walls(network, 1)[0]
    return network.rtt * network.down / 8 > _LONG * wall and wall >= row["control_flight_bytes"]


def _slowdowns(rows: Sequence[Row]) -> Said:
    found = {size: _by_link(rows, size, 30) for size in FIGURES}
    links = set.intersection(*(set(some) for some in found.values()))
    if not links:
        return f"{_ranges(found)}. No link has cells of both sizes with a window of 30.".lstrip(". "), _UNTESTED

    def off(link: str) -> float:
        return max(abs(found[size][link] - slowdown) for size, slowdown in FIGURES.items())

    best = min(sorted(links), key=off)
    nearest = " and ".join(slower(found[size][best]) for size in FIGURES)
    return f"{_ranges(found)}; nearest: {nearest} at {best}.", "reproduced" if off(best) <= _CLOSE else "not reproduced"


def _guess(rows: Sequence[Row]) -> Said:
    size, low, high = GUESS
    found = {size: _by_link(rows, size, 10)}
    if not found[size]:
        return "No cell adds some 17 kB with a window of 10.", _UNTESTED
    ok = any(low <= slowdown <= high for slowdown in found[size].values())
    return f"{_ranges(found)}.", "reproduced" if ok else "not reproduced"


def _slope(rows: Sequence[Row]) -> Said:
    some = [row for row in rows if _more(row) > 1000 and row["first_flight_bytes"] <= walls(link_of(row), 1)[0]]
    if not some:
        return "No cell adds bytes below the wall.", _UNTESTED
    slopes = [row["slowdown_p50"] / _more(row) * 1e4 for row in some]
    return (
        f"10 kB more cost {_range(slopes)} below the wall ({len(some)} cell{'s' * (len(some) > 1)}): the link decides.",
        _UNTESTED,
    )


def _bumps(_rows: Sequence[Row]) -> Said:
    return "Cells are of one client, so they say nothing about others; fanfold tls probe does.", _UNTESTED


_CHECKS: Mapping[Topic, Callable[[Sequence[Row]], Said]] = {
    "added": _added,
    "budget": _budget,
    "walls": _walls,
    "slowdowns": _slowdowns,
    "guess": _guess,
    "slope": _slope,
    "bumps": _bumps,
}


def _by_link(rows: Sequence[Row], size: int, window: int) -> dict[str, float]:
    """The slowdown of the cell that adds about so many bytes, by its link; the nearest one where there are several."""
    found: dict[str, float] = {}
    some = [row for row in rows if row["initcwnd"] == window and abs(_more(row) / size - 1) <= _NEAR]
    for row in sorted(some, key=lambda row: abs(_more(row) - size), reverse=True):
        found[f"{row['rtt_ms']:g} ms, {row['down_mbit']:g} Mbit/s"] = row["slowdown_p50"]
    return found


def _ranges(found: Mapping[int, Mapping[str, float]]) -> str:
    """17 kB more: +1% to +68% on 4 links"""
    return "; ".join(
        f"{size // 1000} kB more: {_range([*by_link.values()])} on {len(by_link)} link{'s' * (len(by_link) > 1)}"
        for size, by_link in found.items()
        if by_link
    )


def _range(values: Sequence[Any]) -> str:
    low, high = slower(min(values)), slower(max(values))
    return low if low == high else f"{low} to {high}"
