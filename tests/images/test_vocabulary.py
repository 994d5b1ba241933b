"""The words: what a text is understood as, and that the files of words are whole."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.images.words.vocabulary import LONGEST_TEXT, names, understood, vocabulary

ROOT = Path(__file__).parents[2]


def words(text: str) -> list[str]:
    """The words that a text is understood as."""
    return [one.word for one in understood(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bird", ["bird"]),
        ("  BIRD ", ["bird"]),
        ("birds", ["bird"]),
        ("butterflies", ["butterfly"]),
        ("buses", ["bus"]),
        ("wolves", ["wolves"]),  # WordNet lists this plural
        ("geese", ["geese"]),
        ("glasses", ["glasses"]),  # a word of its own
        ("golden retriever", ["golden retriever"]),
        ("Golden_Retrievers", ["golden retriever"]),
        ("musical instruments", ["musical instrument"]),
        ("cat, motorcycle", ["cat", "motorcycle"]),
        ("a cat on the sofa", ["cat", "sofa"]),
        ("cat cats CAT", ["cat"]),
        ("red wine bottle", ["red wine", "bottle"]),
        ("jack-o’-lantern", ["jack-o'-lantern"]),
        ("r.v.", ["rv"]),
    ],
)
def test_what_is_understood(text: str, expected: list[str]) -> None:
    """Case, plurals, phrases and small words are understood, the longest phrase at a time."""
    assert words(text) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t", "the of a", "?!", "\u3000"])
def test_no_words(text: str) -> None:
    """A text without words is refused with an example."""
    with pytest.raises(UsageError, match="--text needs a word"):
        understood(text)


@pytest.mark.parametrize(
    "text", ["beach", "🐈", "a cat at sunset", "cat or dog", "not a cat", "鳥", "bird\0", "%_'\"--"]
)
def test_unknown_words(text: str) -> None:
    """A text with a word that is not known is refused as a whole."""
    with pytest.raises(UsageError, match="is not one of the"):
        understood(text)


def test_similar_words() -> None:
    """The error about an unknown word names similar ones, and what else works."""
    with pytest.raises(UsageError, match=r"'motorcicle' is not .* Similar words that are: motorcycle.*images models"):
        understood("motorcicle")


def test_long_texts() -> None:
    """Ten thousand characters are refused by their number; a long word is shown in part."""
    with pytest.raises(UsageError, match="at most 500 characters, not 10,000"):
        understood("x" * 10_000)
    with pytest.raises(UsageError, match=r"^'x{40}\.\.\.' is not"):
        understood("x" * LONGEST_TEXT)


def test_what_is_said() -> None:
    """A word of up to three kinds names them, others have their number."""
    assert [str(one) for one in understood("birds, moped")] == ["bird (59 kinds)", "moped (1 kind: moped)"]
    assert str(*understood("person")) == "person (3 kinds: ballplayer, groom, scuba diver)"


@pytest.mark.parametrize(
    ("word", "members", "others"),
    [
        ("cat", {"tabby", "lion"}, {"Siberian husky", "red fox"}),
        ("dog", {"pug", "Siberian husky", "toy poodle"}, {"timber wolf", "tabby"}),
        ("vehicle", {"moped", "airliner", "canoe", "steam locomotive"}, {"car wheel", "barn"}),
        ("fruit", {"banana", "orange", "strawberry"}, {"mashed potato"}),
        ("musical instrument", {"cello", "drum", "grand piano"}, {"microphone"}),
        ("crane", {"crane (wading bird)", "crane (lifting device)"}, set()),
    ],
)
def test_classes_of_words(word: str, members: set[str], others: set[str]) -> None:
    """A word has the classes below it in WordNet, of all its meanings, and no others."""
    found = {names()[number] for number in vocabulary()[word]}
    assert members <= found
    assert not others & found


def test_the_files_are_whole() -> None:
    """There are 1000 different names, and every word has some of their numbers, ascending."""
    assert len(set(names())) == len(names()) == 1000
    assert len(vocabulary()) > 3000
    for word, classes in vocabulary().items():
        assert word == word.lower().strip() != ""
        assert classes == tuple(sorted(set(classes)))
        assert 0 <= classes[0] <= classes[-1] < 1000
        assert len(classes) <= 600
    for number, name in enumerate(names()):
        assert number in vocabulary()[name.lower().partition(" (")[0]]


@given(st.text(max_size=LONGEST_TEXT))
def test_any_text(text: str) -> None:
    """Any text is understood as known words, or refused."""
    with contextlib.suppress(UsageError):
        found = understood(text)
        assert found
        assert all(vocabulary()[one.word] == one.classes for one in found)


@given(st.lists(st.sampled_from(sorted(vocabulary())), min_size=1, max_size=4))
def test_known_words(asked: list[str]) -> None:
    """Known words with commas or small words between them are all understood."""
    classes = {number for one in understood(" and ".join(asked)) for number in one.classes}
    assert classes & {number for word in asked for number in vocabulary()[word]}


def test_the_notice_is_shipped() -> None:
    """WordNet's notice is in the repository and in what is built from it."""
    notice = (ROOT / "NOTICE").read_text()
    assert "Copyright 2006 by Princeton University" in notice
    assert re.search(r'license-files = \[.*"NOTICE"\]', (ROOT / "pyproject.toml").read_text())
