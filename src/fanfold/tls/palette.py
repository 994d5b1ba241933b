"""Colours of plots and pages, on a light and on a dark screen.

Those of lines are Okabe and Ito's, which most colour-blind people can tell apart; on a dark screen, lighter ones of the
same hue.
"""

from typing import NamedTuple


class Colour(NamedTuple):
    """A colour of a page, which plots have as well."""

    light: str
    dark: str


PAGE = {
    "paper": Colour("#ffffff", "#14171a"),
    "ink": Colour("#1c2024", "#e6e9ec"),
    "faint": Colour("#5c6670", "#a3adb7"),
    "line": Colour("#e3e6ea", "#31373d"),
    "alarm": Colour("#a02020", "#ff8f85"),
    "blue": Colour("#0072b2", "#5cb3e8"),
    "orange": Colour("#d55e00", "#f2924a"),
    "green": Colour("#007f5f", "#3fc19c"),
    "purple": Colour("#aa4499", "#dd8fd0"),
}
"""By the names that styles have for them: var(--ink)."""

BLUE, ORANGE, GREEN, PURPLE = (PAGE[name].light for name in ("blue", "orange", "green", "purple"))
INK, FAINT, GRID, PAPER = (PAGE[name].light for name in ("ink", "faint", "line", "paper"))


def style() -> str:
    """CSS that defines the colours."""
    light, dark = (
        " ".join(f"--{name}: {getattr(colour, theme)};" for name, colour in PAGE.items()) for theme in Colour._fields
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"  # paper stays white
    )


def themed(svg: str) -> str:
    """An SVG whose colours are those of the page that it is in."""
    for name, colour in PAGE.items():
        svg = svg.replace(colour.light, f"var(--{name})")
    return svg
