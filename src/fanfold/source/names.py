"""Names on disk are bytes; keys are text.

A byte that is not UTF-8 is written \\xHH in the key. A backslash before an x is written \\x5C, so that no two names
share a key.
"""

import os
import re


def as_text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.replace("\\x", "\\x5Cx")
        return re.sub("[\udc80-\udcff]", lambda m: f"\\x{ord(m[0]) - 0xDC00:02X}", name)
    return name.replace("\\x", "\\x5Cx") if "\\x" in name else name


def as_name(path: str) -> str:
    if "\\x" not in path:
        return path
    return re.sub(r"\\x([0-9A-F]{2})", lambda m: os.fsdecode(bytes([int(m[1], 16)])), path)
