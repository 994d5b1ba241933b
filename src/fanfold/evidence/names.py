r"""Which machine a loose log is of, and where it lay there.

Triage tools keep the paths of the machine, each in its own way:

    host1/C/Windows/System32/winevt/Logs/System.evtx              KAPE            host1     C:/Windows/...
    host1/uploads/auto/C%3A/Windows/.../Security.evtx             Velociraptor    host1     C:/Windows/...
    server/System.evtx                                            copied by hand  server    System.evtx
"""

import re
from urllib.parse import unquote

_DRIVE = re.compile(r"[A-Z]|[A-Za-z](:|%3[Aa])")
_STARTS = frozenset({"windows", "windows.old", "winevt", "uploads", "logs"})


def machine_and_path(key: str, collection: str) -> tuple[str, str]:
    """The name of a machine, and a path on it, of a file below a folder called `collection`."""
    *folders, name = key.split("/")
    start = next((at for at, folder in enumerate(folders) if _is_start(folder)), len(folders))
    return "/".join(folders[:start]) or collection, path_on_machine([*folders[start:], name])


def _is_start(folder: str) -> bool:
    return bool(_DRIVE.fullmatch(folder)) or folder.lower() in _STARTS


def path_on_machine(parts: list[str]) -> str:
    """The path of a file, as the machine had it, of a path in what a triage tool has collected."""
    if parts[0].lower() == "uploads":
        # Velociraptor: uploads/ACCESSOR/DRIVE/..., where it has escaped what a file's name cannot hold.
        parts = [unquote(part) for part in parts[2:]] or parts[-1:]
        parts[0] = parts[0].removeprefix("\\\\.\\")
    elif len(parts) > 1 and _DRIVE.fullmatch(parts[0]):
        parts = [unquote(parts[0]).rstrip(":") + ":", *parts[1:]]
    return "/".join(parts)
