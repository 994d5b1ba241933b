"""A file of labels: a text with one on each line."""

import re
from pathlib import Path
from typing import NamedTuple

from fanfold.errors import UsageError
from fanfold.images.columns.files import check_text, readable

MOST = 10_000
"""Labels of a file. A text encoder takes some hundredths of a second for each."""
LONGEST = 200
"""Characters of a label."""
_BYTES = 1 << 22  # MOST labels of some hundred bytes, and no more of a file that may never end


class Labels(NamedTuple):
    """What a file says."""

    labels: list[str]
    """In the order of the file, each once."""
    repeated: int
    """Lines that repeat an earlier one, whatever their capitals."""


def read(path: Path) -> Labels:
    """The labels of a file in UTF-8; empty lines do not count. Raises UsageError: it says what is wrong, and where."""
    with readable(path), path.open("rb") as file:
        content = file.read(_BYTES + 1)
    check_text(path, content)
    if len(content) > _BYTES:
        raise UsageError(f"{path} has more than {MOST:,} labels, or is not a list of labels at all. {_NEEDED}")
    try:
        lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path} is not in UTF-8: see line {line:,}. Save it as UTF-8.") from None
    found: dict[str, str] = {}
    labels = [(number, label) for number, line in enumerate(lines, 1) if (label := " ".join(line.split()))]
    for number, label in labels:
        _check(path, number, label)
        found.setdefault(label.casefold(), label)
    if not found:
        raise UsageError(f"{path} is empty. {_NEEDED}")
    if len(found) > MOST:
        raise UsageError(f"{path} has {len(found):,} labels, but at most {MOST:,} can be compared.")
    return Labels(list(found.values()), len(labels) - len(found))


_NEEDED = "A file of labels has one on each line."


def _check(path: Path, number: int, label: str) -> None:
    """Raises UsageError for a line that is not a label."""
    if not label.isprintable():
        raise UsageError(f"{path} is not a text file: see line {number:,}. {_NEEDED}")
    if len(label) > LONGEST:
        raise UsageError(
            f"Line {number:,} of {path} has {len(label):,} characters, but a label at most {LONGEST}. {_NEEDED}"
        )
