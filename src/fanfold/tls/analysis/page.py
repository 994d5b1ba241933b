"""Writes an analysis to a folder: plots as SVG and PNG, and one HTML file without script that has all of it."""

from collections.abc import Iterator, Sequence
from html import escape
from io import StringIO
from pathlib import Path

import fanfold
from fanfold.errors import StorageError, UsageError
from fanfold.tls.analysis.draw import figures, style
from fanfold.tls.analysis.results import Analysis
from fanfold.tls.analysis.words import sentences, table, warning

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; color: #1c2024; background: #fff;
  font: 1rem/1.5 system-ui, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
p { margin: .25rem 0; } .warning { color: #a02020; font-weight: 600; }
figure { margin: 1.5rem 0; break-inside: avoid; } svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
footer { margin-top: 2.5rem; color: #5c6670; font-size: .875rem; }
"""
_DPI = 150
_SAYS = {
    "missing": "The share of connections that went missing, by the number of dummy certificates",
    "times": "The time of a handshake, by the bytes of dummy certificates",
    "slowdown": "The slowdown against the control, by the bytes of dummy certificates",
    "model": "The measured slowdown over that of the model, by the bytes of dummy certificates",
}


def made(folder: Path) -> Path:
    """A folder for plots. Raises UsageError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the folder {folder}: {error.strerror}.") from error
    return folder


def write(analysis: Analysis, folder: Path) -> None:
    """Write plots and a page to a folder that is there. Raises StorageError."""
    try:
        with style():
            drawn = dict(_drawn(analysis, folder))
        (folder / "index.html").write_text(page(analysis, drawn), "utf-8", "backslashreplace")
    except OSError as error:
        raise StorageError(f"Cannot write to {folder}: {error.strerror}.") from error


def _drawn(analysis: Analysis, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the plots. Yields the name and the SVG of each."""
    for name, draw in figures().items():
        figure = draw(analysis)
        figure.savefig(folder / f"{name}.png", dpi=_DPI)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": _SAYS[name]})
        (folder / f"{name}.svg").write_text(text.getvalue(), "utf-8")
        yield name, text.getvalue()


def page(analysis: Analysis, drawn: dict[str, str]) -> str:
    """The page, with the SVG of each plot in it."""
    title = f"Handshakes of {escape(analysis.source)}"
    says = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(analysis))
    warned = f'<p class="warning">{escape(text)}</p>' if (text := warning(analysis)) else ""
    plots = "".join(
        f'<figure role="img" aria-label="{escape(_SAYS[name])}">{_inline(name, svg)}</figure>'
        for name, svg in drawn.items()
    )
    heads, rows = table(analysis)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{warned}{says}{plots}<h2>The numbers</h2>{_table(heads, rows)}{_splits(analysis)}"
        f"<footer><p>Every prefix (/24, or /48 of IPv6) counts the same. Quantiles are times that were measured. "
        f"Intervals are of 95 %: of times and slowdowns, by {analysis.draws:,} resamples of the prefixes (seed "
        f"{analysis.seed}); of rates, Wilson's; of differences, Newcombe's. Slowdown: "
        f"{'the quantile of the ratios of' if analysis.paired else 'the ratio of quantiles over'} pairs of which both "
        f"times are known. A dummy certificate has {analysis.dummy_bytes:,} bytes.</p>"
        f"<p>fanfold {fanfold.__version__}</p></footer></body></html>\n"
    )


def _inline(name: str, svg: str) -> str:
    """An SVG as part of a page, on which each id must be used once."""
    inner = svg[svg.index("<svg") :]
    for mark in ('id="', "url(#", 'href="#'):
        inner = inner.replace(mark, f"{mark}{name}-")
    return inner


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _splits(analysis: Analysis) -> str:
    """The splits that were found, as a table."""
    if not analysis.splits:
        return ""
    heads = ("missing above", "more", "95 %", "p", "prefixes that lose all above, none up to it")
    rows = [
        (
            str(one.found.above),
            f"{100 * one.found.more.value:.2f} %",
            f"{100 * one.found.more.low:.2f} to {100 * one.found.more.high:.2f}",
            f"{one.found.p:.3f}",
            f"{one.prefixes.lose_all:,} of {one.prefixes.of:,}",
        )
        for one in analysis.splits
    ]
    return f"<h2>Which sizes hurt</h2>{_table(heads, rows)}"
