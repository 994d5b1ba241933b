"""What an imaging program notes beside its image: IMAGE.E01.txt of FTK Imager, IMAGE.info of guymager.

Neither has a published format: these are the lines that FTK Imager 3 and 4, and guymager 0.8, write.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

_LARGEST = 1 << 20
"""Bytes of notes that are looked at: the list of segments may be long."""
_LINE = re.compile(r"\s*([A-Za-z0-9 ]{2,40}?)\s*:\s+(\S.{0,300})")
_TIMES = {
    "acquisition started": "started",
    "acquisition finished": "finished",  # FTK Imager
    "ended": "finished",  # guymager
}
_FORMS = ("%a %b %d %H:%M:%S %Y", "%Y-%m-%d %H:%M:%S")
_MADE = re.compile(r"Created By (.{3,100})")
_DIGEST = re.compile(r"(MD5|SHA1) (?:checksum|hash)", re.IGNORECASE)
_HEX = re.compile(r"([0-9a-f]{32}|[0-9a-f]{40})\b", re.IGNORECASE)
_SECTORS = re.compile(r"\s*(\d{1,19})(?: (?:through|to|-) (\d{1,19}))?\s*")
_UNREAD = "could not be read"
_MOST = 1000  # ranges of sectors


def noted(text: str) -> dict[str, Any]:
    """What notes say: `tool`, `started` and `finished` by the clock of the machine, `md5`, `sha1`, `unread` sectors.

    Empty if they are not an imaging program's.
    """
    found: dict[str, Any] = {}
    lines = text[:_LARGEST].splitlines()
    for line in lines:
        if made := _MADE.match(line.strip()):
            found.setdefault("tool", " ".join(re.sub("[®™\N{REPLACEMENT CHARACTER}]", "", made[1]).split()))
        elif entry := _LINE.fullmatch(line.rstrip()):
            _add(found, entry[1].strip().lower(), entry[2])
    if "GUYMAGER" in text[:200]:
        found["tool"] = f"guymager {found.pop('version', '')}".strip()
    found.pop("version", None)
    if not {"started", "md5", "sha1"} & found.keys():
        return {}
    unread = [*_unread(lines)][:_MOST]
    return found | ({"unread": unread} if unread else {})


def _add(found: dict[str, Any], name: str, value: str) -> None:
    """Add what one line says. The digests of the acquisition come before those of a verification."""
    if name == "version":
        found.setdefault("version", value.strip())
    elif name in _TIMES:
        for form in _FORMS:
            with suppress(ValueError):
                found.setdefault(_TIMES[name], datetime.strptime(value.partition(" (")[0].strip(), form).isoformat())
    elif (which := _DIGEST.fullmatch(name)) and (digest := _HEX.match(value)):
        found.setdefault(which[1].lower(), digest[1].lower())


def _unread(lines: list[str]) -> Iterator[dict[str, int]]:
    """The sectors that could not be read: the numbers after the words that say so, and the lines of numbers below."""
    is_list = False
    for line in lines:
        _, says_so, rest = line.rpartition(_UNREAD)
        sectors = _SECTORS.fullmatch(rest.lstrip(":"))
        is_list = bool(says_so or (is_list and sectors))
        if is_list and sectors:
            first, last = int(sectors[1]), int(sectors[2] or sectors[1])
            if first <= last:
                yield {"first_sector": first, "sectors": last - first + 1}
