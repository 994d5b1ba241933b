"""The user's cache: the folder where models stay between runs. Its files are never half written."""

import functools
import hashlib
import os
import tempfile
from contextlib import suppress
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


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex; remembered while its time and size stay the same. Raises OSError."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
