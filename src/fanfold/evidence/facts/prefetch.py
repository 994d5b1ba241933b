"""Facts from Prefetch: programs that ran, how often, when last, and from which volume. Servers keep none.

They are read by libyal's library libscca, which is LGPL, so it is an extra of its own. It reads whole files only.

Format: libyal's "Windows Prefetch File (PF) format", sections 2 to 4.
"""

import importlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from fanfold.evidence.disk.library import one_line
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import filetime
from fanfold.evidence.facts.xpress import unpacked
from fanfold.evidence.times import iso

_TIMES = 8  # last runs that a file has at most
_ONLY_THE_BEGINNING = (
    "Only the beginning of this file of Prefetch is whole: the name of the program, how often it ran, and when. "
    "From which volume it ran is not known."
)
_LARGEST = 64 << 20  # bytes of a file
_PACKED, _HAS_CHECKSUM = b"MAM", 0x80
_RUNS = {
    17: (120, 1, 144), 23: (128, 1, 152), 26: (128, _TIMES, 208), 30: (128, _TIMES, 208), 31: (128, _TIMES, 208),
}  # fmt: skip
"""By the format's version: where the times of the last runs begin, how many they are, and where their count is."""
_METRICS, _SHORTER = 84, (296).to_bytes(4, "little")  # where the head says that it ends, if it has 8 bytes less
_PATHS = 100  # where the head says where the paths of what was loaded are, and how long
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
    content, is_all = _content(data)
    wrong = "its end is missing, or damaged"
    if is_all:
        try:
            yield _whole(file, content)
            return
        except OSError as error:
            wrong = one_line(error)
    if not (found := _beginning(content)):
        raise Unreadable(f"This is not a whole file of Prefetch: {wrong}.")
    yield found
    raise Unreadable(_ONLY_THE_BEGINNING)


def _whole(file: Any, content: bytes) -> Fact:
    """What libscca reads. Raises OSError."""
    file.open_file_object(BytesIO(content))
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
    return Fact("prefetch", name, value, "")


def _content(data: bytes) -> tuple[bytes, bool]:
    """What a file holds, unpacked, as far as it stands; and whether that is all.

    libscca takes zeros for what is missing of a packed one.
    """
    size, content = int.from_bytes(data[12:16], "little"), data
    if data.startswith(_PACKED):
        size = int.from_bytes(data[4:8], "little")
        content = unpacked(data[12 if data[3] & _HAS_CHECKSUM else 8 :], min(size, _LARGEST))
    return content, len(content) >= size


def _beginning(head: bytes) -> Fact | None:
    """What the beginning of a damaged file says of its program; None if that is damaged, too."""
    times_at, most, count_at = _RUNS.get(int.from_bytes(head[:4], "little"), (0, 0, 0))
    if head[_METRICS : _METRICS + 4] == _SHORTER:
        count_at -= 8
    name = head[16:76].decode("utf-16-le", "replace").partition("\0")[0]
    if head[4:8] != b"SCCA" or not most or len(head) < count_at + 4 or not name.isprintable():
        return None
    times = [int.from_bytes(head[at : at + 8], "little") for at in range(times_at, times_at + 8 * most, 8)]
    value = {
        "count": int.from_bytes(head[count_at : count_at + 4], "little"),
        "times": [iso(time) for time in map(filetime, times) if time],
        "path": _path(name, _loaded(head)),
        "volume": "",
        "windows_volume": "",
    }
    return Fact("prefetch", name, value, "")


def _loaded(head: bytes) -> list[str]:
    """The files that the program loaded, if all of their paths are there."""
    at, length = (int.from_bytes(head[place : place + 4], "little") for place in (_PATHS, _PATHS + 4))
    return head[at : at + length].decode("utf-16-le", "replace").split("\0") if at + length <= len(head) else []


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
