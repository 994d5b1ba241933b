"""Disk images: a medium of bytes, whatever files it is kept in.

image.E01, image.E02, ... ──sections.py, ewf.py──┐
image.001, image.002, ... ──raw.py───────────────┴──▶ a `Medium`: read_at(offset, length), and what of it is damaged
"""

from collections.abc import Sequence

from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.medium import Medium, SegmentFile
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.disk.sections import SIGNATURE
from fanfold.evidence.disk.virtual import SIGNATURES, Virtual

__all__ = ["is_image", "open_medium"]


def open_medium(files: Sequence[SegmentFile]) -> Medium:
    """The medium in an image's files. Raises Unreadable, and OSError."""
    if files[0].read(0, len(SIGNATURE)) == SIGNATURE:
        return Ewf.open(files)
    if files[0].read(0, 8).startswith(tuple(SIGNATURES)):
        return Virtual(files[0])
    return Raw(files)


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is a disk image, but for raw ones, which begin in any way."""
    return head.startswith((SIGNATURE, *SIGNATURES))
