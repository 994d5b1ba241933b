"""The user's cache: where models are kept between runs, and how files get there whole."""

import functools
import hashlib
import os
import tempfile
from pathlib import Path

from fanfold.errors import FanfoldError


def cache_dir() -> Path:
    """`$FANFOLD_CACHE`, else `$XDG_CACHE_HOME/fanfold`, else `~/.cache/fanfold`. Safe to delete at any time.

    https://specifications.freedesktop.org/basedir-spec/latest/: an XDG_CACHE_HOME that is not absolute is ignored.
    """
    if ours := os.environ.get("FANFOLD_CACHE"):
        return Path(ours).absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".cache") / "fanfold"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that others see complete or not at all, whoever else is writing it. Raises FanfoldError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise FanfoldError(
            f"The cache {path.parent} cannot be written: {error.strerror}. Set FANFOLD_CACHE to a folder that can."
        ) from error


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex; remembered as long as its time and size stay. Raises OSError."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
