"""Keep results in benches/RESULTS.md, newest first, and make the README's table from them.

    python benches/results.py        write the newest results into README.md, between the markers

An entry of RESULTS.md has a part between <!-- readme --> and <!-- /readme -->. The README shows the newest such
part of every bench between <!-- bench --> and <!-- /bench -->.
"""

import re
from collections.abc import Iterable, Sequence

from measure import ROOT, command_line, commit, machine, today

RESULTS = ROOT / "benches" / "RESULTS.md"
README = ROOT / "README.md"
BENCHES = (
    *("images", "precision", "first", "rerun", "scale"),
    *("search", "duplicates", "words", "map", "view"),
    *("estimate", "planning", "evidence", "tls", "tls_serve"),
)
"""The benches in the README's order."""

_HEAD = """\
# Results

What the benchmarks said, newest first. Written by the benchmarks; see each file's first lines for what it measures.
"""


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with the first column left-aligned and numbers right-aligned."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def record(bench: str, readme: str, rest: str, notes: str = "") -> str:
    """Put an entry at the top of RESULTS.md; return it."""
    told = f"`{command_line()}`  \n{machine()}; fanfold {commit()}" + (f"; {notes}" if notes else "")
    entry = f"## {bench}, {today()}\n\n{told}\n\n<!-- readme -->\n{readme}\n<!-- /readme -->\n\n{rest}".rstrip() + "\n"
    kept = RESULTS.read_text().removeprefix(_HEAD) if RESULTS.exists() else ""
    RESULTS.write_text(f"{_HEAD}\n{entry}{kept}")
    return entry


def newest() -> str:
    """The newest README part of every bench, one after the other, with the commands that made them."""
    entries = RESULTS.read_text().split("\n## ")[1:]
    parts = [next((part for entry in entries if (part := _part(entry, bench))), "") for bench in BENCHES]
    return "\n\n".join(filter(None, parts))


def _part(entry: str, bench: str) -> str:
    if not entry.startswith(f"{bench}, "):
        return ""
    found = re.search(r"<!-- readme -->\n(.*?)\n<!-- /readme -->", entry, re.DOTALL)
    told = entry.split("\n")[2:4]
    where = told[1].split("; ")[0]
    return f"{found[1]}\n\n<sub>{told[0].strip()} on {where}, {entry[len(bench) + 2 :][:10]}</sub>" if found else ""


def update_readme() -> None:
    """Write the newest results between the README's markers."""
    text = README.read_text()
    found = re.search(r"(<!-- bench -->\n).*?(<!-- /bench -->)", text, re.DOTALL)
    if not found:
        raise SystemExit("README.md has no lines <!-- bench --> and <!-- /bench --> to write between.")
    README.write_text(f"{text[: found.end(1)]}{newest()}\n{text[found.start(2) :]}")


if __name__ == "__main__":
    update_readme()
