"""Facts from a user's hive, NTUSER.DAT: which programs the user has started, and which volumes were seen.

Format of the entries of UserAssist: libyal's "Windows Registry knowledge base", User Assist.
"""

import codecs
import re
import struct
from collections.abc import Iterator

from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import Hive, Key, filetime
from fanfold.evidence.times import iso

_EXPLORER = "Software\\Microsoft\\Windows\\CurrentVersion\\Explorer"
_STARTED = struct.Struct("<4xLLL44xQ4x")  # since Windows 7
_FOLDERS = {
    "{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}": "C:\\Windows\\System32",
    "{D65231B0-B2F1-4857-A4CE-A8E7C6EA7D27}": "C:\\Windows\\SysWOW64",
    "{F38BF404-1D43-42F2-9305-67DE0B28FC23}": "C:\\Windows",
    "{6D809377-6AF0-444B-8957-A3773F02200E}": "C:\\Program Files",
    "{7C5A40EF-A0FB-4BFC-874A-C0F2E0B9FA8E}": "C:\\Program Files (x86)",
}
"""Folders that UserAssist names by their numbers, where Windows usually has them."""


def user(hive: Hive) -> Iterator[Fact]:
    """The facts of a user's hive."""
    for key in hive.below(f"{_EXPLORER}\\UserAssist"):
        path = f"{_EXPLORER}\\UserAssist\\{key.name}\\Count"
        yield from _started(key.find("Count"), hive.about, path)
    for key in hive.below(f"{_EXPLORER}\\MountPoints2"):
        if re.fullmatch(r"\{[0-9A-Fa-f-]{36}\}", key.name):
            value = {"written": iso(key.written)}
            yield Fact("mount", key.name, value | hive.about, f"{_EXPLORER}\\MountPoints2\\{key.name}")


def _started(key: Key | None, about: dict[str, str], path: str) -> Iterator[Fact]:
    """The programs that were started by a double click or from the menu: how often, and when last."""
    for coded, raw in key.values().items() if key else ():
        if not isinstance(raw, bytes) or len(raw) != _STARTED.size:
            continue
        count, _, milliseconds, last = _STARTED.unpack(raw)
        folder, _, rest = codecs.decode(coded, "rot13").partition("\\")
        name = "\\".join(filter(None, [_FOLDERS.get(folder.upper(), folder), rest]))
        if (count or last) and not name.startswith("UEME_"):  # those are sums
            found = {"count": count, "time": iso(filetime(last)), "focus_seconds": milliseconds // 1000}
            yield Fact("userassist", name, found | about, f"{path}, the value {coded}")
