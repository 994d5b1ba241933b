"""Search by text, whatever a table's model has for it: `text_side` opens it by the table's metadata.

by "classes"        words that the model's own classifier knows (fanfold.images.words); nothing to download
by "text encoder"   any text, by the text encoder that belongs to the model (fanfold.images.text)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import lance
import numpy as np

from fanfold.damage import of_table
from fanfold.errors import UsageError
from fanfold.images.search.rows import Indices, Progress, Vectors, metadata_of

NO_LABEL = -1
"""The number of the label of a row that has none."""


class Fit(NamedTuple):
    """Which of some labels fits each row of a table best."""

    best: Indices
    """int64[rows]: the number of the label, or NO_LABEL."""
    scores: Vectors
    """float32[rows]: its probability; 0 without a label."""

    def at_least(self, least: float) -> "Fit":
        """The same, without the labels whose probability is lower."""
        low = self.scores < least
        return Fit(np.where(low, NO_LABEL, self.best), np.where(low, np.float32(0), self.scores))

    def counts(self, labels: Sequence[str]) -> list[tuple[str, int]]:
        """Each of the labels that a row has, and how many have it; the most frequent first."""
        times = np.bincount(self.best[self.best != NO_LABEL], minlength=len(labels))
        return [(labels[number], int(times[number])) for number in np.argsort(-times, kind="stable") if times[number]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a text finds."""

    understood: tuple[str, ...]
    """What was understood, a part of the text each: "bird (59 kinds)". Empty if any text is."""
    rows: Indices
    """Rows of the table by their number in its order, the best first."""
    scores: Vectors
    """float32[rows]"""


@dataclass(frozen=True, slots=True)
class TextHit:
    """A row that a text finds."""

    key: str
    uri: str
    score: float
    columns: Mapping[str, Any]
    """The row's values in the columns that were asked for."""
    cosine: float | None = None
    """Of the vectors of text and picture, with a text encoder."""


class TextSide(Protocol):
    """What can find the rows of one version of a table by text."""

    by: str
    """What compares text and pictures, in words."""
    least: float
    """The lowest score of what is found, unless another is asked for."""

    def understand(self, text: str) -> tuple[str, ...]:
        """What is understood of a text; at once. Raises UsageError for a text that is not."""
        ...

    def find(self, text: str, k: int, least: float, among: Indices | None, progress: Progress) -> Found:
        """The `k` rows of the highest scores, of at least `least`; of the rows `among`, ascending, unless it is None.

        What that needs is made first, with progress.
        """
        ...


def text_side(dataset: lance.LanceDataset) -> TextSide:
    """What a table's model has for text. Raises UsageError if it has nothing, MissingExtra if that is not installed."""
    from fanfold.images.text.twin import twin_of

    metadata = metadata_of(dataset)
    if text := twin_of(metadata):
        from fanfold.images.text.search import FreeText

        return FreeText(dataset, text)
    from fanfold.images.words.classifier import weights_of
    from fanfold.images.words.search import ClassWords

    if weights_of(dataset) is None:
        raise UsageError(
            f"The model '{metadata.get('fanfold.model', 'unknown')}' has no words: fanfold knows neither a text "
            "encoder nor a classifier for it. Search by a picture; or embed with clip-vit-b32 or siglip2-b16, which "
            "take any text, or with efficientnet-lite0 or efficientnet-lite2, which know some words."
        )
    return ClassWords(dataset)


@of_table
def hits(dataset: lance.LanceDataset, found: Found, columns: Sequence[str] = ()) -> list[TextHit]:
    """The rows found, with their keys, their addresses, and their values in `columns`."""
    names = ["key", "uri", *columns]
    rows = dataset.take(found.rows.tolist(), columns=names).to_pylist() if len(found.rows) else []
    return [
        TextHit(row["key"], row["uri"], float(score), {name: row[name] for name in columns})
        for row, score in zip(rows, found.scores, strict=True)
    ]


def highest(scores: Vectors, k: int, least: float, among: Indices | None = None) -> Indices:
    """The rows of the `k` highest scores that are at least `least`, the highest first; of equal ones the first."""
    rows = np.flatnonzero(scores >= least) if among is None else among[scores[among] >= least]
    if len(rows) > k:
        lowest = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        above, level = rows[scores[rows] > lowest], rows[scores[rows] == lowest]
        rows = np.concatenate([above, level[: k - len(above)]])
    return rows[np.argsort(-scores[rows], kind="stable")]
