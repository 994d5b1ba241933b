"""Search by the words that a model's classifier knows: a row's score is the probability of the classes under a word."""

from collections.abc import Sequence
from functools import reduce

import lance
import numpy as np

from fanfold.images.search.by_text import Fit, Found, highest
from fanfold.images.search.rows import Indices, Progress, Vectors
from fanfold.images.words import labels as labelling
from fanfold.images.words.classifier import classifier_of
from fanfold.images.words.labels import Labels
from fanfold.images.words.own import best_of
from fanfold.images.words.vocabulary import Understood, understood


class ClassWords:
    """The text side of a table whose model has a classifier."""

    by = "classes"
    least = 0.01

    def __init__(self, dataset: lance.LanceDataset, labels: Labels | None = None) -> None:
        """`labels` of this version of the table, if they are at hand. Raises UsageError for a model without words."""
        classifier_of(dataset)
        self._dataset = dataset
        self._labels = labels

    def understand(self, text: str) -> tuple[str, ...]:
        """The words of a text and what they stand for. Raises UsageError for a word that is not known."""
        return tuple(map(str, understood(text)))

    def find(
        self,
        text: str,
        k: int,
        least: float = least,
        among: Indices | None = None,
        progress: Progress = lambda _: None,
    ) -> Found:
        """The `k` rows of the highest scores. Rows without labels are labelled first, with progress.

        A row's score is the product, over the words, of the probability that it shows one of the classes under the
        word. Raises UsageError for a word that is not known, StorageError if the labels cannot be kept.
        """
        words = understood(text)
        if self._labels is None:
            self._labels = labelling.refresh(self._dataset, progress)
        scores = scored(self._labels, words)
        rows = highest(scores, k, least, among)
        return Found(tuple(map(str, words)), rows, scores[rows])

    def label(self, words: Sequence[Sequence[int]], progress: Progress = lambda _: None) -> Fit:
        """Which word fits each row best, of words that are given by the classes that belong to each.

        Raises what `find` raises.
        """
        if self._labels is None:
            self._labels = labelling.refresh(self._dataset, progress)
        return best_of(self._labels, words)


def scored(labels: Labels, words: tuple[Understood, ...]) -> Vectors:
    """float32[rows]: the product of the probabilities of the words."""
    return reduce(np.multiply, (labels.scores(word.classes) for word in words))
