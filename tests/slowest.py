"""Write the table of the slowest tests into CONTRIBUTING.md, from the output of a test run: `make slowest`."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
PLACE = re.compile(r"(?<=<!-- slowest -->\n).*?(?=<!-- end -->)", re.S)
LINE = re.compile(r"([\d.]+)s (?:call|setup|teardown) +(tests/\S.*)")


def seconds(lines: Iterable[str]) -> Counter[str]:
    """Test -> seconds with its fixtures, from the lines of `pytest --durations`."""
    found: Counter[str] = Counter()
    for line in lines:
        if match := LINE.match(line):
            name, _, group = match[2].strip().rpartition("@")  # pytest-xdist appends the group
            found[name if name and "]" not in group else match[2].strip()] += float(match[1])  # type: ignore[assignment]
    return found


def table(found: Counter[str], count: int = 20) -> str:
    """The table of slowest tests in Markdown."""
    rows = [f"| {round(took)} | `{name.removeprefix('tests/')}` |" for name, took in found.most_common(count)]
    return "\n".join(["| seconds | test |", "|---:|---|", *rows, ""])


if __name__ == "__main__":
    if not (found := seconds(sys.stdin)):
        sys.exit("No durations: give the output of pytest --durations=60 on stdin.")
    PAGE.write_text(PLACE.sub(lambda _match: table(found), PAGE.read_text()))
    sys.stdout.write(table(found))
