"""What a page asks about one version of a table, and the answers, as JSON will have them."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from fanfold.errors import UsageError
from fanfold.images.search import vector_index
from fanfold.images.search.neighbours import nearest
from fanfold.images.search.rows import Indices, Vectors
from fanfold.images.search.where import rows_where
from fanfold.images.viewer.tables import Version

MOST_K = 500
MOST_ROWS = 500
MOST_TEXT = 1000
"""Characters of a question."""


@dataclass(frozen=True)
class Selection:
    """Some rows of a version, in an order."""

    rows: Indices
    scores: npt.NDArray[np.float32] | None = None
    about: Mapping[str, Any] | None = None
    """What was understood, for the page."""


def listed(version: Version, start: int, count: int) -> list[dict[str, Any]]:
    """Rows `start` to `start + count` in the table's order."""
    return version.at(range(start, min(start + count, version.rows)), ["key"])


def selected(version: Version, selection: Selection, start: int, count: int) -> list[dict[str, Any]]:
    """The same of a selection, with scores if it has some."""
    found = version.at(selection.rows[start : start + count].tolist(), ["key"])
    if selection.scores is not None:
        for row, score in zip(found, selection.scores[start : start + count].tolist(), strict=True):
            row["score"] = round(score, 4)
    return found


def chosen(version: Version, text: str | None, where: str | None) -> Selection:
    """The rows whose key contains a text, and that meet a condition. Raises UsageError for one that cannot be used."""
    rows = None if where is None else rows_where(version.wide, where)
    if text is None:
        return Selection(np.arange(version.rows) if rows is None else rows)
    named = _named_like(version, text)
    return Selection(named if rows is None else np.intersect1d(named, rows, assume_unique=True))


def _named_like(version: Version, text: str) -> Indices:
    """In small letters or capitals."""
    quoted = text.lower().replace("'", "''")
    found = version.read([], filter=f"contains(lower(key), '{quoted}')", scan_in_order=True)
    rows: Indices = found["_rowoffset"].to_numpy().astype(np.int64)
    return rows


def index_due(version: Version) -> str:
    """The seconds that it would take to make searches quick, in words; empty if they are."""
    what = vector_index.due(version.dataset)
    return f"{vector_index.needs(version.dataset, what).seconds:.0f} s" if what else ""


def facts(version: Version, row: int) -> dict[str, Any] | None:
    """What the table knows about a row, in the order of its columns; None for a row that does not exist."""
    found = version.at([row], version.facts)
    return {name: plain(value) for name, value in found[0].items()} if found else None


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value[:64]).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def vector_of(version: Version, row: int) -> Vectors | None:
    """A row's vector; None for a row that does not exist."""
    found = version.at([row], ["vector"])
    return np.asarray(found[0]["vector"], np.float32) if found else None


def near(version: Version, vector: Vectors, k: int, where: str | None = None) -> list[dict[str, Any]]:
    """The rows nearest to a vector, with their cosines. Raises UsageError for a vector of another model."""
    hits = nearest(version.dataset if where is None else version.wide, vector, k, where=where)
    rows = version.of([hit.key for hit in hits])
    return [{"row": rows[hit.key], "key": hit.key, "score": round(hit.cosine, 4)} for hit in hits if hit.key in rows]


def grouped(version: Version, groups: Sequence[Any]) -> list[dict[str, Any]]:
    """Near-duplicates with what tells them apart: their size in pixels and bytes."""
    rows = version.of([key for group in groups for key in group.keys])
    columns = [name for name in ("key", "width", "height", "bytes", "format") if name in version.facts]
    known = {row["row"]: row for row in version.at(list(rows.values()), columns)}
    return [
        {"least": round(group.least, 4), "rows": [known[rows[key]] for key in group.keys if key in rows]}
        for group in groups
    ]


def check_text(text: str) -> str:
    """A question's text. Raises UsageError for one that is empty or too long."""
    text = " ".join(text.split())
    if not text:
        raise UsageError("Type something to search for.")
    if len(text) > MOST_TEXT:
        raise UsageError(f"A search takes at most {MOST_TEXT:,} characters, not {len(text):,}.")
    return text
