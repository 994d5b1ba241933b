"""What the rows of a table may be filtered by: its columns, the frequent values of some, and what the pictures show."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fanfold.images.search.where import filterable, kind_of
from fanfold.images.viewer.tables import Version, quoted
from fanfold.images.words.labels import Labels
from fanfold.images.words.vocabulary import names

SHOWN = 12
"""Values of a column."""
LOOKS, FOLDER = "looks like", "folder"
"""The facets that are not columns: the best label, and what is before a key's first slash."""
_DISTINCT = 1001  # a column with more different values names each row, rather than sorts them
_NAMES = {"key", "uri", "version"}

Facet = dict[str, Any]
"""`name`, and `values`: each with its `count` and what chooses it, the condition `where` or the `label`."""


def columns(version: Version) -> list[str]:
    """The columns that a condition may use, each with its kind."""
    return [f"{field.name} ({kind_of(field.type)})" for field in filterable(version.wide.schema)]


def facets(version: Version, labels: Labels | None) -> list[Facet]:
    """Labels and folders, and the columns of text or truth that have few different values; the most frequent first."""
    kinds = {field.name: kind_of(field.type) for field in filterable(version.wide.schema) if field.name not in _NAMES}
    texts = [name for name, kind in kinds.items() if kind in ("text", "true or false")]
    found = version.read(["key", *texts], scan_in_order=True)
    made = [_facet(LOOKS, _best(labels), lambda label: {"label": label})] if labels else []
    made.append(_facet(FOLDER, _folders(found["key"]), lambda folder: {"where": f"starts_with(key, {quoted(folder)})"}))
    made += [_facet(name, found[name], _is(name, kinds[name])) for name in texts]
    return [facet for facet in made if len(facet["values"]) > 1]


def groups(version: Version, labels: Labels | None, facet: Facet) -> npt.NDArray[np.uint8]:
    """The number of each row's value among those of a facet, from 1; 0 for any other. uint8[rows]"""
    name = facet["name"]
    if name == LOOKS and labels:
        values = _best(labels)
    else:
        column = "key" if name == FOLDER else name
        values = version.read([column], scan_in_order=True)[column]
        values = _folders(values) if name == FOLDER else values
    shown = pa.array([one["value"] for one in facet["values"]], pa.string())
    found: Any = pc.index_in(pc.cast(values, pa.string()), shown)
    numbers: npt.NDArray[np.uint8] = pc.add(pc.fill_null(found, -1), 1).to_numpy().astype(np.uint8)
    return numbers


def _best(labels: Labels) -> Any:
    """The best label of each row, null where it has none."""
    best: Any = pa.array(labels.best)
    return pa.array([*names(), None]).take(best)


def _folders(keys: Any) -> Any:
    """What is before the first slash of each key; null for a key without one."""
    found = pc.extract_regex(keys, pattern=r"^(?P<folder>[^/]+/)")
    return pc.struct_field(found, "folder")


def _facet(name: str, values: Any, choose: Callable[[str], dict[str, str]]) -> Facet:
    counted: Any = pc.value_counts(pc.cast(values, pa.string()))
    if len(counted) > _DISTINCT:
        return {"name": name, "values": []}
    pairs = [(one["values"], one["counts"]) for one in counted.to_pylist() if one["values"] is not None]
    most = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:SHOWN]
    return {"name": name, "values": [{"value": value, "count": count, **choose(value)} for value, count in most]}


def _is(name: str, kind: str) -> Callable[[str], dict[str, str]]:
    column = name if name.isidentifier() and name.islower() else f"`{name}`"
    if kind == "text":
        return lambda value: {"where": f"{column} = {quoted(value)}"}
    return lambda value: {"where": column if value == "true" else f"NOT {column}"}
