"""Disks of virtual machines as media: VHD, VHDX, VMDK and qcow2, read by libyal's libraries.

The libraries are LGPL, so they are an extra of their own. None of them takes the place of a verification: these formats
have no digest of the disk.
"""

import importlib
import struct
import threading
from collections.abc import Callable
from typing import Any

from fanfold.evidence.disk.library import Reader, asked, blocks
from fanfold.evidence.disk.medium import SegmentFile, Unchecked, Unreadable

SIGNATURES: dict[bytes, str] = {
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"KDMV": "VMDK",
    b"QFI\xfb": "qcow2",
}
"""The first bytes of a file of each kind."""
_LARGEST = 64 << 40  # bytes of a disk: VHDX has at most so many, and the others no more
_UNIT = 65536  # bytes that are given up at once where the image is damaged
_COMPRESSED = 1 << 62  # in an entry of qcow2's second table
_PLACE = (1 << 56) - 512  # the bits of a place in an entry


class Virtual(Unchecked):
    """The disk of a virtual machine."""

    def __init__(self, file: SegmentFile) -> None:
        """Raises Unreadable, and OSError if the file cannot be read."""
        super().__init__()
        head = file.read(0, 8)
        self.kind = next(kind for signature, kind in SIGNATURES.items() if head.startswith(signature))
        self.name = file.name
        self._file, self._lock = Reader(file), threading.Lock()
        if self.kind == "qcow2":
            _check_clusters(file)
        self._image = self._asked(lambda: _OPEN[self.kind](self._file))
        self.end = self.size = int(self._image.get_media_size())
        if self.size > _LARGEST:
            raise Unreadable(f"{self.name} claims {self.size:,} bytes, more than such a disk can have: it is damaged.")

    def read_at(self, offset: int, length: int) -> bytes:
        """See `Medium.read_at`."""
        length = max(0, min(length, self.size - offset))
        with self._lock:
            try:
                return self._read(offset, length) if length else b""
            except Unreadable:
                return b"".join(self._part(*block) for block in blocks(offset, offset + length, _UNIT))

    def _part(self, offset: int, length: int) -> bytes:
        """A part within one unit; zeros if it cannot be read."""
        try:
            return self._read(offset, length)
        except Unreadable as error:
            start = offset // _UNIT * _UNIT
            self.note(start, min(_UNIT, self.size - start), self.name, None, str(error))
            return bytes(length)

    def _read(self, offset: int, length: int) -> bytes:
        data = bytes(self._asked(lambda: self._image.read_buffer_at_offset(length, offset)))
        if len(data) != length:
            raise Unreadable("it gives fewer bytes than it should")
        return data

    def _asked(self, ask: Callable[[], Any]) -> Any:
        return asked(ask, self._file, f"{self.name} is damaged, or of a kind that is not known: ")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise Unreadable(
            "This is the disk of a virtual machine, which needs the extra 'evidence-vm'. "
            "Install it with: pip install 'fanfold[evidence-vm]'"
        ) from None


def _vhd(file: Reader) -> Any:
    library = _library("pyvhdi")
    image = library.file()
    image.open_file_object(file)
    if image.get_disk_type() == library.disk_types.DIFFERENTIAL:
        raise _changes_only(image.get_parent_filename())
    return image


def _vmdk(file: Reader) -> Any:
    image = _library("pyvmdk").handle()
    image.open_file_object(file)
    if parent := image.get_parent_filename():
        raise _changes_only(parent)
    image.open_extent_data_files_as_file_objects([file])
    return image


def _qcow(file: Reader) -> Any:
    image = _library("pyqcow").file()
    image.open_file_object(file)
    if parent := image.get_backing_filename():
        raise _changes_only(parent)
    return image


_OPEN: dict[str, Callable[[Reader], Any]] = {"VHD": _vhd, "VHDX": _vhd, "VMDK": _vmdk, "qcow2": _qcow}


def _changes_only(parent: str | None) -> Unreadable:
    named = f" '{parent}'" if parent else ""
    return Unreadable(
        f"This image has only the changes to another one{named}. "
        "Make one of both with: qemu-img convert -O raw IMAGE whole.raw; then scan that."
    )


def _check_clusters(file: SegmentFile) -> None:
    """Raise Unreadable for a qcow2 image that is encrypted, or has compressed clusters: libqcow reads them wrong.

    Format: QEMU's "Qcow2 Image File Format".
    """
    head = file.read(0, 72)
    if len(head) < 72:
        raise Unreadable(f"{file.name} is cut off.")
    _, version, backing, _, bits, _, encryption, entries, table = struct.unpack_from(">4sLQLLQLLQ", head)
    if version < 2 or not 9 <= bits <= 21:
        raise Unreadable(f"{file.name} is a qcow image of a version that cannot be read ({version}).")
    if backing:
        at, length = struct.unpack_from(">QL", head, 8)
        raise _changes_only(file.read(at, min(length, 1024)).decode("utf-8", "replace"))
    if encryption:
        raise Unreadable(f"{file.name} is encrypted. Make a copy that is not with qemu-img; then scan that.")
    first = struct.iter_unpack(">Q", _whole(file.read(table, min(8 * entries, file.size))))
    for place in {entry & _PLACE for (entry,) in first}:  # each once: all of a damaged one may name the same
        if place % (1 << bits):
            raise Unreadable(f"{file.name} is damaged: a table of its clusters does not begin where one can.")
        second = _whole(file.read(place, 1 << bits)) if place and place < file.size else b""
        if any(cluster & _COMPRESSED for (cluster,) in struct.iter_unpack(">Q", second)):
            raise Unreadable(
                f"{file.name} has compressed clusters, which cannot be read. "
                "Make a copy without them: qemu-img convert -O raw IMAGE whole.raw; then scan that."
            )


def _whole(table: bytes) -> bytes:
    """The entries of a table that are there as a whole."""
    return table[: len(table) // 8 * 8]
