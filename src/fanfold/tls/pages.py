"""Pages of the job: one HTML file, without script, with its plots in it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import fanfold
from fanfold.errors import UsageError
from fanfold.tls import palette

_STYLE = (
    f"""
{palette.style()}
"""
    """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
p { margin: .25rem 0; } .warning { color: var(--alarm); font-weight: 600; }
figure { margin: 1.5rem 0; break-inside: avoid; }
.plot { overflow-x: auto; } svg { display: block; width: 100%; min-width: 30rem; height: auto; }
.plot.narrow { display: none; } .plot.narrow svg { min-width: 0; }
@media (max-width: 45rem) { .plot.narrow { display: block; } .plot.narrow + .plot { display: none; } }
dt { font-weight: 600; margin-top: .75rem; } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
footer { margin-top: 2.5rem; color: var(--faint); font-size: .875rem; }
"""
)


NARROW = "-narrow"
"""What the name of a plot ends with that is for narrow screens."""


def page(title: str, content: str, footer: str = "") -> str:
    """A page with this content, which is HTML; title and footer are text."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{content}"
        f"<footer><p>{escape(footer)}</p><p>fanfold {fanfold.__version__}</p></footer></body></html>\n"
    )


def figures(drawn: Mapping[str, str], says: Mapping[str, str]) -> str:
    """Plots, as SVG by their names, with what each shows; with those for narrow screens, if there are some."""
    return "".join(
        f'<figure role="img" aria-label="{escape(says[name])}">{_plot(drawn.get(name + NARROW), " narrow")}'
        f"{_plot(svg)}<figcaption>{escape(says[name])}</figcaption></figure>"
        for name, svg in drawn.items()
        if name in says
    )


def _plot(svg: str | None, more: str = "") -> str:
    return f'<div class="plot{more}">{svg}</div>' if svg else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, which is scrolled if it is too wide."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def made(folder: Path) -> Path:
    """A folder to write to. Raises UsageError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the folder {folder}: {error.strerror}.") from error
    return folder
