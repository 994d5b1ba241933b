"""The columns of a table of handshakes, and what is said of a table that lacks some."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from fanfold.errors import UsageError

NEEDED = ("key", "role", "n", "handshake_ms")
ADDRESS = ("prefix", "ip")
"""One of these columns is needed, too."""
OPTIONAL = ("initcwnd", "first_flight_bytes")
WORDS = f"{', '.join(NEEDED)}, and {' or '.join(ADDRESS)}"
"""What a table must have, for errors."""
UNPARSABLE = "cannot be parsed"
"""Why a row is dropped."""
_SHOWN = 120  # characters of a header in an error
_OTHER_NAMES = {
    "handshake_ms": re.compile(r"handshake|tls.*(time|dur)|^Th$", re.IGNORECASE),
    " or ".join(ADDRESS): re.compile(r"addr|client|peer|(^|[^a-z])(ip|host)$|I[Pp]$", re.IGNORECASE),
    "key": re.compile(r"(^|[^a-z])(id|uuid|pair|request_?id)$", re.IGNORECASE),
    "role": re.compile(r"kind|type|variant|arm$", re.IGNORECASE),
    "n": re.compile(r"count|dummies|certs?$|certificates", re.IGNORECASE),
}
"""What such a column is often called, in logs of other servers."""


def wanted(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The columns to read of those that are there, and the ones that are missing."""
    there = list(names)
    address = next((name for name in ADDRESS if name in there), None)
    missing = [name for name in NEEDED if name not in there] + ([] if address else [" or ".join(ADDRESS)])
    known = (*NEEDED, *filter(None, [address]), *OPTIONAL)
    return [name for name in known if name in there], missing


def no_table(source: str, names: Sequence[str], missing: Sequence[str], has: str = "Its header is") -> UsageError:
    """What to raise for a table with these columns, which lacks some."""
    likely = [f"'{one}' for {name}" for name in missing if (one := _likely(name, names))]
    hint = f" Is it {', '.join(likely)}? Rename what is meant, with times in ms." if likely else ""
    return UsageError(
        f"{source} lacks the columns {', '.join(missing)}. {has}: {shown(','.join(names))}. "
        f"An analysis needs {WORDS}.{hint}"
    )


def _likely(missing: str, names: Sequence[str]) -> str:
    """The column that may be meant, under another name; empty if none looks like it."""
    names = [name for name in names if re.fullmatch(r"[\w .$-]{1,40}", name)]
    plain = {name.strip().lower(): name for name in names}
    meant = ADDRESS if missing not in NEEDED else (missing,)
    near = [plain[one] for one in (*meant, *get_close_matches(missing, plain, 1, 0.7)) if one in plain]
    return next(iter([*near, *filter(_OTHER_NAMES[missing].search, names)]), "")


def shown(line: str) -> str:
    """The start of a header, for an error."""
    return f"`{line[:_SHOWN]}`" + ("..." if len(line) > _SHOWN else "")
