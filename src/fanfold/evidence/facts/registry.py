"""Reads registry hives: keys, their values, and when each key was last written.

A hive that was in use when it was copied is brought up to date with its transaction logs, in memory; see
`transactions.py`. A damaged hive gives what can be read of it: a cell that lies, in part, where nothing could be read
is left out, since what is left of it would be a wrong value.

Format: libyal's "Windows NT Registry File (REGF) format".
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.transactions import replayed
from fanfold.evidence.times import moment

Ranges = Collection[tuple[int, int]]
"""Parts of a file: where each begins, and where it ends."""
_BASE = 4096  # bytes before the first cell
_HEAD = 512  # bytes of a hive that say where its root is, and whether it was in use
_KEY = struct.Struct("<2xHQ8xL4xL4xLL28xHH")
_VALUE = struct.Struct("<2xHLLLH2x")
_TEXTS, _LIST = (1, 2, 6), 7  # REG_SZ, REG_EXPAND_SZ, REG_LINK; REG_MULTI_SZ
_NUMBERS = {4: "little", 11: "little", 5: "big"}  # REG_DWORD, REG_QWORD, REG_DWORD_BIG_ENDIAN
_WITHIN = 1 << 31  # in the size of a value: its data lies where its place would be
_PIECE = 16344  # bytes of each part of a large value
_IN_UTF_16 = 0x20  # a key without this flag has a name in UTF-16; so has a value without flag 1
_OFTEN = 4  # times that a hive is read, at most, and a few bytes more: lookups read a cell once, or a few times
_SPARE = 64 << 20
_LARGEST = 1 << 20  # bytes of a cell: a larger size is damaged
_COST = 16  # bytes that a cell counts besides what it holds
_FIRST = 32  # where the first cell lies, which is the root's: behind the head of the first bin

_DAMAGED = (struct.error, IndexError, OverflowError)


def filetime(value: Any) -> datetime | None:
    """The time of a FILETIME, given as a number or as bytes. None for anything else."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:8], "little") if len(value) >= 8 else 0
    return moment(value) if isinstance(value, int) else None


class _Cells:
    """The cells of a hive, which may be read a few times each: a damaged hive may lead round in circles.

    So what is read depends on what is asked for, and not on how many cells the hive has.
    """

    def __init__(self, data: "bytes | bytearray", lost: Ranges = ()) -> None:
        self.data, self.lost = memoryview(data), sorted(lost)
        self.left = _OFTEN * len(data) + _SPARE

    def at(self, place: int, signatures: tuple[bytes, ...] = (b"",)) -> bytes:
        """What a cell holds. Raises struct.error if it is damaged, is not in the hive, or is of another kind."""
        self.spend(_COST)
        start = _BASE + place
        (size,) = struct.unpack_from("<l", self.data, start)
        stop = min(start + max(4, min(abs(size), _LARGEST)), len(self.data))
        if self.lost and _is_in(self.lost, start, stop):
            raise struct.error("a cell that cannot be read")
        self.spend(stop - start)
        cell = bytes(self.data[start + 4 : stop])
        if not cell.startswith(signatures):
            raise struct.error("a cell of another kind")
        return cell

    def spend(self, size: int) -> None:
        """Count what is read. Raises Unreadable if it is far more than the hive has."""
        self.left -= size
        if self.left < 0:
            raise Unreadable("This registry hive is damaged: its lists lead round in circles.")


