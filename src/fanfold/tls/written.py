"""TOML files that people write: read, checked against a pydantic type, and blamed by the line."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fanfold.errors import UsageError, problem_of

_Kind = TypeVar("_Kind")

LARGEST = 16 << 20
"""Bytes of a file that somebody has written."""


def path_of(address: str) -> Path:
    """The path of a file that a user names. Raises UsageError for a URL."""
    from fanfold.storage import is_url  # a lab, which imports this module, must have no threads when it starts

    if is_url(address):
        raise UsageError(f"{address} is not a file on this machine. Copy it here first.")
    return Path(address)


def content_of(file: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file, and its text. Raises UsageError for a file that cannot be read, or is not TOML."""
    try:
        if file.exists() and not file.is_file():  # a device may never end
            raise UsageError(f"Cannot read {file}: it is not a file.")
        if (size := file.stat().st_size) > LARGEST:
            raise UsageError(
                f"{file} has {size / 1e6:,.0f} MB, and at most {LARGEST / 1e6:,.0f} MB are read of such a file."
            )
        text = file.read_text(encoding="utf-8-sig")  # editors of Windows begin files with a mark
        return tomllib.loads(text), text
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not TOML, which is text in UTF-8.") from error
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {str(error).partition('; use sys.')[0]}.") from error
    except RecursionError as error:
        raise UsageError(f"Cannot read {file}: its lists are nested too deeply.") from error


def tables_of(content: dict[str, Any], name: str, file: Path, text: str) -> list[Any]:
    """The tables of a name that a file may have several of. Raises UsageError for anything but [[name]]."""
    found = content.get(name, [])
    if not (isinstance(found, list) and all(isinstance(one, dict) for one in found)):
        raise UsageError(f"{file}, line {line_of(text, (name,))}: write [[{name}]], with two brackets.")
    return found


def checked(kind: type[_Kind], content: Any, file: Path, text: str) -> _Kind:
    """The content of a file as a value of this type. Raises UsageError that names the line."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        line = line_of(text, error.errors(include_url=False)[0]["loc"])
        raise UsageError(f"{file}, line {line}: {problem_of(error)}.") from error


def line_of(text: str, place: Sequence[int | str]) -> int:
    """The line, from 1 on, of a value in a TOML file, given where it lies: `("scheme", 3, "sig")`; or the nearest one.

    Only a guide for people: tables are found by their header, and keys by their name at the beginning of a line.
    """
    lines, at = text.splitlines(), 0
    names = [part for part in place if isinstance(part, str)]
    number = next((part for part in place if isinstance(part, int)), 0)
    headers = _headers(lines, names)
    if headers:
        at = headers[min(number, len(headers) - 1)]
    for name in reversed(names):
        for index in range(at, len(lines)):
            if index > at and lines[index].lstrip().startswith("["):
                break
            if re.match(rf'\s*"?{re.escape(name)}"?\s*=', lines[index]):
                return index + 1
    return at + 1


def _headers(lines: Sequence[str], names: Sequence[str]) -> list[int]:
    """The lines of the headers of a table, by the longest name that there is: [profile.2021] before [profile]."""
    for depth in range(len(names), 0, -1):
        name = r"\s*\.\s*".join(rf'"?{re.escape(part)}"?' for part in names[:depth])
        found = [index for index, line in enumerate(lines) if re.match(rf"\s*\[\[?\s*{name}\s*\]", line)]
        if found:
            return found
    return []
