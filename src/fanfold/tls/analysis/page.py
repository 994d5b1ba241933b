"""Writes an analysis to a folder: plots as SVG and PNG, and one HTML file without script that has all of it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from fanfold.errors import StorageError
from fanfold.tls import pages, plots
from fanfold.tls.analysis.draw import NARROW, WIDE, figures
from fanfold.tls.analysis.results import Analysis
from fanfold.tls.analysis.words import sentences, table, warning

_SAYS = {
    "missing": "The share of connections that went missing, by the number of dummy certificates. Bands are intervals "
    "of 95 %; a dotted line is where more live connections go missing above it.",
    "times": "The time of a handshake, by the bytes of dummy certificates; every prefix counts the same. A dotted line "
    "is where the first flight is larger than what the window lets out, so that it takes another round trip.",
    "slowdown": "How much slower handshakes are than their controls, by the bytes of dummy certificates.",
    "model": "How much slower, over what the model says: 1 is as modelled. Only one number is fitted: the bytes that "
    "the link carries in a round trip.",
}


def write(analysis: Analysis, folder: Path) -> None:
    """Write plots and a page to a folder that is there. Raises StorageError."""
    try:
        drawn = {name: plots.save(draw(analysis, WIDE), folder, name, _SAYS[name]) for name, draw in figures().items()}
        for name, draw in figures().items():
            drawn[name + pages.NARROW] = plots.as_svg(draw(analysis, NARROW), _SAYS[name])
        (folder / "index.html").write_text(_page(analysis, plots.inline(drawn)), "utf-8", "backslashreplace")
    except OSError as error:
        raise StorageError(f"Cannot write to {folder}: {error.strerror}.") from error


def _page(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """The page, with the SVG of each plot in it."""
    warned = f'<p class="warning">{escape(text)}</p>' if (text := warning(analysis)) else ""
    says = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(analysis))
    numbers = pages.table(*table(analysis))
    content = f"{warned}{says}{pages.figures(drawn, _SAYS)}<h2>The numbers</h2>{numbers}{_splits(analysis)}"
    return pages.page(f"Handshakes of {analysis.source}", content, _footer(analysis))


def _footer(analysis: Analysis) -> str:
    """How the numbers were made."""
    compared = "the quantile of the ratios of" if analysis.paired else "the ratio of quantiles over"
    return (
        "Every prefix (/24, or /48 of IPv6) counts the same. Quantiles are times that were measured. Intervals are of "
        f"95 %: of times and slowdowns, by {analysis.draws:,} resamples of the prefixes (seed {analysis.seed}); of "
        "rates, Wilson's, wider where connections of a prefix go missing together; of differences, Newcombe's. "
        f"Slowdown: {compared} pairs of which both times are known. A dummy certificate has "
        f"{analysis.dummy_bytes:,} bytes."
    )


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
    return f"<h2>Which sizes hurt</h2>{pages.table(heads, rows)}"
