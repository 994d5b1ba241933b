"""Which of some labels fits each picture best, by a text encoder: zero-shot classification, as in CLIP's paper.

https://arxiv.org/abs/2103.00020, 3.1
"""

from collections.abc import Iterator, Sequence

import lance
import numpy as np

from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.images.models.registry import CLIP_SCALE, Text
from fanfold.images.search.by_text import NO_LABEL, Fit
from fanfold.images.search.rows import Progress, Vectors, stream, unit


def captions(text: Text, labels: Sequence[str], prompt: str | None) -> list[str]:
    """The text that stands for each label: `prompt`, else the model's own, with the label instead of `{}`.

    Raises UsageError for a prompt without `{}`, and for a single label if the model can only compare labels.
    """
    prompt = text.label_prompt if prompt is None else prompt
    if prompt.count("{}") != 1:
        raise UsageError('--prompt takes a text with {} in place of the label, such as: --prompt "a drawing of a {}"')
    if text.bias is None and len(labels) < 2:
        raise UsageError("This model compares labels with each other, so it needs at least two.")
    return [prompt.replace("{}", label) for label in labels]


def best_of(dataset: lance.LanceDataset, text: Text, vectors: Vectors, progress: Progress) -> Fit:
    """Which of some texts, given by their vectors of length 1, is the most probable for each row of a table.

    A row whose vector has no direction has no label. Raises StorageError.
    """
    rows = dataset.count_rows()
    best, scores, at = np.full(rows, NO_LABEL), np.zeros(rows, np.float32), 0
    for block in _blocks(dataset, rows):
        some = slice(at, at := at + len(block))
        with np.errstate(all="ignore"):
            cosines = unit(block) @ vectors.T
            highest = cosines.max(axis=1)
            known = np.isfinite(highest) & block.any(axis=1)
            best[some] = np.where(known, cosines.argmax(axis=1), NO_LABEL)
            scores[some] = np.where(known, _scores(text, cosines, highest), 0)
        progress(at / rows)
    return Fit(best, scores)


def probabilities(text: Text, cosines: Vectors) -> Vectors:
    """Of a model with a bias: the probability that a text fits a picture, for the cosines of their vectors."""
    assert text.bias is not None
    logits = _scale(text) * cosines.astype(np.float64) + text.bias  # up to 100: e^-x would overflow
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _scores(text: Text, cosines: Vectors, highest: Vectors) -> Vectors:
    """The probability of the best label of each row: float32[rows]"""
    if text.bias is not None:
        return probabilities(text, highest)
    shares: Vectors = 1 / np.exp(_scale(text) * (cosines - highest[:, None])).sum(axis=1)
    return shares


def _scale(text: Text) -> float:
    return CLIP_SCALE if text.scale is None else text.scale


def _blocks(dataset: lance.LanceDataset, rows: int) -> Iterator[Vectors]:
    with reading(dataset.uri):
        yield from stream(dataset, 0, rows)
