"""Facts from the hive SAM: the accounts of the machine.

No password hashes are read. They are in the value V of each account, which is not looked at: the name and the number
of an account are also below the key Names.

Source: the value F of an account is the structure SAMPR_USER_ALL_INFORMATION in another order; the flags are those of
[MS-SAMR] 2.2.1.12, "USER_ACCOUNT Codes".
"""

import struct
from collections.abc import Iterator

from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.registry import Hive, filetime
from fanfold.evidence.times import iso

_ACCOUNTS = "SAM\\Domains\\Account"
_STATE = struct.Struct("<8xQ8xQ8xQL4xH6xHH")
_DISABLED, _NEEDS_NO_PASSWORD = 1, 4


def accounts(hive: Hive) -> Iterator[Fact]:
    """The accounts of the machine, and what begins the SID of each."""
    sid = _sid(hive)
    names = {value.kind: key.name for key in hive.below(f"{_ACCOUNTS}\\Users\\Names") for value in key.listed()}
    for key in hive.below(f"{_ACCOUNTS}\\Users"):
        state = key.value("F")
        if not isinstance(state, bytes) or len(state) < _STATE.size:
            continue
        logon, password, failed, number, flags, failures, logons = _STATE.unpack_from(state)
        value = {
            "number": number,
            "sid": f"{sid}-{number}" if sid else None,
            "last_logon": iso(filetime(logon)),
            "password_set": iso(filetime(password)),
            "last_failure": iso(filetime(failed)),
            "failures": failures,
            "logons": logons,
            "disabled": bool(flags & _DISABLED),
            "needs_no_password": bool(flags & _NEEDS_NO_PASSWORD),
        }
        name = names.get(number) or f"number {number}"
        yield Fact("account", name, value | hive.about, f"{_ACCOUNTS}\\Users\\{key.name}")


def _sid(hive: Hive) -> str:
    """What the SIDs of the machine's accounts begin with; empty if it is not there."""
    key = hive.root.find(_ACCOUNTS)
    raw = key.value("V") if key else None
    if not isinstance(raw, bytes) or len(raw) < 12:
        return ""
    return "S-1-5-21-" + "-".join(map(str, struct.unpack("<3L", raw[-12:])))
