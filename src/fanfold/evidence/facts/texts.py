"""Facts from texts: when a device was first set up, and which programs were started.

Sources: learn.microsoft.com, "SetupAPI text logs"; PcaAppLaunchDic.txt has lines of PATH|TIME, the time in UTC.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from fanfold.evidence.facts.fact import Fact

_SETUP = re.compile(r">>>\s+\[Device Install \([^)]*\) - (USBSTOR\\[^\]\s]+)\]", re.IGNORECASE)
_BEGUN = re.compile(r">>>\s+Section start (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3})")
_LAUNCH = re.compile(r"(.+)\|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)")


def text_of(data: bytes) -> str:
    """A text of Windows: UTF-16 if it begins with its mark, or its second byte is zero; else UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-8-sig", "replace")


def setups(data: bytes) -> Iterator[Fact]:
    """When USB disks were first set up, in the time of the machine: setupapi.dev.log."""
    device = ""
    for number, line in enumerate(text_of(data).splitlines(), 1):
        if found := _SETUP.search(line):
            device = found[1]
        elif device and (begun := _BEGUN.search(line)):
            with suppress(ValueError):
                when = datetime.strptime(begun[1], "%Y/%m/%d %H:%M:%S.%f")
                yield Fact("setup", device, {"first_local": when.isoformat()}, f"line {number}")
            device = ""


def launches(data: bytes) -> Iterator[Fact]:
    """The programs that were started, each with the last time: PcaAppLaunchDic.txt of Windows 11."""
    for number, line in enumerate(text_of(data).splitlines(), 1):
        if found := _LAUNCH.fullmatch(line.strip()):
            with suppress(ValueError):
                when = datetime.fromisoformat(found[2]).replace(tzinfo=UTC)
                yield Fact("program", found[1], {"time": when.isoformat()}, f"line {number}")
