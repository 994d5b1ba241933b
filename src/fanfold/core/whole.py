"""Which files of a run are whole.

A power cut may leave a file that is empty, cut off or full of something else. Not by pydantic: every
worker would import it, for half a second and 9 MB.
"""

from collections.abc import Mapping
from typing import Any

_NEEDED: Mapping[str, Mapping[str, type]] = {
    "plan.json": dict.fromkeys(("listed", "planned", "bytes", "tasks"), int),
    "report.json": {"run": str, "ended": str, **dict.fromkeys(("listed", "unchanged", "ok", "failed"), int)},
    "receipts": {"status": str, **dict.fromkeys(("task", "attempt", "items", "ok", "failed"), int)},
    "jobs.json": {"executor": str, "jobs": list},
    "lost": {"items": int, "error": str},
}
"""What a file must hold, or it is torn: the file's name, or its folder's, and the types of its values."""
_POSSIBLE: Mapping[str, Mapping[str, type]] = {
    "run.json": {
        **dict.fromkeys(("driver", "job", "recipe", "options"), dict),
        **dict.fromkeys(("id", "started", "table", "root"), str),
        "sources": list,
    },
    "plan.json": {"unchanged": int, "failed_before": int, "left_out": dict},
    "report.json": {"left_out": dict, "stages": dict, "mirror": dict, "reasons": dict, "unread": int},
    "receipts": {"rows": list, "failures": list, "details": dict, "seconds": dict, "unread": int},
}
"""The same of values that may be absent."""


def is_whole(name: str, content: object) -> bool:
    """Whether a file's content is what such a file holds."""
    kind = name.partition("/")[0]
    return (
        isinstance(content, dict)
        and all(isinstance(content.get(key), what) for key, what in _NEEDED.get(kind, {}).items())
        and all(isinstance(content[key], what) for key, what in _POSSIBLE.get(kind, {}).items() if key in content)
        and (kind != "receipts" or _has_fragments(content))
    )


def _has_fragments(receipt: Mapping[str, Any]) -> bool:
    """Whether what a receipt names are fragments, as far as it names any."""
    lists = [receipt.get("rows", []), receipt.get("failures", []), *receipt.get("details", {}).values()]
    return all(isinstance(fragments, list) and all(map(_is_fragment, fragments)) for fragments in lists)


def _is_fragment(content: Any) -> bool:
    """Whether this is the metadata of a fragment: its files, at least."""
    files = content.get("files") if isinstance(content, dict) else None
    if not files or not isinstance(files, list):
        return False
    if not all(isinstance(file, dict) and isinstance(file.get("path"), str) for file in files):
        return False
    sums = content.get("crc32", files)
    return isinstance(sums, list) and len(sums) == len(files)
