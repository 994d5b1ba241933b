"""Search by free text: the rows whose vectors are nearest to the text's."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import lance
import numpy as np

from fanfold.images.models.registry import Text
from fanfold.images.search.by_text import Fit, Found, TextHit
from fanfold.images.search.neighbours import Hit, nearest_rows
from fanfold.images.search.rows import Indices, Progress, Vectors, dimension_of
from fanfold.images.text.files import are_here
from fanfold.images.text.labels import best_of, captions, probabilities
from fanfold.images.text.tokens import check_extra, check_words
from fanfold.images.text.twin import check_length

if TYPE_CHECKING:
    from fanfold.images.text.encoder import Encoder


_TEXTS = 0.5  # of the progress of labelling: the vectors of the labels; the rest is for the rows


class FreeText:
    """The text side of a table whose model has a text encoder."""

    by = "text encoder"

    def __init__(self, dataset: lance.LanceDataset, text: Text) -> None:
        self._dataset = dataset
        self._text = text
        self.least = -1.0 if text.bias is None else 0.0

    def understand(self, text: str) -> tuple[str, ...]:
        """Nothing: every text is understood, more or less. Raises UsageError for an empty one."""
        check_words(text)
        return ()

    def find(
        self, text: str, k: int, least: float, among: Indices | None = None, progress: Progress = lambda _: None
    ) -> Found:
        """The `k` rows of the highest scores, of at least `least`: by the table's index if it has one, without `among`.

        A score is the probability that the text fits the picture, if the model was trained to give one, else the
        cosine. Raises MissingExtra, UsageError for a text encoder whose vectors have another length, FanfoldError if it
        cannot be fetched.
        """
        rows, cosines = nearest_rows(self._dataset, self.vector(text), k, among=among)
        progress(1.0)
        scores = self.scores(cosines)
        return Found((), rows[scores >= least], scores[scores >= least])

    def notes(self, *texts: str) -> Iterator[str]:
        """What to tell the user about texts, a sentence each: before a download, and if some are too long."""
        for text in texts:
            check_words(text)  # before a download
        check_extra()
        if not are_here(self._text):
            size = f"{self._text.download_bytes / 1e6:.0f} MB, " if self._text.download_bytes else ""
            yield f"Fetching the text encoder from the Hugging Face hub ({size}once)."
        if cut := sum(self._encoder().tokenizer(text).cut for text in texts):
            what, its = ("The text is", "its") if len(texts) == 1 else (f"Of {len(texts):,} texts {cut:,} are", "their")
            yield f"{what} long: only {its} first {self._text.length} tokens count."

    def vector(self, text: str) -> Vectors:
        """float32[dimension], of length 1. Raises what `find` raises."""
        vector = self._encoder()(text)
        check_length(self._text, len(vector), dimension_of(self._dataset))
        return vector

    def captions(self, labels: Sequence[str], prompt: str | None = None) -> list[str]:
        """A text for each label: `prompt`, by default the model's own, with the label instead of `{}`.

        Raises UsageError for a prompt without `{}`, and for a single label if the model can only compare labels.
        """
        return captions(self._text, labels, prompt)

    def label(self, texts: Sequence[str], progress: Progress = lambda _: None) -> Fit:
        """Which of some texts fits each row best. Raises what `find` raises."""
        vectors = np.empty((len(texts), dimension_of(self._dataset)), np.float32)
        for number, one in enumerate(texts):
            vectors[number] = self.vector(one)
            progress(_TEXTS * (number + 1) / len(texts))
        return best_of(self._dataset, self._text, vectors, lambda done: progress(_TEXTS + (1 - _TEXTS) * done))

    def scored(self, hits: Iterable[Hit], least: float) -> list[TextHit]:
        """Pictures near the vector of a text, with their scores of at least `least`."""
        scores = ((hit, float(self.scores(np.array(hit.cosine)))) for hit in hits)
        return [TextHit(hit.key, hit.uri, score, hit.columns, hit.cosine) for hit, score in scores if score >= least]

    def scores(self, cosines: Vectors) -> Vectors:
        """The scores of pictures, by the cosines of their vectors with the text's."""
        return cosines if self._text.bias is None else probabilities(self._text, cosines)

    def _encoder(self) -> "Encoder":
        from fanfold.images.text.encoder import open_encoder  # late: importing ONNX Runtime is slow

        return open_encoder(self._text)
