"""`fanfold images labels`: what the pictures of a table show, as far as its model knows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import lance
from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.errors import UsageError
from fanfold.images.cli import show
from fanfold.images.cli.search import checked_score
from fanfold.images.cli.tables import Table, opened
from fanfold.images.columns.joined import removing
from fanfold.images.labels import keep
from fanfold.images.labels.file import read
from fanfold.images.search.by_text import Fit, text_side
from fanfold.images.search.rows import name_of
from fanfold.images.text.search import FreeText
from fanfold.images.words.classifier import weights_of
from fanfold.images.words.own import known_of
from fanfold.images.words.search import ClassWords

Labels = Annotated[
    Path | None,
    Parameter(help="A file with a label on each line: the one that fits best becomes a column, for --where."),
]
Prompt = Annotated[
    str | None,
    Parameter(help='With --labels and a text encoder: the text for a label, such as "a drawing of a {}".'),
]
MinScore = Annotated[
    float | None,
    Parameter(
        help="With --labels: lowest score of a label, from 0 to 1; other pictures get none. By default 0.01 for words "
        "that a model knows, else 0."
    ),
]


def labels(
    database: Database,
    /,
    *,
    labels: Labels = None,
    prompt: Prompt = None,
    min_score: MinScore = None,
    top: Annotated[int, Parameter(help="Number of labels to show, the most frequent first.")] = 20,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Label pictures, and count the pictures of each label.

    By default, those that are new or have changed are labelled by the model's own classifier. With --labels, all get
    the one label of a file that fits best.

    For example: `fanfold images labels db --top 5`
    """
    if top < 1:
        raise UsageError(f"--top takes a whole number of at least 1, not {top}.")
    if labels is not None:
        _from_file(opened(database, table), database, labels, prompt, min_score, top, json)
        return 0
    if prompt is not None or min_score is not None:
        raise UsageError("--prompt and --min-score go with --labels FILE.")
    _of_the_model(opened(database, table), database, top, json)
    return 0


def _of_the_model(dataset: lance.LanceDataset, database: str, top: int, json: bool) -> None:
    """Label pictures that are new or have changed by the model's classifier, and count its labels."""
    from fanfold.images.words.labels import refresh
    from fanfold.images.words.vocabulary import names

    if weights_of(dataset) is None and isinstance(text_side(dataset), FreeText):
        raise UsageError(
            "The model of this table has no labels of its own, but takes any. Write some into a file, one on each "
            f"line, and type: fanfold images labels {database} --labels FILE"
        )
    with shown.fraction("labelling") as progress:
        counts = refresh(dataset, progress).counts()
    show.facets([(names()[number], pictures) for number, pictures in counts], top, json)


def _from_file(
    dataset: lance.LanceDataset,
    database: str,
    path: Path,
    prompt: str | None,
    least: float | None,
    top: int,
    json: bool,
) -> None:
    """Label all pictures by the labels of a file, keep that as a column, and count the labels."""
    side, name = text_side(dataset), keep.name_of(dataset, path)
    least = (0.0 if isinstance(side, FreeText) else side.least) if least is None else checked_score(least)
    found = read(path)
    if found.repeated:
        what = "line that repeats another" if found.repeated == 1 else "lines that repeat others"
        shown.note(f"{path} has {found.repeated:,} {what}.")
    if isinstance(side, FreeText):
        labels, fit = found.labels, _by_text(side, found.labels, prompt)
    else:
        assert isinstance(side, ClassWords)
        labels, fit = _by_words(side, path, found.labels, prompt)
    fit = fit.at_least(least)
    place = keep.keep(dataset, name, path, labels, fit)
    show.facets(counts := fit.counts(labels), top, json, len(fit.best) - sum(pictures for _, pictures in counts))
    shown.note(
        f"Kept as the columns {name} and {name}{keep.SCORE}, in {place}. "
        f"Take them away with: {removing(database, name_of(dataset), name)}"
    )


def _by_text(side: FreeText, labels: list[str], prompt: str | None) -> Fit:
    texts = side.captions(labels, prompt)
    for note in side.notes(*texts):
        shown.note(note)
    with shown.fraction("labelling") as progress:
        return side.label(texts, progress)


def _by_words(side: ClassWords, path: Path, labels: list[str], prompt: str | None) -> tuple[list[str], Fit]:
    """The labels of a file that are words of the model, and which of them fits each picture best."""
    if prompt is not None:
        raise UsageError("--prompt is for models with a text encoder. The model of this table knows words only.")
    known = known_of(labels)
    if not known.labels:
        raise UsageError(
            f"The model of this table knows none of the labels of {path}, such as {_some(known.unknown, 3)}. "
            "For labels of any kind, embed with a model that has a text encoder: `fanfold images models` lists them."
        )
    if known.unknown:
        are = "label is not a word" if len(known.unknown) == 1 else "labels are not words"
        shown.note(f"{len(known.unknown):,} {are} that the model knows: {_some(known.unknown)}.")
    if known.shadowed:
        shown.note(f"No picture gets these labels, since narrower ones or synonyms do: {_some(known.shadowed)}.")
    with shown.fraction("labelling") as progress:
        return list(known.labels), side.label(list(known.labels.values()), progress)


def _some(labels: Sequence[str], most: int = 10) -> str:
    """The first few labels."""
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
