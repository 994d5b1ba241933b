"""Words -> the numbers that a text encoder takes, by its tokenizer.json."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fanfold.errors import MissingExtra, UsageError
from fanfold.images.models.registry import Text

Ids = np.ndarray[Any, np.dtype[np.int64]]


class Tokens(NamedTuple):
    """A text as a text encoder takes it."""

    ids: Ids
    """int64[1, n]"""
    mask: Ids
    """int64[1, n]: 1 for the tokens of the text, 0 for those that fill it up."""
    cut: bool
    """Whether the text has more tokens than the encoder takes."""


class Tokenizer:
    """A tokenizer.json, used as a text encoder was trained: with its case, length and padding.

    Format: https://huggingface.co/docs/tokenizers/api/tokenizer
    """

    def __init__(self, file: Path, text: Text) -> None:
        """Raises MissingExtra, and UsageError for a file that is not a tokenizer."""
        self._text = text
        self._reader = reader_of(file)
        self._reader.no_padding()  # the file may ask for padding of its own
        if text.length is None:
            self._reader.no_truncation()
        else:
            self._reader.enable_truncation(text.length)

    def __call__(self, words: str) -> Tokens:
        """The tokens of a text."""
        text = self._text
        words = text.prompt + words.encode(errors="replace").decode()  # an argument may hold bytes that are not UTF-8
        found = self._reader.encode(words.lower() if text.lower else words)
        ids = list(found.ids)
        if text.end is not None and ids[-1:] != [text.end]:
            ids = [*ids[: len(ids) if text.length is None else text.length - 1], text.end]
        mask = [1] * len(ids)
        if text.pad is not None and text.length is not None:
            missing = text.length - len(ids)
            ids, mask = ids + [text.pad] * missing, mask + [0] * missing
        return Tokens(np.array([ids], np.int64), np.array([mask], np.int64), bool(found.overflowing))


def reader_of(file: Path) -> Any:
    """The library's tokenizer of a file. Raises MissingExtra, and UsageError for a file that is not one."""
    check_extra()
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise UsageError(f"{file} is not a tokenizer that the library 'tokenizers' reads: {error}") from error


def check_extra() -> None:
    """Raises MissingExtra if the library is not installed."""
    if not find_spec("tokenizers"):
        raise MissingExtra("text", "A search by free text")


def check_words(words: str) -> None:
    """Raises UsageError for a text without words."""
    if not words.strip():
        raise UsageError('The text is empty. Describe a picture, such as: --text "a cat on a sofa"')
