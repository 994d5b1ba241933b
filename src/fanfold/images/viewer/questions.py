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
from fanfold.images.search.neighbours import nearest_rows
from fanfold.images.search.rows import Indices, Vectors
from fanfold.images.search.where import rows_where
from fanfold.images.viewer.tables import Version, quoted

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


def listed(version: Version, some: Selection | None, start: int, count: int) -> list[dict[str, Any]]:
    """Rows `start` to `start + count` of a selection, with scores if it has some; without one, of the whole table."""
    end = start + count
    rows = range(start, min(end, version.rows)) if some is None else some.rows[start:end].tolist()
    found = version.at(rows, ["key"])
    if some and some.scores is not None:
        for row, score in zip(found, some.scores[start:end].tolist(), strict=True):
            row["score"] = round(score, 4)
    return found


def meeting(version: Version, where: str) -> Indices:
    """The rows that meet a condition, ascending. Raises UsageError for one that cannot be used."""
    return rows_where(version.wide, where)


def named_like(version: Version, text: str) -> Indices:
    """The rows whose key contains a text, in small letters or capitals, ascending."""
    found = version.read([], filter=f"contains(lower(key), {quoted(text.lower())})", scan_in_order=True)
    rows: Indices = found["_rowoffset"].to_numpy().astype(np.int64)
    return rows


def index_due(version: Version) -> dict[str, str] | None:
    """The seconds that it would take to make searches quick, in words, and what to type; None if they are."""
    what = vector_index.due(version.dataset)
    if not what:
        return None
    seconds = vector_index.needs(version.dataset, what).seconds
    return {"takes": f"{seconds:.0f} s", "type": version.command("index")}


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


def near(
    version: Version, vector: Vectors, k: int, where: str | None = None, among: Indices | None = None
) -> list[dict[str, Any]]:
    """The rows nearest to a vector, with their cosines: of those that meet a condition, or of some.

    Raises UsageError for a vector of another model.
    """
    found = nearest_rows(version.dataset if where is None else version.wide, vector, k, where=where, among=among)
    return listed(version, Selection(found.rows, found.cosines), 0, k)


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