def _is_in(lost: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether bytes lie, in part, in one of some ranges, which are in order."""
    at = bisect_left(lost, stop, key=itemgetter(0))
    return at > 0 and lost[at - 1][1] > start


class Value(NamedTuple):
    """A value of a key. Its data is read when it is asked for."""

    name: str
    """Empty for the key's default value."""
    kind: int
    """REG_SZ is 1, for example. In the names of accounts, it is the account's number."""
    raw: Callable[[], bytes]

    @property
    def content(self) -> Any:
        """Its data: a text, a number, a list of texts, or bytes."""
        data = self.raw()
        if self.kind in _TEXTS:
            return text_of(data)
        if self.kind == _LIST:
            return [text for text in data.decode("utf-16-le", "replace").split("\0") if text]
        if self.kind in _NUMBERS:
            order: Any = _NUMBERS[self.kind]
            return int.from_bytes(data[:8], order)
        return data


def text_of(raw: Any) -> str:
    """A text up to its end: what follows in its buffer is what was there before."""
    text = raw.decode("utf-16-le", "replace") if isinstance(raw, bytes) else str(raw or "")
    return text.partition("\0")[0]


class Key:
    """A key of a hive."""

    def __init__(self, cells: _Cells, place: int) -> None:
        """Raises struct.error."""
        raw = cells.at(place, (b"nk",))
        flags, written, keys, key_list, values, value_list, length, _ = _KEY.unpack_from(raw)
        self._cells, self._key_list, self._value_list = cells, (keys, key_list), (values, value_list)
        self.written = filetime(written)
        """When it, a value of it or a key below it was last written."""
        self.name = raw[76 : 76 + length].decode("latin-1" if flags & _IN_UTF_16 else "utf-16-le", "replace")

    def below(self) -> "Iterator[Key]":
        """The keys below it; of damaged ones, those that can be read."""
        count, place = self._key_list
        if count:
            with suppress(*_DAMAGED):
                for one in self._places(place, is_top=True):
                    with suppress(*_DAMAGED):
                        yield Key(self._cells, one)

    def _places(self, place: int, *, is_top: bool) -> Iterator[int]:
        """Where the keys of a list lie. A list may be one of lists."""
        raw = self._cells.at(place, (b"lf", b"lh", b"li", b"ri") if is_top else (b"lf", b"lh", b"li"))
        (count,) = struct.unpack_from("<H", raw, 2)
        step = 8 if raw.startswith((b"lf", b"lh")) else 4
        for number in range(count):
            (one,) = struct.unpack_from("<L", raw, 4 + number * step)
            if raw.startswith(b"ri"):
                yield from self._places(one, is_top=False)
            else:
                yield one

    def find(self, path: str) -> "Key | None":
        """A key below it by its path, whatever the case of its letters."""
        found: Key | None = self
        for name in path.split("\\"):
            wanted = name.casefold()
            found = next((key for key in found.below() if key.name.casefold() == wanted), None) if found else None
        return found

    def listed(self) -> Iterator[Value]:
        """Its values; of damaged ones, those that can be read."""
        count, place = self._value_list
        if not count:
            return
        with suppress(*_DAMAGED):
            places = self._cells.at(place)
            for number in range(count):
                (one,) = struct.unpack_from("<L", places, 4 * number)
                with suppress(*_DAMAGED):
                    yield self._value(one)

    def _value(self, place: int) -> Value:
        raw = self._cells.at(place, (b"vk",))
        length, size, data, kind, flags = _VALUE.unpack_from(raw)
        name = raw[20 : 20 + length].decode("latin-1" if flags & 1 else "utf-16-le", "replace")
        inline = raw[8 : 8 + min(4, size - _WITHIN)] if size >= _WITHIN else None
        return Value(name, kind, lambda: self._data(data, size) if inline is None else inline)

    def _data(self, place: int, size: int) -> bytes:
        """The data of a value; a large one lies in parts."""
        if not size:
            return b""
        raw = self._cells.at(place)
        if size <= _PIECE or not raw.startswith(b"db"):
            return raw[:size]
        count, parts = struct.unpack_from("<HL", raw, 2)
        places = struct.unpack_from(f"<{count}L", self._cells.at(parts))
        return b"".join(self._cells.at(one)[:_PIECE] for one in places)[:size]

    def values(self) -> dict[str, Any]:
        """The contents of its values by their names, without those that are damaged."""
        found = {}
        for value in self.listed():
            with suppress(*_DAMAGED):
                found[value.name] = value.content
        return found

    def value(self, name: str) -> Any:
        """The content of one value, without reading those of others; None if there is none."""
        with suppress(*_DAMAGED):
            return next((value.content for value in self.listed() if value.name.casefold() == name.casefold()), None)
        return None


class Hive:
    """A registry hive."""

    def __init__(self, data: bytes, logs: Sequence[bytes] = (), lost: Ranges = ()) -> None:
        """Raises Unreadable.

        Args:
            data: What is in its file.
            logs: What is in its transaction logs.
            lost: The parts of the file that could not be read, and are zeros: where each begins and ends.
        """
        self.dirty: Literal["", "replayed", "not replayed"] = ""
        """Whether it was in use, so that its latest changes are in its transaction logs; and what was made of them."""
        head_is_lost = any(start < _HEAD for start, _ in lost)
        newer = None
        if is_dirty(data) or head_is_lost:
            # Without its head, which entries of the logs it has already is not known.
            newer = None if head_is_lost else replayed(data, logs)
            self.dirty = "not replayed" if newer is None else "replayed"
        try:
            (start,) = (_FIRST,) if head_is_lost else struct.unpack_from("<L", data, 36)
            self.root = Key(_Cells(data if newer is None else newer, lost), start)
        except _DAMAGED as error:
            raise Unreadable(f"This registry hive cannot be read: {error}") from error

    @property
    def about(self) -> dict[str, str]:
        """What belongs to each fact of it."""
        return {"dirty": self.dirty} if self.dirty else {}

    def values(self, path: str) -> dict[str, Any]:
        """The values of a key by name; empty if the key is missing or damaged."""
        key = self.root.find(path)
        return key.values() if key else {}

    def below(self, path: str) -> Iterator[Key]:
        """The subkeys of a key; none if the key is missing."""
        if key := self.root.find(path):
            yield from key.below()


def is_dirty(data: bytes) -> bool:
    """Whether a hive was in use when it was copied: its two sequence numbers differ."""
    first, second = struct.unpack_from("<LL", data, 4) if len(data) >= _BASE else (0, 0)
    return bool(first != second)
