"""Verifies disk images without a database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fanfold.evidence.disk.medium import Damage, Medium
from fanfold.evidence.disk.verify import DIGESTS, Verification, verifying
from fanfold.evidence.files import DAMAGED, open_disk
from fanfold.evidence.formats import is_disk_image
from fanfold.evidence.given import Files
from fanfold.job import Item
from fanfold.machine import cores

Progress = Callable[[str], AbstractContextManager[Callable[[float], None]]]
"""Given a name, shows the fraction done that the block reports."""


_RESULTS = {
    "match": "the digests match",
    "mismatch": "THE DIGESTS DIFFER",
    "no stored digest": "no digest is stored",
    "not computed": "the digests were not computed",
}


@dataclass
class Checked:
    """What is known of a disk image after it was read."""

    name: str
    summary: str
    result: str
    """match, mismatch, no stored digest, not computed, or unreadable."""
    stored: Mapping[str, str] = field(default_factory=dict)
    computed: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()
    damage: Sequence[Damage] = ()
    unread: Sequence[tuple[int, int]] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if all is well, 1 if it could not be read, 3 if something is wrong with it."""
        if self.result == "unreadable":
            return 1
        return 3 if self.result == "mismatch" or self.problems or self.damage else 0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        damage = [one._asdict() for one in self.damage]
        return vars(self) | {"damage": damage}


def check(addresses: Sequence[str], progress: Progress, *, whole: bool = True) -> Iterator[Checked]:
    """Verify the disk images at some addresses, one after the other. Raises UsageError if nothing is there.

    `whole`: whether to compute the digests, and not only check each chunk.
    """
    files = Files.open(addresses)
    for item in files.list(frozenset()):
        try:
            if is_disk_image(item, files.read_at(item, 0, 4096)):
                yield _checked(item, files, progress, whole)
        except (OSError, *DAMAGED) as error:
            yield Checked(item.key, str(error), "unreadable")


def _checked(item: Item, files: Files, progress: Progress, whole: bool) -> Checked:
    segments = files.segments(item)
    medium = open_disk(segments, files.inner)
    found = _verification(item.key, medium, progress, whole)
    tool = medium.about.get("tool")
    parts = [
        f"{medium.kind} image of {medium.size:,} bytes in {len(segments):,} file{'s' * (len(segments) > 1)}",
        f"made by {tool}" if tool else "",
        _RESULTS[found.result],
    ]
    return Checked(
        item.key,
        "; ".join(filter(None, parts)),
        found.result,
        found.stored,
        found.computed,
        medium.problems,
        found.damage,
        medium.unread,
        medium.about,
    )


def _verification(name: str, medium: Medium, progress: Progress, whole: bool) -> Verification:
    with progress(name) as shown:
        for step in verifying(medium, cores(), DIGESTS, whole=whole):
            if isinstance(step, Verification):
                return step
            shown(step / medium.size)
    raise AssertionError
