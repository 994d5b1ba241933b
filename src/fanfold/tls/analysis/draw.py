"""Draws an analysis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf, nan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fanfold.tls.analysis.results import Analysis, Estimate
from fanfold.tls.analysis.settings import middle_of
from fanfold.tls.analysis.words import per_rtt
from fanfold.tls.palette import BLUE, FAINT, GREEN, ORANGE, PURPLE
from fanfold.tls.plots import Name, figure, in_percent, name_ends, wall

WIDE, NARROW = 7.0, 4.6
"""Inches of a plot, on a page and on a phone."""
_HEIGHT = 4.2
_PAD = 32  # points below a title: room for two rows of names
_FEW = 20  # bins: of so many, each point is drawn
_LINES = ("-", "--", ":", "-.")
_CHARACTER = 0.098  # inches: a letter above a wall, and a bit more


def figures() -> Mapping[str, Callable[[Analysis, float], Figure]]:
    """The plots, by the names of their files; each takes its width in inches."""
    return {"missing": missing, "times": times, "slowdown": slowdown, "model": model}


def missing(analysis: Analysis, width: float = WIDE) -> Figure:
    """The rates of missing connections by n."""
    with _plot(width, "Connections that went missing", "dummy certificates", "missing") as (made, axes):
        x = [_middle(one.first, one.last) for one in analysis.bins]
        names = []
        for name, colour, line, rates in (
            ("live", ORANGE, "-", [one.missing.live for one in analysis.bins]),
            ("control", BLUE, "--", [one.missing.control for one in analysis.bins]),
        ):
            estimates = [Estimate(rate.rate, rate.low, rate.high) for rate in rates]
            names.append(_series(axes, x, estimates, name, colour, line, scale=100))
        axes.set_ylim(bottom=0)
        in_percent(axes.yaxis)
        _marks(
            axes,
            [
                (split.found.above + 0.5, f"above {split.found.above}: +{100 * split.found.more.value:.1f} %")
                for split in analysis.splits
            ],
        )
        _name_ends(axes, names)
        return made


def times(analysis: Analysis, width: float = WIDE) -> Figure:
    """Quantiles of handshake times by size, with the walls of the initial window."""
    with _plot(width, "Time of a handshake", "dummy certificates, kB", "ms") as (made, axes):
        x = [one.kb for one in analysis.bins]
        names = []
        for number, q in enumerate(analysis.quantiles):
            line = _LINES[number % len(_LINES)]
            for role, colour in (("live", ORANGE), ("control", BLUE)):
                estimates = [getattr(one, role)[number] for one in analysis.bins]
                names.append(_series(axes, x, estimates, f"{role} p{100 * q:g}", colour, line))
        axes.set_ylim(bottom=0)
        _walls(axes, analysis)
        _name_ends(axes, names)
        return made


def slowdown(analysis: Analysis, width: float = WIDE) -> Figure:
    """The slowdown by size."""
    with _plot(width, "Slowdown against the control", "dummy certificates, kB", "slower") as (made, axes):
        x = [one.kb for one in analysis.bins]
        names = [
            _series(
                axes,
                x,
                [one.slowdown[number] for one in analysis.bins],
                f"p{100 * q:g}",
                (GREEN, PURPLE, BLUE, ORANGE)[number % 4],
                _LINES[number % len(_LINES)],
                scale=100,
            )
            for number, q in enumerate(analysis.quantiles)
        ]
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        in_percent(axes.yaxis)
        _walls(axes, analysis)
        _name_ends(axes, names)
        return made


def model(analysis: Analysis, width: float = WIDE) -> Figure:
    """The measured slowdown over that of the model."""
    title = "Slowdown, measured over modelled"
    if analysis.model:
        title += f",\nwith {per_rtt(analysis.model)}"
    with _plot(width, title, "dummy certificates, kB", "") as (made, axes):
        middle = middle_of(analysis.quantiles)
        known = [one for one in analysis.bins if one.slowdown[middle].value is not None]
        factors = analysis.model.factors if analysis.model else ()
        ratios = [
            Estimate(*(None if value is None else (1 + value) / factor for value in (one.value, one.low, one.high)))
            for one, factor in zip((each.slowdown[middle] for each in known), factors, strict=True)
        ]
        name = f"p{100 * analysis.quantiles[middle]:g}"
        names = [_series(axes, [one.kb for one in known], ratios, name, GREEN, "-")]
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.9), max(high, 1.1))
        axes.axhline(1, color=FAINT, linewidth=1)
        _walls(axes, analysis)
        _name_ends(axes, names)
        return made


@contextmanager
def _plot(width: float, title: str, across: str, up: str) -> Iterator[tuple[Figure, Axes]]:
    with figure(width, _HEIGHT) as (made, (axes,)):
        axes.set_title(title, pad=_PAD)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        yield made, axes


def _series(
    axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], name: str, colour: str, line: str, scale: float = 1
) -> Name | None:
    """A line with a band for its intervals. A number that is not known leaves a gap."""
    y, low, high = (
        [nan if value is None else scale * value for value in column]
        for column in (
            [one.value for one in estimates],
            [one.value if one.low is None else one.low for one in estimates],
            [one.value if one.high is None else one.high for one in estimates],
        )
    )
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(x) <= _FEW else {}
    if len(x) == 1:  # a band would have no width
        axes.vlines(x, low, high, color=colour, linewidth=1)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, y, color=colour, linestyle=line, linewidth=1.8, **marker)
    axes.set_xlim(0, 1.02 * max(x, default=1))
    ends = [value for value in y if value == value]
    return (ends[-1], name, colour) if ends else None


def _name_ends(axes: Axes, names: Sequence[Name | None]) -> None:
    """Name the lines; if there are none, say so."""
    known = [name for name in names if name]
    if not known:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=FAINT)
    name_ends(axes, known)


def _walls(axes: Axes, analysis: Analysis) -> None:
    """Mark where a flight needs another round trip."""
    right = max((one.kb for one in analysis.bins), default=0.0)
    fitted = analysis.model
    walls = [(wall - fitted.base_bytes) / 1000 for wall in fitted.walls] if fitted else []
    names = (f"+{number} round trip{'s' * (number > 1)}" for number in range(1, 1 + len(walls)))
    _marks(axes, [(at, name) for at, name in zip(walls, names, strict=True) if 0 < at <= right])


def _marks(axes: Axes, marks: Sequence[tuple[float, str]]) -> None:
    """Thin lines, each with its name above it: in one of two rows, or not at all if both are full there."""
    inches = axes.figure.bbox.width / axes.figure.dpi
    per_inch = axes.get_xlim()[1] / inches
    ends = [-inf, -inf]
    for at, name in marks:
        half = len(name) * _CHARACTER * per_inch / 2
        row = next((row for row, end in enumerate(ends) if end < at - half), None)
        wall(axes, at, "" if row is None else name, row=row or 0)
        if row is not None:
            ends[row] = at + half


def _middle(first: int, last: int) -> float:
    return (first + last) / 2
