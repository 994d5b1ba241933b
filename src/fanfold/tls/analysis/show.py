"""Prints an analysis."""

from pathlib import Path

from fanfold.cli import show
from fanfold.tls.analysis.results import Analysis
from fanfold.tls.analysis.words import sentences, table, warning


def analysis(found: Analysis, as_json: bool, out: Path | None) -> None:
    """An analysis as JSON, or as a table of its bins and sentences; and where its plots are."""
    if as_json:
        show.put_json(found.to_json())
    else:
        _print(found)
    if text := warning(found):
        show.note(f"Warning: {text}")
    if out:
        show.note(f"The plots are in {out}, and with the numbers in {out / 'index.html'}.")


def _print(found: Analysis) -> None:
    heads, rows = table(found)
    if rows:
        spare = [head for head in reversed(heads[2:]) if head.startswith(("excess", "both", "control p", "live p"))]
        show.fitted(heads, rows, numbers=range(1, len(heads)), spare=[*spare, *_wide(heads)])
        show.out.print()
    for sentence in sentences(found):
        show.out.print(show.harmless(sentence), soft_wrap=True)


def _wide(heads: list[str]) -> list[str]:
    """Further columns to leave out on a very narrow terminal, but never the slowdown at the first quantile."""
    return [head for head in reversed(heads[5:]) if head.startswith(("slowdown", "control missing"))]
