"""Facts from the cache of Windows' compatibility fixes: programs whose files were there. Not that they ran.

Format: libyal's "Windows Registry knowledge base", Application Compatibility Cache.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import filetime
from fanfold.evidence.times import iso

_WINDOWS_7 = 0xBADC0FEE
_HEAD_7 = 128  # bytes before the entries, in Windows 7 and in Windows 8
_HEADS_10 = (48, 52)
_ENTRY_7_32, _ENTRY_7 = struct.Struct("<HHLQ16x"), struct.Struct("<HH4xQQ24x")
_MOST = 4096  # entries; Windows keeps 1,024
_Found = Iterator[tuple[str, int]]  # a path, and when the file was last written


def cached(raw: Any, about: Mapping[str, str], source: str) -> Iterator[Fact]:
    """The programs that the cache names, the last one first."""
    if not isinstance(raw, bytes) or len(raw) < _HEAD_7:
        return
    for number, (path, written) in enumerate(_entries(raw), 1):
        name = path.rstrip("\0").removeprefix("\\??\\")
        if "\\" in name and "\t" not in name:  # what has tabs is an app of the store
            value = {"file_written": iso(filetime(written)), **about}
            yield Fact("shimcache", name, value, f"{source}, the entry {number}")


def _entries(raw: bytes) -> _Found:
    first, count = struct.unpack_from("<LL", raw)
    if first == _WINDOWS_7:
        yield from _of_windows_7(raw, min(count, _MOST))
    elif raw[_HEAD_7 : _HEAD_7 + 4] in (b"00ts", b"10ts"):
        yield from _of_later(raw, _HEAD_7, is_8=True)
    elif first in _HEADS_10:
        yield from _of_later(raw, first, is_8=False)


def _of_windows_7(raw: bytes, count: int) -> _Found:
    # In a 64-bit system, four bytes of padding come before the place of the first path.
    entry = _ENTRY_7 if raw[_HEAD_7 + 4 : _HEAD_7 + 8] == bytes(4) else _ENTRY_7_32
    for number in range(count):
        at = _HEAD_7 + number * entry.size
        if at + entry.size > len(raw):
            return
        length, _, place, written = entry.unpack_from(raw, at)
        yield raw[place : place + length].decode("utf-16-le", "replace"), written


def _of_later(raw: bytes, at: int, *, is_8: bool) -> _Found:
    """The entries of Windows 8 and later, each with its own signature and size."""
    while raw.startswith((b"00ts", b"10ts"), at) and at + 14 <= len(raw):
        size, length = struct.unpack_from("<LH", raw, at + 8)
        entry = raw[at + 14 : at + 12 + size]
        rest = entry[length:]
        if is_8:
            if raw.startswith(b"10ts", at):  # Windows 8.1: the name of a package comes first
                rest = rest[2 + int.from_bytes(rest[:2], "little") :]
            rest = rest[8:]  # flags
        if len(rest) < 8:
            return
        yield entry[:length].decode("utf-16-le", "replace"), int.from_bytes(rest[:8], "little")
        at += 12 + size
