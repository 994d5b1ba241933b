"""The values of a record by their names."""

from collections.abc import Mapping
from typing import Any

import msgspec


def data_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a record, of a row of the table of events; none if it could not be decoded."""
    return flattened(msgspec.json.decode(row["data"])) if row["data"] else {}


def values_in_line(data: Mapping[str, Any]) -> str:
    """The values of a record in one line, without empty ones: TargetUserName=emsadmin LogonType=2."""
    return " ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", "-"))


def flattened(data: Any) -> dict[str, Any]:
    """The values of a record by their names, those of a nested element too; unnamed ones are called 1, 2 and so on."""
    if isinstance(data, list):
        return {str(number): value for number, value in enumerate(data, 1)}
    if not isinstance(data, dict):
        return {"1": data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name == "#attributes":
            continue
        if name == "Data" and isinstance(value, dict):
            text = value.get("#text")
            found |= flattened(text if isinstance(text, list) else [text])
        elif isinstance(value, dict):
            found |= flattened(value)
        else:
            found[name] = value
    return found
