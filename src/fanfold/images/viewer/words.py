"""Search by words on the page, and the labels of pictures.

Labels that `fanfold images labels` has kept are read. Those of a few rows that have none are made in memory; nothing is
written. A model with a text encoder takes any text.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.search.by_text import text_side
from fanfold.images.search.rows import Indices
from fanfold.images.text.twin import twin_of
from fanfold.images.viewer.kept import Kept
from fanfold.images.viewer.questions import MOST_K, Selection
from fanfold.images.viewer.tables import Version
from fanfold.images.words import labels as labelling
from fanfold.images.words.classifier import weights_of
from fanfold.images.words.labels import Labels
from fanfold.images.words.search import ClassWords
from fanfold.images.words.vocabulary import names

UNASKED = 50_000
"""Most rows that are labelled in memory: about two seconds."""
MOST_ROWS = 100_000
"""Rows that a search by words may find."""
NAMED = 3
"""Labels of a picture that are shown."""


class Words:
    """What words find in the versions of a table."""

    def __init__(self) -> None:
        self._labels: Kept[Labels | None] = Kept(most=1)

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

    def labels(self, version: Version) -> Labels:
        """The labels of all rows. Raises UsageError if many have none."""
        found = self.at_hand(version)
        if found is None or len(found.missing):
            found = self._labels.get((version.name,), lambda: _all(version), again=True)
        return cast(Labels, found)

    def showing(self, version: Version, label: str) -> Indices:
        """The rows that have this as their best label, ascending. Raises UsageError for one that is not known."""
        if label not in names():
            raise UsageError(f"{label[:40]!r} is not a label that pictures can have.")
        return np.flatnonzero(self.labels(version).best == names().index(label))

    def at_hand(self, version: Version, again: bool = False) -> Labels | None:
        """The labels that are kept or were made here, if there are any; `again`: looks for those that were missing."""
        with suppress(FanfoldError):
            found = self._labels.get((version.name,), lambda: labelling.load(version.dataset))
            if again and (found is None or len(found.missing)):
                found = self._labels.get((version.name,), lambda: labelling.load(version.dataset), again=True)
            return found
        return None

    def look(self, version: Version) -> None:
        """Look for labels that are kept; in the background if the table is large: a million rows take half a second."""
        looking = threading.Thread(target=self.at_hand, args=(version, True), daemon=True)
        looking.start()
        if version.rows <= UNASKED:
            looking.join()

    def best(self, version: Version, rows: Sequence[int]) -> list[str]:
        """The best label of each row; empty where there is none at hand, and while those of a large table are read."""
        labels = self.at_hand(version) if version.rows <= UNASKED else self._labels.peek((version.name,))
        return [some[0][0] if some else "" for some in labels.named(rows)] if labels else [""] * len(rows)

    def described(self, version: Version, row: int) -> str:
        """A row's best labels with their probabilities, in words; empty if it has none, and many rows have none."""
        if weights_of(version.dataset) is None:
            return ""
        with suppress(FanfoldError):
            (named,) = self.labels(version).named([row])
            return ", ".join(f"{name} {share:.2f}" for name, share in named[:NAMED])
        return ""


def _all(version: Version) -> Labels:
    labels = labelling.load(version.dataset) or labelling.none(version.rows)
    missing = labels.missing
    if len(missing) > UNASKED:
        raise UsageError(
            f"{len(missing):,} pictures have no labels yet, so words cannot find them. "
            f"Type: {version.command('labels')}"
        )
    labelling.fill(version.dataset, labels, missing)
    return labels
