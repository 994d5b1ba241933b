"""Search by words on the page, and the labels of pictures.

Labels that `fanfold images labels` has kept are read. Those of a few rows that have none are made in memory; nothing is
written. A model with a text encoder takes any text.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from more_itertools import sliced

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.search.by_text import text_side
from fanfold.images.search.rows import Indices, matrix
from fanfold.images.text.twin import twin_of
from fanfold.images.viewer.kept import Kept
from fanfold.images.viewer.questions import MOST_K, Selection
from fanfold.images.viewer.tables import Version
from fanfold.images.words import labels as labelling
from fanfold.images.words.classifier import KEPT, classifier_of, weights_of
from fanfold.images.words.search import ClassWords

UNASKED = 50_000
"""Most rows that are labelled in memory: about two seconds."""
MOST_ROWS = 100_000
"""Rows that a search by words may find."""
NAMED = 3
"""Labels of a picture that are shown."""
_READ = 1024  # rows read at a time


class Words:
    """What words find in the versions of a table."""

    def __init__(self) -> None:
        self._labels: Kept[labelling.Labels] = Kept(most=1)

    def knows(self, version: Version) -> bool:
        """Whether a table's model has words."""
        return weights_of(version.dataset) is not None or twin_of(version.metadata) is not None

    def understand(self, version: Version, text: str) -> dict[str, Any]:
        """What is `understood` of a text; or `why` nothing is."""
        try:
            return {"understood": text_side(version.dataset).understand(text)}
        except UsageError as error:
            return {"why": str(error)}

    def find(self, version: Version, text: str, among: Indices | None) -> Selection:
        """The rows that a text finds. Raises UsageError for a text that is not understood, or without labels."""
        side = text_side(version.dataset)
        most = MOST_K
        if isinstance(side, ClassWords):
            side.understand(text)  # before anything is labelled
            side, most = ClassWords(version.dataset, self.labels(version)), MOST_ROWS
        found = side.find(text, most, side.least, among, lambda _: None)
        return Selection(found.rows, found.scores, {"understood": found.understood})

    def labels(self, version: Version) -> labelling.Labels:
        """The labels of all rows. Raises UsageError if many have none."""
        return self._labels.get((version.name,), lambda: _labels(version))

    def named(self, version: Version, rows: Sequence[int]) -> list[str]:
        """The best labels of rows, in words; empty where there are none."""
        if weights_of(version.dataset) is None:
            return [""] * len(rows)
        with suppress(FanfoldError):
            named = self.labels(version).named(rows)
            return [", ".join(f"{name} {share:.2f}" for name, share in some[:NAMED]) for some in named]
        return [""] * len(rows)


def _labels(version: Version) -> labelling.Labels:
    labels = labelling.load(version.dataset)
    if labels is None:
        shape = (KEPT, version.rows)
        labels = labelling.Labels(np.full(shape, labelling.NO_CLASS, np.uint16), np.zeros(shape, np.float32))
    missing = labels.missing
    if len(missing) > UNASKED:
        database, _, table = version.dataset.uri.rpartition("/")
        name = table.removesuffix(".lance")
        flag = "" if name == "images" else f" --table {name}"
        raise UsageError(
            f"{len(missing):,} pictures have no labels yet, so words cannot find them. "
            f"Type: fanfold images labels {database}{flag}"
        )
    classifier = classifier_of(version.dataset)
    for some in sliced(missing, _READ):
        vectors = version.dataset.take(some.tolist(), columns=["vector"])["vector"].combine_chunks()
        classes, probabilities = classifier.best(matrix(vectors))
        labels.classes[:, some], labels.probabilities[:, some] = classes.T, probabilities.T
    return labels
