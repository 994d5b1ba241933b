"""The labels of a table's rows, in the table's order: the best classes of each, and what is counted and scored by them.

    labels = load(dataset)                  # what is kept, or None
    labels = refresh(dataset, progress)     # the same, with all rows that were missing

Both hold 48 bytes a row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import lance
import numpy as np
from more_itertools import sliced

from fanfold.damage import of_table
from fanfold.images.models.efficientnet_lite import CLASSES
from fanfold.images.search.rows import Hashes, Indices, Vectors, fingerprints, matrix
from fanfold.images.words.classifier import KEPT, Classes, classifier_of, has_words
from fanfold.images.words.store import Kept, Store
from fanfold.images.words.vocabulary import names

NO_CLASS = CLASSES
"""The class of rows without labels."""
BATCH = 65_536
"""Rows that are labelled before they are kept."""
_READ = 1024  # rows read at a time

Progress = Callable[[float], None]
"""Gets the fraction done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The best classes of every row of one version of a table, in its order."""

    classes: Classes
    """uint16[KEPT, rows], the best first; NO_CLASS where a row has no labels."""
    probabilities: Vectors
    """float32[KEPT, rows]; 0 where a row has no labels."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.best)

    @property
    def best(self) -> Classes:
        """uint16[rows]: the best class of each row, or NO_CLASS."""
        first: Classes = self.classes[0]
        return first

    @property
    def missing(self) -> Indices:
        """The rows without labels."""
        return np.flatnonzero(self.best == NO_CLASS)

    def scores(self, classes: Iterable[int]) -> Vectors:
        """float32[rows]: the probability of any of these classes, as far as they are among a row's best."""
        wanted = np.zeros(CLASSES + 1, np.float32)
        wanted[list(classes)] = 1
        total = np.zeros(len(self), np.float32)
        for some, probabilities in zip(self.classes, self.probabilities, strict=True):
            total += wanted[some] * probabilities
        return np.minimum(total, 1, out=total)

    def named(self, rows: Sequence[int]) -> list[list[tuple[str, float]]]:
        """The names of each row's classes, the best first, with their probabilities; none for a row without labels."""
        chosen = np.asarray(rows, np.int64)
        pairs = zip(self.classes[:, chosen].T.tolist(), self.probabilities[:, chosen].T.tolist(), strict=True)
        return [
            [(names()[kind], share) for kind, share in zip(kinds, shares, strict=True) if kind != NO_CLASS]
            for kinds, shares in pairs
        ]

    def counts(self) -> list[tuple[int, int]]:
        """Each class that is the best of a row, and of how many; the most frequent first."""
        times = np.bincount(self.best, minlength=CLASSES + 1)[:CLASSES]
        order = np.argsort(-times, kind="stable")
        return [(int(number), int(times[number])) for number in order if times[number]]


@of_table
def load(dataset: lance.LanceDataset) -> Labels | None:
    """What is kept of a table's labels, or None if nothing is: for a model without words, and before `refresh`.

    Rows that are new or have changed since have no labels. Raises StorageError.
    """
    if not has_words(dataset):
        return None
    identity = _identity(dataset)
    kept = Store.of(dataset, identity).read()
    return _aligned(fingerprints(dataset, identity), kept)[0] if kept else None


@of_table
def refresh(dataset: lance.LanceDataset, progress: Progress = lambda _: None) -> Labels:
    """Label the rows that have no labels yet, and keep them; return all labels.

    They are kept in the database, or in the user's cache if it cannot be written to; after each BATCH of rows, so
    that what is stopped goes on from there. Takes 60 MB, and 150 bytes a row.
    Raises UsageError for a table whose model has no words, MissingExtra if the model is not installed, StorageError.
    """
    classifier, identity = classifier_of(dataset), _identity(dataset)
    store, rows = Store.of(dataset, identity), fingerprints(dataset, identity)
    kept = store.read() or Kept.joined([])
    labels, known = _aligned(rows, kept)
    live = Kept(kept.rows[known], kept.classes[known], kept.probabilities[known])
    store.tidy(live, len(kept.rows) - len(known))
    missing, done = labels.missing, 0
    for batch in sliced(missing, BATCH):
        for some in sliced(batch, _READ):
            classes, probabilities = classifier.best(_vectors(dataset, some))
            labels.classes[:, some], labels.probabilities[:, some] = classes.T, probabilities.T
            done += len(some)
            progress(done / len(missing))
        store.add(Kept(rows[batch], labels.classes[:, batch].T, labels.probabilities[:, batch].T))
    return labels


def _vectors(dataset: lance.LanceDataset, rows: Indices) -> Vectors:
    """float32[rows, dimension], for rows by their number in the table's order."""
    return matrix(dataset.take(rows.tolist(), columns=["vector"])["vector"].combine_chunks())


def _identity(dataset: lance.LanceDataset) -> str:
    """The table, and the weights that its vectors are from."""
    metadata = dataset.schema.metadata or {}
    return "\0".join(metadata.get(name, b"").decode() for name in (b"fanfold.id", b"fanfold.sha256"))


def _aligned(rows: Hashes, kept: Kept) -> tuple[Labels, Indices]:
    """The labels of `rows`, fingerprints, in their order; and which of `kept` were used."""
    order = np.argsort(kept.rows, kind="stable")
    place = np.searchsorted(kept.rows, rows, sorter=order)
    place[place == len(order)] = 0
    used = order[place] if len(order) else np.zeros(len(rows), np.int64)
    there = np.flatnonzero(kept.rows[used] == rows) if len(order) else np.empty(0, np.int64)
    used = used[there]
    labels = Labels(np.full((KEPT, len(rows)), NO_CLASS, np.uint16), np.zeros((KEPT, len(rows)), np.float32))
    labels.classes[:, there], labels.probabilities[:, there] = kept.classes[used].T, kept.probabilities[used].T
    return labels, used
