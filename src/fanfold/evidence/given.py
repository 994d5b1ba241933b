"""The files that were given, as a source. Files that are of one piece are listed as one item:

the segments of an image                mesa.E01, mesa.E02, ...: see disk/segments.py
a registry hive, and what is beside it  SYSTEM, SYSTEM.LOG1, SYSTEM.LOG2
an image, and the notes on it           mesa.E01, mesa.E01.txt
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, groupby, takewhile
from operator import itemgetter
from pathlib import Path

from more_itertools import chunked

from fanfold.evidence.disk.sections import SIGNATURE
from fanfold.evidence.disk.segments import LAST_NUMBER, place_of_segment, segment_name
from fanfold.evidence.facts import hive_of_log, log_names
from fanfold.job import Item
from fanfold.source import Bucket, Folder, Listed, Several, Source, open_source
from fanfold.source.objects import Objects
from fanfold.source.web import Web
from fanfold.storage import absolute, errors_of, is_url, is_web, side_by_side, split_url

PART = "part of another file"
"""Reason for leaving out a file: it is a segment of an image that is listed."""
_MARK = "\0"  # begins the path of an item that has segments; no path of a file has one
_ASKED_AT_ONCE = 16
_HEAD = 11  # bytes of a segment's file: its signature, a 1, and its number


def owner_of(name: str) -> str:
    """The name of the file that another belongs to, which tells more of it; empty for a file that stands alone.

    mesa.E01.txt is what FTK Imager notes on mesa.E01, as guymager does in mesa.info; SYSTEM.LOG1 is a transaction log
    of the registry hive SYSTEM.
    """
    stem, _, ending = name.rpartition(".")
    if ending.lower() == "info" and stem:
        return f"{stem}.E01"
    return stem if ending.lower() == "txt" and _is_first(stem) else hive_of_log(name)


def _is_first(name: str) -> bool:
    """Whether a file may be the first segment of an image, by its name."""
    place = place_of_segment(name)
    return place is not None and place[1] in (0, 1)


def _name(item: Item) -> str:
    return item.path.rpartition("/")[2]


def grouped(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items, each with the other segments of its image, and then with the files that belong to it.

    The order of folders is kept, and segments are in order.

    Only the items of one folder are held at a time: a listing gives those of a folder, or at least those whose names
    begin in the same way, one after the other.
    """
    for _, some in groupby(items, lambda item: item.path.rpartition("/")[0]):
        held: dict[str, dict[int, Item]] = {}
        owned: dict[str, list[Item]] = {}
        alone: list[Item] = []
        for item in some:
            name = _name(item)
            place = place_of_segment(name)
            if owner := owner_of(name):
                owned.setdefault(owner.lower(), []).append(item)
            elif place and place[1] not in held.setdefault(place[0], {}):
                held[place[0]][place[1]] = item
            elif log_names(name):
                alone.append(item)
            else:
                yield [item]
        yield from _with_owned([*_sets(held), *([item] for item in alone)], owned)


def _with_owned(sets: list[list[Item]], owned: dict[str, list[Item]]) -> Iterator[list[Item]]:
    """Sets of items, each with the files that belong to it; what belongs to none, or to one of several, is alone."""
    names = [_name(items[0]).lower() for items in sets]
    counts = Counter(names)
    for name, items in zip(names, sets, strict=True):
        yield items + (owned.pop(name, []) if counts[name] == 1 else [])
    yield from ([item] for items in owned.values() for item in items)


def _sets(held: dict[str, dict[int, Item]]) -> Iterator[list[Item]]:
    """The images of a folder, and the files that only have a name like a segment's."""
    for series, numbered in held.items():
        first = next((number for number in (0, 1) if number in numbered), None)
        image = [] if first is None else [*_run(numbered, first, series.endswith(".raw"))]
        if image:
            yield [numbered[number] for number in image]
        yield from ([item] for number, item in sorted(numbered.items()) if number not in image)


