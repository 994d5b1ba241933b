"""Draws the cells of a table."""

from collections.abc import Sequence
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fanfold.tls.plots import COLOURS, Name, figure, in_percent, name_ends, wall
from fanfold.tls.report.rows import Line, Panel, Row, name_of
from fanfold.tls.simulate import handshake, sending, walls

WIDE, NARROW = 7.0, 4.6
"""Inches of a plot, on a page and on a phone."""
_ACROSS = 2  # panels side by side
_PANEL = (5.2, 3.4)  # inches
_POINTS = 200  # of a curve


def curves(panels: Sequence[Panel], width: float = WIDE) -> Figure:
    """The time of a handshake by the size of its first flight: points as measured, lines as simulated."""
    columns = min(_ACROSS if width == WIDE else 1, len(panels))
    rows = ceil(len(panels) / columns)
    with figure(_PANEL[0] * columns, _PANEL[1] * rows, rows, columns) as (made, all_axes):
        for axes, panel in zip(all_axes, panels, strict=False):
            _curve(axes, panel)
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        return made


def _curve(axes: Axes, panel: Panel) -> None:
    largest = max(row["first_flight_bytes"] for line in panel.lines for row in line.rows)
    names: list[Name] = []
    for number, line in enumerate(panel.lines):
        colour = COLOURS[number % len(COLOURS)]
        sizes = [largest * point / _POINTS for point in range(1, _POINTS + 1)]
        times = [1000 * handshake(round(size), line.network) + line.offset for size in sizes]
        axes.plot([size / 1000 for size in sizes], times, color=colour, linewidth=1.2)
        axes.plot(
            [row["first_flight_bytes"] / 1000 for row in line.rows], [row["live_p50_ms"] for row in line.rows],
            "o", color=colour, markersize=4,
        )  # fmt: skip
        names.append((times[-1], _name(line), colour))
        for at in walls(line.network):
            if at < largest:
                wall(axes, at / 1000, f"{at / 1000:.1f}", colour)
    axes.set_title(panel.title)
    axes.set_xlabel("first flight, kB")
    axes.set_ylabel("ms")
    axes.set_xlim(0, 1.02 * largest / 1000)
    axes.set_ylim(bottom=0)
    name_ends(axes, names)


def _name(line: Line) -> str:
    return f"iw{line.initcwnd}" + (f", mss {line.mss}" if line.mss != 1448 else "")


def round_trips(panels: Sequence[Panel], width: float = WIDE) -> Figure:
    """The round trips that a handshake takes more than its control, by how many windows its first flight fills."""
    with figure(width, 4.2) as (made, (axes,)):
        windows = sorted({line.initcwnd for panel in panels for line in panel.lines})
        names: dict[str, Name] = {}
        for line in (line for panel in panels for line in panel.lines):
            colour = COLOURS[windows.index(line.initcwnd) % len(COLOURS)]
            x = [row["first_flight_bytes"] / (line.mss * line.initcwnd) for row in line.rows]
            y = [_waited(row, line) for row in line.rows]
            axes.plot(x, y, "o", color=colour, markersize=4, alpha=0.7)
            names[f"iw{line.initcwnd}"] = (y[-1], f"iw{line.initcwnd}", colour)
        right = axes.get_xlim()[1]
        for trips, at in enumerate((1, 3, 7), 1):
            if at < right:
                wall(axes, at, f"+{trips} round trip{'s' * (trips > 1)}")
        axes.set_title("More round trips than the control")
        axes.set_xlabel("first flight, in initial windows")
        axes.set_ylabel("round trips")
        axes.set_xlim(0, right)
        axes.set_ylim(bottom=min(-0.1, axes.get_ylim()[0]))
        name_ends(axes, [*names.values()])
        return made


def _waited(row: Row, line: Line) -> float:
    """The round trips in which nothing was sent: what is left of the difference when its bytes have been sent."""
    longer: float = (row["live_p50_ms"] - row["control_p50_ms"]) / 1000
    return (longer - sending(row["first_flight_bytes"], row["control_flight_bytes"], line.network)) / line.network.rtt


def schemes(rows: Sequence[Row], width: float = WIDE) -> Figure:
    """The slowdown of each scheme, a point for each link and window."""
    named = sorted({(row["first_flight_bytes"], name_of(row)) for row in rows})
    order = {name: place for place, (_, name) in enumerate(named)}
    windows = sorted({row["initcwnd"] for row in rows})
    with figure(width, 1.3 + 0.42 * len(order)) as (made, (axes,)):
        for number, window in enumerate(windows):
            colour, shift = COLOURS[number % len(COLOURS)], 0.18 * (number - (len(windows) - 1) / 2)
            some = [row for row in rows if row["initcwnd"] == window]
            axes.plot(
                [100 * row["slowdown_p50"] for row in some], [order[name_of(row)] + shift for row in some],
                "o", color=colour, markersize=5, alpha=0.8,
            )  # fmt: skip
            axes.annotate(
                f"iw{window}", (1, 1), (-50 * (len(windows) - number - 1), 6), xycoords="axes fraction",
                textcoords="offset points", color=colour, ha="right", va="bottom", fontweight="bold",
            )  # fmt: skip
        axes.set_yticks([*order.values()], [*order])
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_title("Slowdown of each scheme")
        axes.set_xlabel("longer than the control")
        in_percent(axes.xaxis)
        return made
