"""Files of results: each is written under another name, and gets its own name when it is whole."""

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fanfold.errors import UsageError

_FORGOTTEN = 600  # seconds without a write, after which an unfinished file is one that a killed command left


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to. It replaces `path` at the end of the block; if the block fails, it is removed.

    Raises UsageError if it cannot be written.
    """
    try:
        _clear(path)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        if not path.parent.exists():
            raise UsageError(f"The folder {path.parent} does not exist. Make it first.") from None
        raise UsageError(f"Cannot write {path}: {error.strerror or error}.") from error


def _clear(path: Path) -> None:
    """Remove unfinished files of this name that killed commands have left. Raises OSError if `path` is a folder."""
    if path.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _FORGOTTEN:
                left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
