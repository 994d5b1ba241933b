"""Brings a registry hive up to date: what Windows has changed since is in its transaction logs, LOG1 and LOG2.

Windows does the same when it starts. Windows 8.1 and later write entries (`HvLE`), each with two checksums; earlier
ones write a map of pages (`DIRT`) and the pages. Nothing is written: the result is in memory only.

Format: "Windows registry file format specification" by Maxim Suhanov, sections "Transaction log files" and
"Dirty state of a hive".
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import NamedTuple

_BASE = 4096  # bytes of a hive before its bins
_SECTOR = 512
_HEAD = struct.Struct("<4sLLQ")
_ENTRY = struct.Struct("<4sLLLLLQQ")
_PAGE = struct.Struct("<LL")
_SEED = 0x82EF4D88, 0x7A4E55C5
_32 = 0xFFFFFFFF


class _Entry(NamedTuple):
    """Pages that were changed together."""

    sequence: int
    pages: Sequence[tuple[int, bytes]]
    """Where each lies, from the start of the bins; and what is in it."""


def replayed(hive: bytes, logs: Sequence[bytes]) -> bytearray | None:
    """A hive with the changes of its logs. None if they have none that follow on what is in the hive."""
    sound = [log for log in logs if _is_sound(log)]
    _, _, since, written = _HEAD.unpack_from(hive)
    room = len(hive) + sum(map(len, sound))  # a hive grows by what its logs have, at most
    pages = [page for entry in _in_order(sound, since, room) for page in entry.pages]
    for log in sound:
        if not pages and log.startswith(b"DIRT", _SECTOR) and _HEAD.unpack_from(log)[3] == written:
            pages = [*_marked(log, room)]
    if not pages:
        return None
    data = bytearray(hive)
    for at, page in pages:
        begin = _BASE + at
        data.extend(bytes(max(0, begin - len(data))))
        data[begin : begin + len(page)] = page
    return data


def _is_sound(log: bytes) -> bool:
    """Whether a log begins with a base block whose checksum is right."""
    if len(log) < 2 * _SECTOR or not log.startswith(b"regf"):
        return False
    *words, stored = struct.unpack_from("<128L", log)
    checksum = 0
    for word in words[:127]:
        checksum ^= word
    return bool({0: 1, _32: _32 - 1}.get(checksum, checksum) == stored)


def _in_order(logs: Sequence[bytes], since: int, room: int) -> Iterator[_Entry]:
    """The entries that come after a hive's sequence number, one after the other, up to a gap."""
    runs = [run for log in logs if (run := [*_entries(log, since, room)])]
    before: int | None = None
    for run in sorted(runs, key=lambda run: run[0].sequence):
        if before is not None and run[0].sequence != before + 1:
            return
        yield from run
        before = run[-1].sequence


def _entries(log: bytes, since: int, room: int) -> Iterator[_Entry]:
    """The entries of a log that come after a sequence number, up to the first that is damaged or does not follow."""
    at, before = _SECTOR, 0
    while entry := _entry(log, at, room):
        size, found = entry
        if before and found.sequence != before + 1:  # what is left from an earlier use of the file
            return
        before = found.sequence
        if found.sequence >= since:
            yield found
        at += size


def _entry(log: bytes, at: int, room: int) -> tuple[int, _Entry] | None:
    """The entry at a place of a log, and its size; None if there is none that is whole."""
    if not log.startswith(b"HvLE", at) or at + _ENTRY.size > len(log):
        return None
    _, size, _, sequence, bins, count, whole, head = _ENTRY.unpack_from(log, at)
    begin = _ENTRY.size + count * _PAGE.size
    if size % _SECTOR or not begin <= size <= len(log) - at or bins % _BASE or _BASE + bins > room:
        return None
    raw = log[at : at + size]
    if marvin32(raw[:32]) != head or marvin32(raw[_ENTRY.size :]) != whole:
        return None
    pages = []
    for place, length in _PAGE.iter_unpack(raw[_ENTRY.size : begin]):
        if place + length > bins or begin + length > size:
            return None
        pages.append((place, raw[begin : begin + length]))
        begin += length
    return size, _Entry(sequence, pages)


def marvin32(data: bytes) -> int:
    """The checksum of entries, of data whose length is a multiple of four."""
    high, low = _SEED
    for (word,) in chain(struct.iter_unpack("<L", data), ((0x80,), (0,))):
        low = (low + word) & _32
        high ^= low
        low = ((low << 20 | low >> 12) + high) & _32
        high = (high << 9 & _32 | high >> 23) ^ low
        low = ((low << 27 | low >> 5) + high) & _32
        high = high << 19 & _32 | high >> 13
    return high << 32 | low


def _marked(log: bytes, room: int) -> Iterator[tuple[int, bytes]]:
    """The pages of a log of Windows before 8.1: a bit for each page of a hive, and those pages whose bit is set."""
    (bins,) = struct.unpack_from("<L", log, 40)
    first = _SECTOR + 4
    bits = log[first : first + bins // _SECTOR // 8] if _BASE + bins <= room else b""
    begin = -(-(first + len(bits)) // _SECTOR) * _SECTOR
    marks = (byte >> bit & 1 for byte in bits for bit in range(8))
    for number in compress(range(8 * len(bits)), marks):
        page = log[begin : begin + _SECTOR]
        if len(page) < _SECTOR:
            return
        yield number * _SECTOR, page
        begin += _SECTOR
