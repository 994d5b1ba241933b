"""The words: WordNet's nouns over ImageNet's 1000 classes, and how a text is understood.

A text is lower-cased and read from left to right, the longest phrase that is known at a time. Plurals count as their
singular. Small words between (a, of, with) are passed over; any other unknown word is an error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from fanfold.errors import UsageError

LONGEST_TEXT = 500
"""Most characters of a text."""

_SMALL = frozenset(("a", "an", "the", "of", "and", "with", "in", "on", "at", "by"))
_ENDINGS = (("ies", "y"), ("es", ""), ("s", ""))  # of plurals; the table has those that no rule makes
_NAMED = 3  # most kinds that are named


@dataclass(frozen=True, slots=True)
class Understood:
    """A word of a text, and what it stands for."""

    word: str
    """As in the table of words: singular, in lower case."""
    classes: tuple[int, ...]
    """The classes under it, ascending."""

    def __str__(self) -> str:
        kinds = len(self.classes)
        if kinds > _NAMED:
            return f"{self.word} ({kinds} kinds)"
        named = ", ".join(names()[kind] for kind in self.classes)
        return f"{self.word} ({kinds} kind{'' if kinds == 1 else 's'}: {named})"


@cache
def names() -> tuple[str, ...]:
    """A short name for each of the 1000 classes, all different."""
    return tuple(line.split("\t")[1] for line in _lines("classes.tsv"))


@cache
def vocabulary() -> Mapping[str, tuple[int, ...]]:
    """The classes under each known word."""
    return {word: _numbers(ranges) for word, _, ranges in (line.partition("\t") for line in _lines("words.tsv"))}


def _lines(name: str) -> list[str]:
    """The lines of a file that docs/words.py made, without its comment."""
    return (files(__package__) / name).read_text(encoding="utf-8").splitlines()[1:]


def _numbers(ranges: str) -> tuple[int, ...]:
    """7-24 80 as numbers."""
    ends = (part.partition("-")[::2] for part in ranges.split())
    return tuple(number for start, end in ends for number in range(int(start), int(end or start) + 1))


def understood(text: str) -> tuple[Understood, ...]:
    """The known words of a text, each once. Raises UsageError if there are none, and for a word that is not known."""
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"--text takes at most {LONGEST_TEXT} characters, not {len(text):,}.")
    found: dict[Understood, None] = {}
    for phrase in _read(text):
        if isinstance(phrase, str):
            raise UsageError(_unknown(phrase))
        found[phrase] = None
    if not found:
        raise UsageError('--text needs a word to search for, such as --text "bird".')
    return tuple(found)


def word_of(text: str) -> Understood | None:
    """The one known word of a text; None if it has another one, known or not, or none."""
    found = set(_read(text))
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, Understood) else None


def _read(text: str) -> Iterator[Understood | str]:
    """Yield the known phrases, from left to right, and the words that are not known, as they are."""
    asked = re.findall(r"[^\s,;:!?\"()]+", text.lower().replace("’", "'").replace("_", " ").replace(".", ""))
    at, longest = 0, _longest()
    while at < len(asked):
        ends = range(min(len(asked), at + longest), at, -1)
        known = next(((end, word) for end in ends if (word := _known(" ".join(asked[at:end])))), None)
        if known:
            at, word = known
            yield Understood(word, vocabulary()[word])
        else:
            if asked[at] not in _SMALL:
                yield asked[at]
            at += 1


@cache
def _longest() -> int:
    return max(word.count(" ") + 1 for word in vocabulary())


def _known(phrase: str) -> str | None:
    """A phrase as the vocabulary has it: as it is, else its singular."""
    singular = (phrase.removesuffix(end) + instead for end, instead in _ENDINGS if phrase.endswith(end))
    return next((word for word in (phrase, *singular) if word in vocabulary()), None)


def _unknown(word: str) -> str:
    shown = word if len(word) <= 40 else f"{word[:40]}..."
    near = get_close_matches(word, vocabulary(), 3, 0.7) if shown == word else []
    hint = f" Similar words that are: {', '.join(near)}." if near else ""
    return (
        f"'{shown}' is not one of the {len(vocabulary()):,} words that this table can be searched by.{hint} "
        "Search by a picture instead, or use a model that understands any text: `fanfold images models` lists them."
    )
