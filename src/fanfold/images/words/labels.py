"""The labels of a table's rows, in the table's order: the best classes of each, and what is counted and scored by them.

    labels = load(dataset)                  # what is kept, or None
    labels = refresh(dataset, progress)     # the same, with all rows that were missing

Both hold 48 bytes a row. kept.py keeps 40 bytes of them beside the table: `rows` uint64[rows], `classes` uint16[KEPT,
rows] and `probabilities` float16[KEPT, rows]. Several processes may label at once: the last one's file stays, and what
it lacks is made again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import lance
import numpy as np
from more_itertools import sliced

from fanfold.damage import reading
from fanfold.images import kept
from fanfold.images.models.efficientnet_lite import CLASSES
from fanfold.images.search.rows import Indices, Progress, Vectors, taken
from fanfold.images.words.classifier import KEPT, Classes, classifier_of, weights_of
from fanfold.images.words.vocabulary import names

NO_CLASS = CLASSES
"""The class of rows without labels."""
BATCH = 262_144
"""Rows that are labelled before they are kept: ten seconds, on two cores."""
NAME = "labels"
"""What they are kept as, see kept.py."""
_READ = 1024  # rows read at a time


@dataclass(frozen=True, slots=True)
class Labels:
    """The best classes of every row of one version of a table, in its order."""

    classes: Classes
    """uint16[KEPT, rows], the best first; NO_CLASS where a row has no labels."""
    probabilities: Vectors
    """float32[KEPT, rows]; 0 where a row has no labels."""

    @property
    def rows(self) -> int:
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
        total = np.zeros(self.rows, np.float32)
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


def load(dataset: lance.LanceDataset) -> Labels | None:
    """What is kept of a table's labels, or None if nothing is: for a model without words, and before `refresh`.

    Rows that are new or have changed since have no labels. Raises StorageError.
    """
    arrays = _kept(dataset) if weights_of(dataset) else None
    return _aligned(arrays, kept.rows_of(dataset)) if arrays else None


def refresh(dataset: lance.LanceDataset, progress: Progress = lambda _: None) -> Labels:
    """Label the rows that have no labels yet, and keep them; return all labels.

    They are kept after each BATCH of rows, so that what is stopped goes on from there. Takes 60 MB, and 200 bytes a
    row. Raises UsageError for a table whose model has no words, MissingExtra if the model is not installed;
    StorageError, or FanfoldError if neither the database nor the cache folder can be written to.
    """
    classifier_of(dataset)  # before anything is read
    arrays, rows = _kept(dataset), kept.rows_of(dataset)
    labels = _aligned(arrays, rows) if arrays else none(len(rows))
    missing, done = labels.missing, 0
    for batch in sliced(missing, BATCH):
        fill(dataset, labels, batch, _part(progress, done / len(missing), len(batch) / len(missing)))
        done += len(batch)
        _keep(dataset, rows, labels)
    return labels


def fill(dataset: lance.LanceDataset, labels: Labels, rows: Indices, progress: Progress = lambda _: None) -> None:
    """Label these rows, in place. Raises UsageError for a table whose model has no words."""
    classifier, done = classifier_of(dataset), 0
    for some in sliced(rows, _READ):
        with reading(dataset.uri):
            vectors = taken(dataset, some)
        classes, probabilities = classifier.best(vectors)
        labels.classes[:, some], labels.probabilities[:, some] = classes.T, probabilities.T
        done += len(some)
        progress(done / len(rows))


def _part(progress: Progress, before: float, share: float) -> Progress:
    """The progress of a part of the work."""
    return lambda fraction: progress(before + share * fraction)


def none(rows: int) -> Labels:
    """Labels of rows that have none yet."""
    return Labels(np.full((KEPT, rows), NO_CLASS, np.uint16), np.zeros((KEPT, rows), np.float32))


# -- what is kept -----------------------------------------------------------------------------------------------------


def _recipe(dataset: lance.LanceDataset) -> str:
    """The classifier, and the table: one that was made again may have other pictures of the same names."""
    return f"classes of {weights_of(dataset)}; table {(dataset.schema.metadata or {}).get(b'fanfold.id', b'').decode()}"


def _keep(dataset: lance.LanceDataset, rows: kept.Rows, labels: Labels) -> None:
    """Write the labels of all rows that have them."""
    there = np.flatnonzero(labels.best != NO_CLASS)
    arrays: kept.Arrays = {
        "rows": rows[there],
        "classes": labels.classes[:, there],
        "probabilities": labels.probabilities[:, there].astype(np.float16),
    }
    kept.write(dataset, NAME, _recipe(dataset), arrays)


def _kept(dataset: lance.LanceDataset) -> kept.Arrays | None:
    arrays = kept.read(dataset, NAME, _recipe(dataset))
    return arrays if arrays and _fit(arrays) else None


def _aligned(arrays: kept.Arrays, rows: kept.Rows) -> Labels:
    """What is kept, in the order of `rows`."""
    labels, places = none(len(rows)), kept.find(rows, arrays["rows"])
    there = np.flatnonzero(places >= 0)
    labels.classes[:, there] = arrays["classes"][:, places[there]]
    labels.probabilities[:, there] = arrays["probabilities"][:, places[there]]
    return labels


def _fit(arrays: kept.Arrays) -> bool:
    """Whether arrays are labels: a database may be a stranger's."""
    kinds = {"rows": np.uint64, "classes": np.uint16, "probabilities": np.float16}
    if {name: array.dtype for name, array in arrays.items()} != kinds or arrays["rows"].ndim != 1:
        return False
    rows, classes, probabilities = (arrays[name] for name in kinds)
    if not classes.shape == probabilities.shape == (KEPT, len(rows)):
        return False
    return bool((classes < CLASSES).all() and ((probabilities >= 0) & (probabilities <= 1)).all())
