"""The user's cache: the folder where models stay between runs. Its files are never half written."""

import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs.unix import Unix

from fanfold.errors import FanfoldError


def cache_dir() -> Path:
    """`$FANFOLD_CACHE`, else `$XDG_CACHE_HOME/fanfold`, else `~/.cache/fanfold`. It can be deleted at any time."""
    if ours := os.environ.get("FANFOLD_CACHE"):
        return Path(ours).absolute()
    return Unix("fanfold").user_cache_path  # on macOS as well, where older versions kept it there


def find(folder: Path, key: str) -> Path | None:
    """The unharmed file that `keep` wrote under `key`, if there is one; damaged ones are removed."""
    for file in folder.glob(f"{key}.*.onnx"):
        with suppress(OSError):  # another process may remove it
            if digest(file) == file.suffixes[-2][1:]:
                return file
        file.unlink(missing_ok=True)
    return None


def keep(folder: Path, key: str, content: bytes) -> Path:
    """Write `<key>.<SHA-256>.onnx`, so that damage is noticed. Raises FanfoldError."""
    file = folder / f"{key}.{hashlib.sha256(content).hexdigest()}.onnx"
    write_whole(file, content)
    return file


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that other processes see it complete or not at all. Raises FanfoldError."""
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
            f"Cannot write to the cache {path.parent}: {error.strerror}. Set FANFOLD_CACHE to a writable folder."
        ) from error


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for other processes that make the same file. In a cache that cannot be written to, nobody waits."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = path.with_name(f".{path.name}.lock").open("wb")
    except OSError:
        yield
        return
    with lock:  # closing it gives it back, and so does the end of the process
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex; remembered while its time and size stay the same. Raises OSError."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
