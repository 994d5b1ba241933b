"""How plots of the job look. Drawn with matplotlib, which the extra `tls` brings. Each line has its name at its end."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from math import inf
from pathlib import Path
from typing import Any

from fanfold.errors import MissingExtra
from fanfold.tls.palette import BLUE, FAINT, GREEN, GRID, INK, ORANGE, PAPER, PURPLE, themed

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    if error.name != "matplotlib":
        raise  # matplotlib is there, and lacks something
    raise MissingExtra("tls", "Drawing plots") from error

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titlepad": 22,  # points: room for the names of walls
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fanfold",  # the same data give the same file
}
_GAP = 0.065  # of the height, between two names
_DPI = 150

Name = tuple[float, str, str]
"""Where a line ends, its name, and its colour."""


@contextmanager
def _styled() -> Iterator[None]:
    """Draw in our style. Characters that the font lacks are boxes in a PNG, without a warning; browsers have others."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        yield


@contextmanager
def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of so many inches with its axes, row by row."""
    with _styled():
        made = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
        axes = made.subplots(rows, columns, squeeze=False)
        yield made, [one for row in axes for one in row]


def name_ends(axes: Axes, names: Sequence[Name]) -> None:
    """Write the name of each line at its end, one above the other where they would overlap."""
    right = axes.get_xlim()[1]
    bottom, top = axes.get_ylim()
    gap = _GAP * (top - bottom)
    known = sorted(names, key=lambda name: name[0])
    places: list[float] = []
    for y, _, _ in known:
        places.append(max(y, (places[-1] if places else -inf) + gap))
    over = max(0.0, places[-1] - top) if places else 0.0
    for (_, name, colour), place in zip(known, places, strict=True):
        axes.annotate(
            name, (right, place - over), (6, 0), textcoords="offset points", color=colour, va="center",
            annotation_clip=False, fontweight="bold",
        )  # fmt: skip


def wall(axes: Axes, at: float, name: str, colour: str = FAINT, row: int = 0) -> None:
    """A thin line from bottom to top, with its name above: in this row, from below."""
    axes.axvline(at, color=colour, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.annotate(
        name, (at, 1), (0, 3 + 12 * row), xycoords=("data", "axes fraction"), textcoords="offset points", color=colour,
        fontsize=9.5, ha="center", va="bottom", annotation_clip=False,
    )  # fmt: skip


def in_percent(axis: Any) -> None:
    """The numbers of an axis are in percent."""
    axis.set_major_formatter(lambda value, _: f"{value:g} %")


def save(made: Figure, folder: Path, name: str, title: str) -> str:
    """Write a figure as PNG and SVG. Returns the SVG. Raises OSError."""
    with _styled():
        made.savefig(folder / f"{name}.png", dpi=_DPI)
    svg = as_svg(made, title)
    (folder / f"{name}.svg").write_text(svg, "utf-8")
    return svg


def as_svg(made: Figure, title: str) -> str:
    """A figure as SVG."""
    text = StringIO()
    with _styled():  # what SVGs are made of is asked for when they are written
        made.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    return text.getvalue()


def inline(drawn: Mapping[str, str]) -> dict[str, str]:
    """SVGs, by their names, as parts of one page, on which each id must be used once, and which has the colours."""
    parts = {}
    for name, svg in drawn.items():
        inner = svg[svg.index("<svg") :]
        for mark in ('id="', "url(#", 'href="#'):
            inner = inner.replace(mark, f"{mark}{name}-")
        parts[name] = themed(inner)
    return parts
