"""The names of the files that are one image, its segments.

mesa.E01, mesa.E02, ... mesa.E99, mesa.EAA, ... mesa.ZZZ      EnCase, FTK Imager, ewfacquire
mesa.s01, mesa.s02, ...                                       SMART
mesa.001, mesa.002, ...  or  mesa.000, mesa.001, ...          raw
"""

import re

_NUMBERED = re.compile(r"(.+)\.([ES])(\d\d)", re.IGNORECASE | re.DOTALL)
_LETTERED = re.compile(r"(.+)\.([E-Z][A-Z][A-Z]|[e-z][a-z][a-z])", re.DOTALL)
_RAW = re.compile(r"(.+)\.(\d{3,4})", re.DOTALL)
LAST_NUMBER = 99
"""Of the segments that have a number in their names; letters follow."""


def place_of_segment(name: str) -> tuple[str, int] | None:
    """The series that a file may be a segment of, and its number there. None for other names."""
    if found := _NUMBERED.fullmatch(name):
        return f"{found[1]}.{found[2]}", int(found[3])
    if found := _RAW.fullmatch(name):
        return f"{found[1]}.raw", int(found[2])
    if found := _LETTERED.fullmatch(name):
        first, second, third = (ord(letter) - ord("A") for letter in found[2].upper())
        base = ord("S" if first >= ord("S") - ord("A") else "E") - ord("A")
        start = chr(base + ord("A"))
        series = f"{found[1]}.{start if found[2].isupper() else start.lower()}"
        return series, LAST_NUMBER + 1 + ((first - base) * 26 + second) * 26 + third
    return None


def segment_name(first: str, number: int) -> str:
    """The name of a segment by its number, written as the name of the first one is."""
    stem, _, suffix = first.rpartition(".")
    if suffix.isdigit():
        return f"{stem}.{number:0{len(suffix)}}"
    if number <= LAST_NUMBER:
        return f"{stem}.{suffix[0]}{number:02}"
    high, low = divmod(number - LAST_NUMBER - 1, 26)
    ahead, middle = divmod(high, 26)
    letters = chr(ord(suffix[0].upper()) + ahead) + chr(ord("A") + middle) + chr(ord("A") + low)
    return f"{stem}.{letters if suffix[0].isupper() else letters.lower()}"