def _run(numbered: dict[int, Item], first: int, is_raw: bool) -> Iterator[int]:
    """The numbers of an image's segments: all up to 99, where some may be missing; then those without a gap.

    Raw images and letters have no gaps: notes.txt beside notes.E01 is not its segment number 10,079.
    """
    before = first - 1
    for number in sorted(numbered):
        if number > before + 1 and (is_raw or number > LAST_NUMBER):
            return
        yield number
        before = number


@dataclass
class Files:
    """Files, as a source in which the segments of an image are one item."""

    inner: Source

    @classmethod
    def open(cls, addresses: Sequence[str]) -> "Files":
        """The files at these addresses; the segments beside an image's first file belong to it."""
        # A web address is a list of one, which finds the others itself.
        every = dict.fromkeys(
            one for address in addresses for one in ([address] if is_web(address) else with_siblings(address))
        )
        return cls(Several.of([_with_segments(_opened(address, every)) for address in every]))

    @property
    def parts(self) -> Sequence[Source]:
        """See `fanfold.source.leaves`."""
        return [self.inner]

    @property
    def root(self) -> str:
        """See `Source`."""
        return self.inner.root

    @property
    def left_out(self) -> Counter[str]:
        """See `Source`."""
        return self.inner.left_out

    @property
    def addresses(self) -> "list[str]":
        """See `Source`."""
        return self.inner.addresses

    @property
    def parallel_reads(self) -> int:
        """See `Opener`."""
        return self.inner.parallel_reads

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        """The files, and images of several files."""
        for items in grouped(self.inner.list(suffixes)):
            if len(items) > 1 and self._is_something_else(items[0]):
                yield from items
                continue
            if len(items) > 1:
                self.left_out[PART] += len(items) - 1
            yield _as_one(items)

    def _is_something_else(self, first: Item) -> bool:
        """Whether files are only called like segments: log.001 and log.002 may be logs, or archives."""
        if log_names(_name(first)):
            return False
        with suppress(OSError):
            return self.inner.read_at(first, 0, 8).startswith((b"ElfFile\0", b"PK\x03\x04", b"regf"))
        return False

    def segments(self, item: Item) -> Sequence[Item]:
        """The files of an item, in order."""
        first, *rest = self._every(item)
        return [first, *(one for one in rest if not owner_of(_name(one)))]

    def beside(self, item: Item) -> Sequence[Item]:
        """The files that belong to an item, such as the transaction logs of a registry hive."""
        return [one for one in self._every(item)[1:] if owner_of(_name(one))]

    def _every(self, item: Item) -> Sequence[Item]:
        if not item.path.startswith(_MARK):
            return [item]
        return [Item(item.key, size, version, path) for path, size, version in json.loads(item.path[len(_MARK) :])]

    def read(self, item: Item, limit: int) -> bytes:
        """The content of all segments."""
        return b"".join(self.inner.read(segment, limit) for segment in self.segments(item))

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        """A part of the first segment."""
        return self.inner.read_at(self.segments(item)[0], offset, length)

    def uri(self, item: Item) -> str:
        """The address of the first segment."""
        return self.inner.uri(self.segments(item)[0])

    def within(self, root: str) -> "Files | None":
        """See `Source`."""
        inner = self.inner.within(root)
        return Files(inner) if inner else None


def _opened(address: str, every: Iterable[str]) -> Source:
    """The source at an address. One that belongs to another file is a file, too, though a .txt may be a list."""
    where = absolute(address)
    folder, _, name = where.rpartition("/")
    owner = f"{folder}/{owner_of(name)}".lower()
    if not owner_of(name) or owner not in (absolute(one).lower() for one in every):
        return open_source(address)
    return Bucket(folder, name) if is_url(where) else Folder(folder, name)


class _List(Listed):
    """Addresses, with the other segments of each image whose first file is among them, whether they are or not."""

    def _addresses(self) -> Iterator[str]:
        seen: set[str] = set()
        later: list[str] = []
        for address in super()._addresses():
            place = place_of_segment(address.rpartition("/")[2])
            if place is None:
                yield address
            elif place[1] <= 1:
                yield from _new(with_siblings(address), seen)
            elif place[1] <= LAST_NUMBER or place[0].endswith(".raw"):
                later.append(address)  # the first file may come behind it
            else:
                yield from _new([address], seen)
        yield from _new(later, seen)


