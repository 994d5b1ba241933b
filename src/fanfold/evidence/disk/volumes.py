"""The volumes of a disk: its partitions by MBR or GPT, or the whole disk if it has no partition table.

Formats: "Master boot record" and "Extended boot record" as Windows writes them; UEFI Specification 2.10, section 5.
"""

import struct
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import numpy as np

from fanfold.evidence.disk.medium import Medium

_SECTORS = (512, 4096)  # bytes of a sector that disks have
_MOST = 128  # partitions: a chain of extended boot records may be a circle
_MBR_ENTRY = struct.Struct("<B3xB3xLL")
_GPT = struct.Struct("<8s4xLL4x4Q16sQLLL")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
SPANNED = {
    "42": "a dynamic disk",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "a dynamic disk",  # data of the Logical Disk Manager
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "a storage space",
}
"""Types of partitions whose volumes may lie on several disks, and what Windows makes of them."""
WITHOUT_LOGS = frozenset({
    "27",  # recovery, hidden
    "82",  # swap of Linux
    "ef",  # EFI
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",  # EFI
    "e3c9e316-0b5c-4db8-817d-f92df00215ae",  # reserved by Microsoft
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac",  # recovery
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",  # the table of the Logical Disk Manager
    "21686148-6449-6e6f-744e-656564454649",  # the boot loader of a BIOS
    "0657fd6d-a4ab-43c4-84e5-0933c0e1a2bf",  # swap of Linux
})  # fmt: skip
"""Types of partitions where Windows keeps no logs. They are searched all the same, if their file system can be read."""

SYSTEMS: tuple[tuple[int, bytes, str], ...] = (
    (3, b"NTFS    ", "NTFS"),
    (3, b"-FVE-FS-", "BitLocker"),
    (3, b"EXFAT   ", "exFAT"),
    (3, b"ReFS\0\0\0\0", "ReFS"),
    (424, bytes.fromhex("3bd66749292ed84a8399f6a339e3d001"), "BitLocker"),  # To Go: a small FAT says how to unlock it
    (82, b"FAT32   ", "FAT32"),
    (54, b"FAT", "FAT"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"XFSB", "XFS"),
    (32, b"NXSB", "APFS"),
    (0x400, b"H+\0\x04", "HFS+"),
    (0x438, b"\x53\xef", "ext"),
    (0x10040, b"_BHRfS_M", "Btrfs"),
)
"""File systems and encryptions by the bytes of a volume: an offset, a signature and a name."""
SHADOW_COPY = "shadow copy"
_SAMPLE, _NO_ORDER = 1 << 16, 7.99
_SIGNED = 0x10048  # bytes that `SYSTEMS` looks at
_Partition = tuple[int, int, str, str]  # start and size in bytes, type, label


class Volume(NamedTuple):
    """A volume of a disk."""

    name: str
    """p1 for the first partition, p1@vss1 for its oldest shadow copy."""
    start: int
    """Bytes."""
    size: int
    kind: str
    """Its type: a number or a GUID, empty without a partition table; `SHADOW_COPY` for a shadow copy."""
    system: str
    """Its file system or encryption; empty if it is not known."""
    label: str = ""
    created: datetime | None = None
    """When a shadow copy was made."""


def name_of_copy(volume: str, number: int) -> str:
    """The name of a shadow copy of a volume: p1@vss1."""
    return f"{volume}@vss{number}"


def volumes(medium: Medium, problems: list[str] | None = None) -> list[Volume]:
    """The volumes of a disk, in the order of their names. What is wrong with its table is added to `problems`."""
    system = system_of(medium, 0)
    if system.startswith(("NTFS", "BitLocker", "exFAT", "FAT", "ReFS", "LUKS")):
        return [Volume("p1", 0, medium.size, "", system)]
    # What lies behind the first sector may be left from another file system, so a table of partitions comes first.
    found, problem = _gpt(medium)
    if problem and problems is not None:
        problems.append(problem)
    found = found or _by_mbr(medium)
    if system and not found:
        return [Volume("p1", 0, medium.size, "", system)]
    firsts = {start: (start, *rest) for start, *rest in reversed(found)}
    found = [one for one in found if firsts.pop(one[0], None)]  # of two with one start, the first
    return [
        Volume(f"p{number}", start, size, kind, system_of(medium, start), label)
        for number, (start, size, kind, label) in enumerate(found, 1)
    ]


def system_of(medium: Medium, start: int) -> str:
    """The file system or the encryption of the volume that begins at `start`; empty if it is not known."""
    head = medium.read_at(start, _SIGNED)
    return next((name for at, signature, name in SYSTEMS if head.startswith(signature, at)), "")


