"""Coverage of whole logs, from the rows of their units."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from fanfold.evidence.eventlog.coverage import merged

_SUMS = ("records", "known", "undecoded", "chunks", "bad_chunks", "empty_chunks", "renumbered", "backwards")
NAMES = ("image", "volume", "path", "origin")
"""The columns that identify a log."""


def logs(units: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per log, sorted by name. A large log has several units."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for unit in units:
        if unit["kind"] in ("log", "carve"):
            found.setdefault(tuple(unit[name] or "" for name in NAMES), []).append(unit)
    for _, some in sorted(found.items()):
        yield _whole(some)


def _whole(units: list[dict[str, Any]]) -> dict[str, Any]:
    """A log, from all of its units."""
    log: dict[str, Any] = {name: units[0][name] for name in (*NAMES, "dirty", "header_chunks")}
    log |= {name: sum(unit.get(name) or 0 for unit in units) for name in _SUMS}
    log["kind"] = units[0]["kind"]
    # A full log starts again at its beginning, so a gap in one unit may be filled by another.
    ranges = merged((one["first"], one["last"]) for unit in units for one in unit["id_ranges"])
    gaps = [{"after": one[1], "before": other[0]} for one, other in pairwise(ranges)]
    if log["origin"] == "shadow":  # what newer logs have is left out of it
        gaps = []
    channels = {unit["channel"] for unit in units if unit["records"]}
    times = [unit[name] for unit in units for name in ("first_time", "last_time") if unit[name]]
    return log | {
        "channel": channels.pop() if len(channels) == 1 else None,
        "first_record_id": ranges[0][0] if ranges else None,
        "last_record_id": ranges[-1][1] if ranges else None,
        "newest_time": max(units, key=_newest)["newest_time"],
        "written_first": min((unit["written_first"] for unit in units if unit.get("renumbered")), default=None),
        "written_last": max((unit["written_last"] for unit in units if unit.get("renumbered")), default=None),
        "first_time": min(times, default=None),
        "last_time": max(times, default=None),
        "gaps": gaps,
        "header_stale": log["header_chunks"] not in (None, log["chunks"] - log["empty_chunks"]),
        "problem": next((unit["problem"] for unit in units if unit["problem"]), None),
    }


def _newest(unit: dict[str, Any]) -> tuple[bool, int]:
    """Orders units by the ids of their newest records; those without a time come first."""
    return bool(unit["newest_time"]), unit["last_record_id"] or 0


def is_renumbered(log: Mapping[str, Any]) -> bool:
    """Whether the records of a log had other ids where they were written, as those of an export."""
    return bool(log.get("renumbered"))


def is_part(log: Mapping[str, Any]) -> bool:
    """Whether a log has only some records of another one: it was exported with a filter, or forwarded."""
    if not is_renumbered(log):
        return False
    span = log["written_last"] - log["written_first"] + 1
    return bool(log["renumbered"] < log["records"] or span > log["records"] or log["records"] == 1)
