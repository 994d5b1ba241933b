"""Who logged on to a machine, how, and how often they failed: from the records of its Security log.

fanfold evidence scan LOGS DATABASE
python examples/logons.py DATABASE
"""

import json
import sys
from collections import Counter

from fanfold.evidence import Evidence, tables

# A logon of type 2 is not always a person at the keyboard: a browser that checks a password makes one, too.
KINDS = {
    "2": "interactive",
    "3": "network",
    "4": "batch",
    "5": "service",
    "7": "unlock",
    "10": "remote",
    "11": "cached",
}
ACCOUNTS, LOGON, FAILED = ("TargetDomainName", "TargetUserName"), 4624, 4625


def logons(database: str) -> Counter[tuple[str, str, int]]:
    """How often each account has logged on (4624) or failed to (4625), by the kind of logon."""
    found: Counter[tuple[str, str, int]] = Counter()
    where = f"event_id IN ({LOGON}, {FAILED}) AND channel = 'Security'"
    for batch in tables.events(database, where, ["event_id", "data"]):
        for row in batch.to_pylist():
            data = json.loads(row["data"] or "{}")
            account = "\\".join(data[name] for name in ACCOUNTS if data.get(name))
            found[account, KINDS.get(str(data.get("LogonType")), "other"), row["event_id"]] += 1
    return found


if __name__ == "__main__":
    print(f"{'account':40} {'kind':12} {'logons':>8} {'failed':>8}   (table '{Evidence.name}_events')")
    counts = logons(sys.argv[1])
    for account, kind in sorted({(account, kind) for account, kind, _ in counts}):
        print(f"{account:40} {kind:12} {counts[account, kind, LOGON]:8,} {counts[account, kind, FAILED]:8,}")
