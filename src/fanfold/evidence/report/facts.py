"""What rules ask of facts, which are from other files than logs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_OF_USER = "ntuser.dat"


def file_of(fact: Mapping[str, Any]) -> str:
    """Where a fact is from: the file, and the place in it."""
    name = short_file(fact["path"] or "")
    return f"{name}: {fact['source']}" if fact["source"] else name


def short_file(path: str) -> str:
    """The name of a file; that of a user's hive with the user: emsadmin/NTUSER.DAT."""
    user = user_of(path)
    name = path.rpartition("/")[2]
    return f"{user}/{name}" if user else name


def user_of(path: str) -> str:
    """The name of the folder that a user's hive lies in, which is the user's, as a rule. Empty for other files."""
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[2] if name.lower() == _OF_USER else ""


def moment(fact: Mapping[str, Any], name: str) -> datetime | None:
    """A time among the values of a fact."""
    value = fact["value"].get(name)
    return datetime.fromisoformat(value) if value else None