def _with_segments(source: Source) -> Source:
    """A list that finds the segments of its images; other sources as they are."""
    return _List(source.file, source.only) if isinstance(source, Listed) else source


def _new(addresses: Iterable[str], seen: set[str]) -> Iterator[str]:
    """The addresses that were not there before."""
    for address in addresses:
        if address not in seen:
            seen.add(address)
            yield address


def _as_one(items: list[Item]) -> Item:
    """The item for the segments of an image. Its version changes when any of them does."""
    if len(items) == 1:
        return items[0]
    path = json.dumps([[item.path, item.size, item.version] for item in items], separators=(",", ":"))
    version = blake2b(path.encode(), digest_size=16).hexdigest()
    return Item(items[0].key, sum(item.size for item in items), version, _MARK + path)


def with_siblings(address: str) -> list[str]:
    """An address; if it names the first file of an image, those of all its files; and of those that belong to it."""
    where = absolute(address)
    folder, _, name = where.rpartition("/")
    place = place_of_segment(name) if _is_first(name) else None
    if not (place or log_names(name)) or not (is_url(where) or Path(where).is_file()):
        return [address]
    if is_web(where):
        return _there(folder, name, place[1]) if place else [address]
    if is_url(where):
        belonging = log_names(name) or [f"{name}.txt", f"{name.rpartition('.')[0]}.info"]
        there = [one for one in belonging if _is_there(f"{folder}/{one}")]
        return [*(_there(folder, name, place[1]) if place else [address]), *(f"{folder}/{one}" for one in there)]
    others = sorted(os.listdir(folder), key=lambda other: other.swapcase())  # noqa: PTH208
    belonging = [f"{folder}/{other}" for other in others if owner_of(other).lower() == name.lower()]
    if place is None:
        return [address, *belonging]
    found: dict[int, str] = {}
    for other in others:
        at = place_of_segment(other)
        if at and at[0] == place[0] and not owner_of(other) and _is_like(other, name):
            found.setdefault(at[1], other)
    items = {number: Item(other, 0, "", other) for number, other in found.items()}
    run = _run(items, place[1], place[0].endswith(".raw"))
    return [*(f"{folder}/{found[number]}" for number in run), *belonging]


def _is_like(other: str, name: str) -> bool:
    """Whether two names are written in the same case where they differ in their ending only."""
    endings = [one.rpartition(".")[2] for one in (other, name)]
    return all(ending.isdigit() for ending in endings) or endings[0][0].isupper() == endings[1][0].isupper()


def _there(folder: str, name: str, first: int) -> list[str]:
    """The addresses of an image's files at a URL: its first and those that follow, up to one that is not there.

    They are asked for one by one, since a prefix may have a million other objects.
    """
    found: list[str] = []
    for numbers in chunked(count(first), _ASKED_AT_ONCE):
        addresses = [f"{folder}/{segment_name(name, number)}" for number in numbers]
        answers = side_by_side(_is_there, addresses, _ASKED_AT_ONCE)
        found += [address for address, _ in takewhile(itemgetter(1), zip(addresses, answers, strict=True))]
        if not all(answers):
            return found or [f"{folder}/{name}"]
    return found


def _is_there(url: str) -> bool:
    if is_web(url):
        return _is_page(url)
    bucket, key = split_url(url)
    with errors_of(url):
        try:
            Objects(bucket).head(key)
        except FileNotFoundError:
            return False
    return True


def _is_page(url: str) -> bool:
    """Whether a server has this segment. Some answer with a page for any address, so the content counts, too."""
    web, place = Web(), place_of_segment(url.rpartition("/")[2])
    try:
        page = web.look(url)
        head = web.read_at(url, 0, _HEAD, page["size"], page["version"])
    except OSError:
        return False
    if place is None or place[0].endswith(".raw"):
        return bool(head)
    return head.startswith(SIGNATURE) and int.from_bytes(head[_HEAD - 2 :], "little") == place[1]
