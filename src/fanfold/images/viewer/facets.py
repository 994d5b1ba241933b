"""What the rows of a table may be filtered by: its columns, and the frequent values of some."""

from typing import Any

import pyarrow.compute as pc

from fanfold.images.search.where import filterable, kind_of
from fanfold.images.viewer.tables import Version

SHOWN = 12
"""Values of a column."""
_DISTINCT = 1000  # a column with more different values names each row, rather than sorts them
_NAMES = {"key", "uri", "version"}

Facet = dict[str, Any]
"""`name`, and `values`: each with its `count` and the condition that chooses it, `where`."""


def columns(version: Version) -> list[str]:
    """The columns that a condition may use, each with its kind."""
    return [f"{field.name} ({kind_of(field.type)})" for field in filterable(version.wide.schema)]


def facets(version: Version) -> list[Facet]:
    """The folders, and the columns of text or truth that have few different values; the most frequent first."""
    fields = [field for field in filterable(version.wide.schema) if field.name not in _NAMES]
    texts = [field.name for field in fields if kind_of(field.type) in ("text", "true or false")]
    found = version.read(["key", *texts])
    facets = [_facet("folder", _folders(found["key"]), _in_folder)]
    facets += [_facet(name, found[name], lambda value, name=name: _is(name, value)) for name in texts]
    return [facet for facet in facets if facet and len(facet["values"]) > 1]


def _folders(keys: Any) -> Any:
    """What is before the first slash of each key; null for a key without one."""
    found = pc.extract_regex(keys, pattern=r"^(?P<folder>[^/]+/)")
    return pc.struct_field(found, "folder")


def _facet(name: str, values: Any, condition: Any) -> Facet | None:
    counted: Any = pc.value_counts(values)
    if len(counted) > _DISTINCT:
        return None
    most = sorted(counted.to_pylist(), key=lambda one: (-one["counts"], str(one["values"])))[:SHOWN]
    shown = [
        {"value": str(one["values"]), "count": one["counts"], "where": condition(one["values"])}
        for one in most
        if one["values"] is not None
    ]
    return {"name": name, "values": shown}


def _in_folder(folder: str) -> str:
    return f"starts_with(key, {_text(folder)})"


def _is(name: str, value: str | bool) -> str:
    column = name if name.isidentifier() and name.islower() else f"`{name}`"
    if isinstance(value, bool):
        return column if value else f"NOT {column}"
    return f"{column} = {_text(value)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
