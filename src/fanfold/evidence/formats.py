"""What a file is, by its first bytes and its name."""

from fanfold.evidence.disk import is_image
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.disk.raw import RAW_SUFFIXES
from fanfold.job import Item

_UNPACK = "Unpack it, and scan the folder"
_EXPORT = "Save it as an E01 or a raw image with EnCase or X-Ways; then scan that"
CONVERT = "Convert it with: wevtutil export-log FILE.evt FILE.evtx /lf"
SPLIT = "a part of a zip archive in several files. Join them: zip -s 0 ARCHIVE.zip --out WHOLE.zip; then scan that"
UNREADABLE: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x07\x08", SPLIT),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive. {_UNPACK}"),
    (0, b"Rar!\x1a\x07", f"a RAR archive. {_UNPACK}"),
    (0, b"\x1f\x8b", f"a gzip file. {_UNPACK}"),
    (0, b"\xfd7zXZ\0", f"an xz file. {_UNPACK}"),
    (0, b"BZh91AY&SY", f"a bzip2 file. {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a Zstandard file. {_UNPACK}"),
    (257, b"ustar", f"a tar archive. {_UNPACK}"),
    (4, b"LfLe", f"an event log of Windows XP or 2003 (.evt). {CONVERT}"),
    (0, b"ADSEGMENTEDFILE", "an AD1 image. Export its files with FTK Imager, and scan the folder"),
    (0, b"LVF\x09\x0d\x0a\xff\x00", "a logical image (L01). Export its files with EnCase, and scan the folder"),
    (0, b"LEF2\x0d\x0a\x81\x00", "a logical image (Lx01). Export its files with EnCase, and scan the folder"),
    (0, b"ADCRYPT\0", "an image that FTK Imager has encrypted. Decrypt it there with its password; then scan that"),
    (0, b"EVF2\x0d\x0a\x81\x00", f"an EnCase 7 image (Ex01). {_EXPORT}"),
    (0, b"AFF10\r\n\0", "an AFF image. Make a raw one of it with: affcat IMAGE.aff > IMAGE.raw; then scan that"),
    (0, b"# Disk DescriptorFile", "a VMDK that only names other files. Scan those: NAME-flat.vmdk is a raw image"),
)
"""Formats that may hold event logs but cannot be read: the offset of their signature, the signature, and a message."""

_CALLED_IMAGES = (".e01", ".s01", ".vhd", ".vhdx", ".vmdk", ".qcow2")
_SMALLEST_DISK = 1 << 20  # bytes


def is_disk_image(item: Item, head: bytes) -> bool:
    """Whether a file is a disk image that can be read.

    A raw one begins with a boot record or with a volume, or is called like one.
    """
    if is_image(head):
        return True
    if item.size < _SMALLEST_DISK:
        return False
    has_table = head[510:512] == b"\x55\xaa" or head.startswith(b"EFI PART", 512)
    return has_table or item.key.lower().endswith(RAW_SUFFIXES)


def check_readable(head: bytes) -> None:
    """Raise Unreadable for a file of a format that may hold event logs, but cannot be read."""
    for at, signature, what in UNREADABLE:
        if head.startswith(signature, at):
            raise Unreadable(f"This is {what}.")


def check_name(item: Item, head: bytes) -> None:
    """Raise Unreadable for a file that is none of the kinds that are known, and is called like a disk image."""
    if item.key.lower().endswith(_CALLED_IMAGES):
        raise Unreadable(
            f"This is a disk image by its name, but it does not begin like one ({head[:8].hex(' ')}): it is damaged, "
            "or something else. To look for logs in its bytes all the same, copy it to NAME.raw and scan that."
        )
