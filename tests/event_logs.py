"""Writes event logs (.evtx) that any reader accepts: records with System and named values, in chunks with checksums.

Format: libyal's "Windows XML Event Log (EVTX) format"; [MS-EVEN6] section 2.2.12 for binary XML. Windows writes
templates; these records spell their elements out, as the format allows, too.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

FILE_HEADER, CHUNK, CHUNK_HEADER = 4096, 65536, 512
EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """One record."""

    record_id: int
    event_id: int
    time: datetime
    provider: str = "Microsoft-Windows-Security-Auditing"
    channel: str = "Security"
    computer: str = "HOST"
    level: int = 4
    data: Mapping[str, str] = field(default_factory=dict)
    frame_time: datetime | None = None
    """The time in its frame, if that is not the event's."""
    keywords: str = "0x8020000000000000"
    """That of a success, if it is of auditing."""
    written_id: int | None = None
    """Its id where it was written, if that is another: an export numbers its records again."""

    @property
    def filetime(self) -> int:
        """Units of 100 ns since 1601."""
        return ((self.frame_time or self.time) - EPOCH) // timedelta(microseconds=1) * 10


def write_log(file: Path, events: Iterable[Event], *, dirty: bool = False, spare: int = 0) -> Path:
    """A log of these records. `spare`: chunks of zeros that Windows has set aside."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(log_bytes(events, dirty=dirty) + bytes(spare * CHUNK))
    return file


def log_bytes(events: Iterable[Event], *, dirty: bool = False) -> bytes:
    """The same as bytes."""
    chunks: list[bytes] = []
    left = list(events)
    last = left[-1].record_id if left else 0
    while left:
        chunk, left = _chunk(left, len(chunks))
        chunks.append(chunk)
    header = bytearray(FILE_HEADER)
    counts = (0, max(0, len(chunks) - 1), last + 1, 128, 1, 3, FILE_HEADER, len(chunks))
    struct.pack_into("<8s3QL4H", header, 0, b"ElfFile\0", *counts)
    struct.pack_into("<LL", header, 120, int(dirty), crc32(header[:120]))
    return b"".join((header, *chunks))


def _chunk(events: list[Event], number: int) -> tuple[bytes, list[Event]]:
    """A chunk of as many records as fit, and those that do not."""
    data = bytearray(CHUNK_HEADER)
    done = 0
    last = CHUNK_HEADER
    for event in events:
        record = _record(event, len(data))
        if len(data) + len(record) > CHUNK:
            break
        last = len(data)
        data += record
        done += 1
    assert done, "a record must fit into a chunk"
    first_id, last_id, free = events[0].record_id, events[done - 1].record_id, len(data)
    data += bytes(CHUNK - free)
    struct.pack_into("<8s4Q3L", data, 0, b"ElfChnk\0", number + 1, number + done, first_id, last_id, 128, last, free)
    return bytes(sealed(data)), events[done:]


def sealed(chunk: bytearray) -> bytearray:
    """The chunk with checksums that fit."""
    (free,) = struct.unpack_from("<L", chunk, 48)
    struct.pack_into("<L", chunk, 52, crc32(chunk[CHUNK_HEADER:free]))
    struct.pack_into("<L", chunk, 124, crc32(chunk[128:CHUNK_HEADER], crc32(chunk[:120])))
    return chunk


def whole_chunks(data: bytes) -> Iterator[bytes]:
    """Whatever has the signature of a chunk and two checksums that are right, at any sector of a disk or a file."""
    for at in range(0, len(data), 512):
        if data[at : at + 8] != b"ElfChnk\0":
            continue
        chunk = data[at : at + CHUNK].ljust(CHUNK, b"\0")
        free, data_sum = struct.unpack_from("<LL", chunk, 48)
        head_sum = crc32(chunk[:120] + chunk[128:CHUNK_HEADER]).to_bytes(4, "little")
        if CHUNK_HEADER <= free <= CHUNK and crc32(chunk[CHUNK_HEADER:free]) == data_sum and chunk[124:128] == head_sum:
            yield chunk


def digests_in(chunk: bytes) -> Iterator[int]:
    """The digests of the records of a whole chunk, which follow each other up to its free space."""
    (free,) = struct.unpack_from("<L", chunk, 48)
    at = CHUNK_HEADER
    while at < free:
        (size,) = struct.unpack_from("<L", chunk, at + 4)
        yield int.from_bytes(blake2b(chunk[at : at + size], digest_size=8).digest(), "little")
        at += size


def _record(event: Event, at: int) -> bytes:
    """A record that begins at this offset in its chunk."""
    xml = _Xml(at + 24)
    xml.fragment(event)
    size = 24 + len(xml.data) + 4
    padding = -size % 8
    size += padding
    head = struct.pack("<4sLQQ", b"**\0\0", size, event.record_id, event.filetime)
    return head + bytes(xml.data) + bytes(padding) + struct.pack("<L", size)


@cache
def _spelled(name: str) -> bytes:
    """A name as binary XML has it, with its hash."""
    code = 0
    for character in name:
        code = (code * 65599 + ord(character)) & 0xFFFFFFFF
    return struct.pack("<LHH", 0, code & 0xFFFF, len(name)) + name.encode("utf-16-le") + b"\0\0"


class _Xml:
    """Binary XML that begins at an offset in its chunk: names refer to where they are."""

    def __init__(self, at: int) -> None:
        self.at, self.data = at, bytearray()
        self.opened: list[int] = []  # where the sizes of the open elements are

    def fragment(self, event: Event) -> None:
        """The whole of a record."""
        self.data += b"\x0f\x01\x01\x00"
        time = event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.open("Event", {"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"})
        self.open("System", {})
        self.element("Provider", "", {"Name": event.provider})
        for name, value in (("EventID", event.event_id), ("Version", 0), ("Level", event.level), ("Task", 0)):
            self.element(name, str(value), {})
        self.element("Opcode", "0", {})
        self.element("Keywords", event.keywords, {})
        self.element("TimeCreated", "", {"SystemTime": time})
        self.element("EventRecordID", str(event.written_id or event.record_id), {})
        self.element("Execution", "", {"ProcessID": "4", "ThreadID": "8"})
        self.element("Channel", event.channel, {})
        self.element("Computer", event.computer, {})
        self.close()
        self.open("EventData", {})
        for name, value in event.data.items():
            self.element("Data", value, {"Name": name})
        self.close()
        self.close()
        self.data += b"\0"

    def element(self, name: str, text: str, attributes: Mapping[str, str]) -> None:
        """An element with a text, which may be empty."""
        self.open(name, attributes)
        if text:
            self._value(text)
        self.close()

    def open(self, name: str, attributes: Mapping[str, str]) -> None:
        """The start of an element."""
        self.data += struct.pack("<BL", 0x41 if attributes else 0x01, 0)
        self.opened.append(len(self.data) - 4)
        self._name(name)
        if attributes:
            size_at = len(self.data)
            self.data += bytes(4)
            left = len(attributes)
            for attribute, value in attributes.items():
                left -= 1
                self.data += b"\x46" if left else b"\x06"
                self._name(attribute)
                self._value(value)
            struct.pack_into("<L", self.data, size_at, len(self.data) - size_at - 4)
        self.data += b"\x02"

    def close(self) -> None:
        """The end of an element."""
        self.data += b"\x04"
        size_at = self.opened.pop()
        struct.pack_into("<L", self.data, size_at, len(self.data) - size_at - 4)

    def _name(self, name: str) -> None:
        """A name, right where it is used."""
        self.data += struct.pack("<L", self.at + len(self.data) + 4) + _spelled(name)

    def _value(self, text: str) -> None:
        coded = text.encode("utf-16-le", "surrogatepass")
        self.data += struct.pack("<BBH", 0x05, 0x01, len(coded) // 2) + coded


# One invented machine

START = datetime(2021, 5, 23, 22, 24, 16, 123456, tzinfo=UTC)
COUNTS = {"Security": 300, "System": 120, "Microsoft-Windows-Kernel-PnP%4Device Configuration": 7}


def events(count: int, channel: str = "Security", first: int = 1) -> list[Event]:
    """So many records, a second apart."""
    return [
        Event(
            number,
            4625 if number % 10 == 0 else 4624,
            START + timedelta(seconds=number),
            channel=channel,
            computer="EMSSERVER",
            data={"TargetUserName": "emsadmin", "LogonType": "2", "Number": str(number)},
        )
        for number in range(first, first + count)
    ]


def write_machine(folder: Path) -> Path:
    """A folder as KAPE makes it: three logs below C/Windows/System32/winevt/Logs, and a file of another kind."""
    below = folder / "C" / "Windows" / "System32" / "winevt" / "Logs"
    for name, count in COUNTS.items():
        write_log(below / f"{name}.evtx", events(count, name), spare=2)
    (folder / "C" / "Windows" / "notes.txt").write_text("not a log")
    return folder


def total(names: Sequence[str] = tuple(COUNTS)) -> int:
    """The records of these logs."""
    return sum(COUNTS[name] for name in names)


def by_libevtx(log: Path) -> Iterator[Any]:
    """The records that libevtx finds in a log; each can be asked until the next one is taken."""
    import pyevtx  # not there where a disk image is only made, as in the demo

    file = pyevtx.file()
    file.open(str(log))
    for number in range(file.get_number_of_records()):
        yield file.get_record(number)
