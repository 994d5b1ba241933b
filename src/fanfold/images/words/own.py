"""Labels of one's own among the words that a classifier knows: which of them fits each picture best.

Each class belongs to the narrowest word that it is under: with "cat" and "animal" among the words, a tabby is a cat,
and an animal is any other one. So the probabilities of the words can be compared.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fanfold.images.models.efficientnet_lite import CLASSES
from fanfold.images.search.by_text import NO_LABEL, Fit
from fanfold.images.words.labels import Labels
from fanfold.images.words.vocabulary import word_of


class Known(NamedTuple):
    """What a classifier knows of some labels."""

    labels: Mapping[str, tuple[int, ...]]
    """Those that are words, and the classes that belong to each."""
    unknown: Sequence[str]
    shadowed: Sequence[str]
    """Words that no class belongs to, since all under them belong to narrower words, or to another of the same
    meaning."""


def known_of(labels: Sequence[str]) -> Known:
    """What is known of labels."""
    classes = {label: word.classes for label in labels if (word := word_of(label))}
    owners: dict[int, str] = {}
    for label in sorted(classes, key=lambda label: len(classes[label])):  # of equal ones, the first counts
        owners = dict.fromkeys(classes[label], label) | owners
    own = {label: tuple(kind for kind in classes[label] if owners[kind] == label) for label in classes}
    return Known(
        {label: kinds for label, kinds in own.items() if kinds},
        [label for label in labels if label not in classes],
        [label for label, kinds in own.items() if not kinds],
    )


def best_of(found: Labels, words: Sequence[Sequence[int]]) -> Fit:
    """The most probable word of each row, of words that are given by the classes that belong to each."""
    owner = np.full(CLASSES + 1, NO_LABEL, np.int16)
    for number, classes in enumerate(words):
        owner[list(classes)] = number
    owners = owner[found.classes]
    best, scores = np.full(found.rows, NO_LABEL), np.zeros(found.rows, np.float32)
    for candidates in owners:
        total = (found.probabilities * (owners == candidates)).sum(axis=0)
        better = (candidates != NO_LABEL) & (total > scores)
        best[better], scores[better] = candidates[better], total[better]
    return Fit(best, np.minimum(scores, 1))
