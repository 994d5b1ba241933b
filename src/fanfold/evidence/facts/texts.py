"""Facts from texts: when a device was first set up, and which programs were started.

Sources: learn.microsoft.com, "SetupAPI text logs"; PcaAppLaunchDic.txt has lines of PATH|TIME, the time in UTC.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO

from fanfold.evidence.facts.fact import Fact

_SETUP = re.compile(r">>>\s{1,8}\[Device Install \([^()]{0,80}\) - (USBSTOR\\[^\]\s]{1,300})\]", re.IGNORECASE)
_BEGUN = re.compile(r">>>\s{1,8}Section start (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3})")
_LAUNCH = re.compile(r"(.+)\|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)")
_LARGEST = 64 << 20  # bytes of a text that are looked at
_LONGEST = 2000  # characters of a line


def text_of(data: bytes) -> str:
    """A text of Windows: UTF-16 if it begins with its mark, or its second byte is zero; else UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-8-sig", "replace")


def lines_of(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines of a text, each with its number, without what is too long to be one of those that count."""
    for number, line in enumerate(StringIO(text_of(data[:_LARGEST])), 1):
        if len(line) <= _LONGEST and "\0" not in line:  # zeros: a part of it that could not be read
            yield number, line.rstrip("\r\n")


def setups(data: bytes) -> Iterator[Fact]:
    """When USB disks were first set up, in the time of the machine: setupapi.dev.log."""
    device = ""
    for number, line in lines_of(data):
        if found := _SETUP.match(line):
            device = found[1]
        elif device and (begun := _BEGUN.match(line)):
            with suppress(ValueError):
                when = datetime.strptime(begun[1], "%Y/%m/%d %H:%M:%S.%f")
                yield Fact("setup", device, {"first_local": when.isoformat()}, f"line {number}")
            device = ""


def launches(data: bytes) -> Iterator[Fact]:
    """The programs that were started, each with the last time: PcaAppLaunchDic.txt of Windows 11."""
    for number, line in lines_of(data):
        if found := _LAUNCH.fullmatch(line.strip()):
            with suppress(ValueError):
                when = datetime.fromisoformat(found[2]).replace(tzinfo=UTC)
                yield Fact("program", found[1], {"time": when.isoformat()}, f"line {number}")
