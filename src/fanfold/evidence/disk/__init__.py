"""Disk images: a medium of bytes, whatever files it is kept in.

image.E01, image.E02, ... ──sections.py, ewf.py──┐
image.001, image.002, ... ──raw.py───────────────┴──▶ a `Medium`: read_at(offset, length), and what of it is damaged
"""

import errno
from collections.abc import Sequence

from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.medium import Medium, SegmentFile
from fanfold.evidence.disk.raw import RAW_SUFFIXES, Raw
from fanfold.evidence.disk.sections import SIGNATURE
from fanfold.evidence.disk.virtual import SIGNATURES, Virtual

__all__ = ["is_image", "open_medium"]


def open_medium(files: Sequence[SegmentFile]) -> Medium:
    """The medium in an image's files. Raises Unreadable, and OSError."""
    try:
        head = files[0].read(0, 8)
    except OSError as error:
        # The first sector of a disk that fails; the other kinds cannot be read without theirs.
        if error.errno != errno.EIO or not files[0].name.lower().endswith(RAW_SUFFIXES):
            raise
        head = b""
    if head == SIGNATURE:
        return Ewf.open(files)
    return Virtual(files[0]) if head.startswith(tuple(SIGNATURES)) else Raw(files)


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is a disk image, but for raw ones, which begin in any way."""
    return head.startswith((SIGNATURE, *SIGNATURES))
