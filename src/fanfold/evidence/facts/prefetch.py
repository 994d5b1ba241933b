"""Facts from Prefetch: programs that ran, how often, when last, and from which volume. Servers keep none.

They are read by libyal's library libscca, which is LGPL, so it is an extra of its own.
"""

import importlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from fanfold.evidence.disk.library import one_line
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import filetime
from fanfold.evidence.times import iso

_TIMES = 8  # last runs that a file has at most
_LONGEST = 29  # characters of a program's name at most: the rest is cut off


def runs(data: bytes) -> Iterator[Fact]:
    """The program of a file of Prefetch. Raises Unreadable for a damaged one, and without the library."""
    try:
        file = importlib.import_module("pyscca").file()
    except ModuleNotFoundError:
        raise Unreadable(
            "Prefetch needs the extra 'evidence-prefetch'. Install it with: pip install "
            "'fanfold[evidence-prefetch]'; then scan again with --retry-failed"
        ) from None
    try:
        file.open_file_object(BytesIO(data))
        name = str(file.executable_filename)
        loaded = [str(file.get_filename(number)) for number in range(file.number_of_filenames)]
        volumes = [file.get_volume_information(number) for number in range(file.number_of_volumes)]
        path = _path(name, loaded)
        value = {
            "count": int(file.run_count),
            "times": [iso(time) for number in range(_TIMES) if (time := _time(file, number))],
            "path": path,
            "volume": _serial(volumes, path),
            "windows_volume": _serial(volumes, _windows(loaded)),
        }
    except OSError as error:
        raise Unreadable(f"This is not a whole file of Prefetch: {one_line(error)}") from error
    yield Fact("prefetch", name, value, "")


def _time(file: Any, number: int) -> Any:
    """A last run; None if there is none of this number. Windows before 8 keeps only one."""
    try:
        return filetime(file.get_last_run_time_as_integer(number))
    except OSError:
        return None


def _path(name: str, loaded: list[str]) -> str:
    """Where the program itself was, among the files that it loaded; empty if it is not named. Long names are cut."""
    wanted = f"\\{name.upper()}"
    return next((path for path in loaded if path.upper().endswith(wanted) or (
        len(name) >= _LONGEST and wanted in path.upper())), "")  # fmt: skip


def _windows(loaded: list[str]) -> str:
    """A file that every program loads from the volume of Windows."""
    return next((path for path in loaded if path.upper().endswith("\\SYSTEM32\\NTDLL.DLL")), "")


def _serial(volumes: list[Any], path: str) -> str:
    """The serial number of the volume that a path is on; empty if it is not known."""
    found = (one for one in volumes if path.upper().startswith(f"{str(one.device_path).upper()}\\"))
    return next((f"{one.serial_number:08X}" for one in found), "")
