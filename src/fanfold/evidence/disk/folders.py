"""The event logs of a volume without a master file table, such as a stick with FAT or exFAT: its folders are walked.

Deleted files are found by the names that their folders still have. Their clusters are taken to follow each other, since
FAT keeps no list of the clusters of a deleted file.
"""

from collections.abc import Iterator

import pytsk3

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.disk.ntfs import FileSystem, FoundLog

_DEPTH = 64
_MOST = 1 << 20  # names that are looked at: a damaged folder may have any number
_DOTS = (".", "..")


def logs_in_folders(system: FileSystem) -> Iterator[FoundLog | str]:
    """The event logs of a volume, each once; in place of what cannot be read, a sentence.

    Raises Unreadable if the volume has no root folder, and OSError if the medium cannot be read.
    """
    seen = {int(system.system.info.root_inum)}  # a folder may be inside itself
    pending = [("", int(system.system.info.root_inum), False)]
    left = _MOST
    while pending:
        folder, inode, is_gone = pending.pop()
        try:
            entries = system.folder(inode)
        except Unreadable as error:
            if not folder:
                raise
            if not is_gone:  # the clusters of a deleted folder are often those of other files
                yield f"{folder} cannot be read: {error}"
            continue
        for name, meta in entries:
            left -= 1
            if not left:
                yield f"It has more than {_MOST:,} names; the rest was not looked at."
                return
            number = int(meta.addr)
            if name in _DOTS or number in seen:
                continue
            path = f"{folder}/{name}" if folder else name
            is_deleted = not int(meta.flags) & int(pytsk3.TSK_FS_META_FLAG_ALLOC)
            if int(meta.type) == int(pytsk3.TSK_FS_META_TYPE_DIR):
                seen.add(number)
                if path.count("/") < _DEPTH:
                    pending.append((path, number, is_deleted))
            elif name.lower().endswith(".evtx"):
                seen.add(number)
                yield FoundLog(path, number, int(meta.size), is_deleted)
