"""`fanfold images labels`: what the pictures of a table show, as far as the model's classifier knows it."""

from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.errors import UsageError
from fanfold.images.cli import show
from fanfold.images.cli.tables import Table, opened


def labels(
    database: Database,
    /,
    *,
    top: Annotated[int, Parameter(help="Number of labels to show, the most frequent first.")] = 20,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Label pictures that are new or have changed, and count the pictures of each label.

    For example: `fanfold images labels db --top 5`
    """
    if top < 1:
        raise UsageError(f"--top takes a whole number of at least 1, not {top}.")
    from fanfold.images.words.labels import refresh
    from fanfold.images.words.vocabulary import names

    dataset = opened(database, table)
    with shown.fraction("labelling") as progress:
        counts = refresh(dataset, progress).counts()
    show.facets([(names()[number], pictures) for number, pictures in counts], top, json)
    return 0
