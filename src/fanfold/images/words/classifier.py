"""The classifier in a model's own weights: the best of ImageNet's 1000 classes for a vector.

The vector is what the model's last layer gets, so softmax(W x + b) are the probabilities that the model was trained
to give. A table knows its weights by their SHA-256; an INT8 model has the classifier of the one it was made from.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import lance
import numpy as np

from fanfold.errors import UsageError
from fanfold.images.models.efficientnet_lite import FAMILY, Lite
from fanfold.images.search.rows import Indices, Vectors, metadata_of, name_of

KEPT = 8
"""Classes that are kept of a row. All 1000 have a mean average precision of 0.75 instead of 0.72 on pictures unlike the
model's, and as many right ones among the first ten (benches/words.py)."""

Classes = np.ndarray[Any, np.dtype[np.uint16]]


@dataclass(frozen=True, slots=True)
class Classifier:
    """The last layer of a model."""

    sha256: str
    """SHA-256 of the weights that it is from."""
    weight: Vectors
    """float32[dimension, classes]"""
    bias: Vectors

    def best(self, vectors: Vectors) -> tuple[Classes, Vectors]:
        """The KEPT best classes of each vector, the best first, and their probabilities: uint16 and float32[n, KEPT].

        A vector with values that are not finite has probabilities of 0.
        """
        with np.errstate(all="ignore"):
            return self._best(vectors @ self.weight + self.bias)

    def _best(self, scores: Vectors) -> tuple[Classes, Vectors]:
        # A partition of the values takes a third of the time of one of their numbers.
        least = np.partition(scores, -KEPT, axis=1)[:, -KEPT, None]
        columns = _first(scores >= least, KEPT)
        best = np.take_along_axis(scores, columns, 1)
        order = np.argsort(-best, axis=1, kind="stable")
        best, columns = np.take_along_axis(best, order, 1), np.take_along_axis(columns, order, 1)
        highest = best[:, :1]
        probabilities = np.exp(best - highest) / np.exp(scores - highest).sum(axis=1, keepdims=True)
        return columns.astype(np.uint16), np.nan_to_num(probabilities, nan=0.0)


def _first(chosen: np.ndarray[Any, np.dtype[np.bool_]], count: int) -> Indices:
    """The columns of the first `count` chosen ones in each row; more are chosen if several have the lowest score."""
    rows, columns = np.nonzero(chosen)
    starts = np.searchsorted(rows, np.arange(len(chosen)))
    if len(rows) == len(chosen) * count:
        return columns.reshape(-1, count)
    if np.diff(starts, append=len(rows)).min(initial=count) < count:  # of a row with values that are not finite
        return np.stack([np.argsort(~row, kind="stable")[:count] for row in chosen])
    first: Indices = columns[starts[:, None] + np.arange(count)]
    return first


def weights_of(dataset: lance.LanceDataset) -> str | None:
    """SHA-256 of the weights of a table's classifier; None if its model has none that is known."""
    lite = _model_of(dataset)
    return lite.sha256 if lite else None


def classifier_of(dataset: lance.LanceDataset) -> Classifier:
    """The classifier of a table's model. Raises UsageError if none is known, MissingExtra if it is not installed."""
    if lite := _model_of(dataset):
        return _classifier(lite)
    model = metadata_of(dataset).get("fanfold.model", "unknown")
    raise UsageError(
        f"Table '{name_of(dataset)}' cannot be searched by words: it has vectors of the model '{model}', for which "
        f"fanfold has no classifier. Search it by a picture, or embed with {' or '.join(one.name for one in FAMILY)}."
    )


def _model_of(dataset: lance.LanceDataset) -> Lite | None:
    metadata = metadata_of(dataset)
    weights = metadata.get("fanfold.base") or metadata.get("fanfold.sha256")
    return next((lite for lite in FAMILY if lite.sha256 == weights), None)


@cache
def _classifier(lite: Lite) -> Classifier:
    weights = lite.load()
    weight, bias = (np.asarray(weights[f"_fc.{part}"], np.float32) for part in ("weight", "bias"))
    return Classifier(lite.sha256, np.ascontiguousarray(weight.T), bias)