def looks_random(medium: Medium, start: int) -> bool:
    """Whether what begins at a place has no order at all, as what VeraCrypt and its like encrypt has none.

    64 KiB at random have an entropy of 7.997 bits in a byte, and what is compressed has less.
    """
    head = np.frombuffer(medium.read_at(start, _SAMPLE), np.uint8)
    shares = np.bincount(head, minlength=256) / max(1, len(head))
    shares = shares[shares > 0]
    return len(head) == _SAMPLE and bool(-(shares * np.log2(shares)).sum() > _NO_ORDER)


def _by_mbr(medium: Medium) -> list[_Partition]:
    """The partitions by the boot record, with the size of sectors for which some have a file system."""
    tries = [list(_mbr(medium, sector, 0, 0)) for sector in dict.fromkeys((medium.sector, *_SECTORS))]
    return next((one for one in tries if any(system_of(medium, start) for start, *_ in one)), tries[0])


def _mbr(
    medium: Medium, sector: int, at: int, first_extended: int, seen: frozenset[int] = frozenset()
) -> Iterator[_Partition]:
    """The partitions of a boot record and, behind them, those of the chain of extended boot records."""
    raw = medium.read_at(at, 512)
    if raw[510:512] != b"\x55\xaa" or len(seen) >= _MOST or at in seen:
        return
    entries = [_MBR_ENTRY.unpack_from(raw, 446 + 16 * number) for number in range(4)]
    chain = None
    for _, kind, start, sectors in entries:
        if not kind or not sectors:
            continue
        if kind in _EXTENDED:
            chain = chain or first_extended + start * sector
        elif kind != _PROTECTIVE and at + start * sector < medium.size:
            begin = at + start * sector
            yield begin, min(sectors * sector, medium.size - begin), f"{kind:02x}", ""
    if chain and chain < medium.size:
        yield from _mbr(medium, sector, chain, first_extended or chain, seen | {at})


def _gpt(medium: Medium) -> tuple[list[_Partition], str]:
    """The partitions of a GUID partition table, or of its copy at the disk's end; and what is wrong with it."""
    sectors = [*dict.fromkeys((medium.sector, *_SECTORS))]
    for sector in sectors:
        if (found := _gpt_at(medium, sector, sector)) is not None:
            return found, ""
    boot = medium.read_at(0, 512)
    kinds = {boot[at + 4] for at in range(446, 510, 16)} - {0} if boot[510:] == b"\x55\xaa" else set()
    if kinds and _PROTECTIVE not in kinds:  # the disk got another table since, and the copy was left
        return [], ""
    for sector in sectors:
        if (found := _gpt_at(medium, medium.size // sector * sector - sector, sector)) is not None:
            return (
                found,
                "Its partition table (GPT) is damaged, or was wiped; the copy of it at the disk's end was used.",
            )
    return [], "Its partition table (GPT) is damaged, and so is the copy of it." if kinds else ""


def _gpt_at(medium: Medium, at: int, sector: int) -> list[_Partition] | None:
    """The partitions of the table whose header is at this offset; None if none is there, or it is damaged."""
    raw = medium.read_at(at, 512)
    if len(raw) < 512 or not raw.startswith(b"EFI PART"):
        return None
    _, length, checksum, _, _, _, _, _, first, count, size, entries_checksum = _GPT.unpack_from(raw)
    if not 92 <= length <= 512 or zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != checksum:
        return None
    if not _GPT_ENTRY.size <= size <= 4096 or count > 8 * _MOST:
        return None
    entries = medium.read_at(first * sector, count * size)
    if zlib.crc32(entries) != entries_checksum:
        return None
    return [*_gpt_entries(entries, size, sector, medium.size)]


def _gpt_entries(entries: bytes, size: int, sector: int, end: int) -> Iterator[_Partition]:
    for at in range(0, len(entries) - size + 1, size):
        kind, _, first, last, _, label = _GPT_ENTRY.unpack_from(entries, at)
        if any(kind) and first <= last and first * sector < end:
            stop = min(end, (last + 1) * sector)
            yield first * sector, stop - first * sector, _guid(kind), label.decode("utf-16", "replace").rstrip("\0")


def _guid(raw: bytes) -> str:
    first, second, third = struct.unpack_from("<LHH", raw)
    return f"{first:08x}-{second:04x}-{third:04x}-{raw[8:10].hex()}-{raw[10:].hex()}"
