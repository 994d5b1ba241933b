"""The text encoder of a table: what is kept with the table, or the twin of the known model that made it."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import lance

from fanfold.errors import UsageError
from fanfold.images.models.registry import Text, text_of_weights
from fanfold.storage import errors_of

KEPT = "fanfold.text"
"""The key of a table's metadata that holds the facts of a text encoder of one's own, as JSON."""


def twin_of(metadata: Mapping[str, str]) -> Text | None:
    """The text encoder of a table with this metadata; None if it has none.

    A model that was quantised keeps the hash of the weights that it was made from, as `fanfold.base`. Raises UsageError
    for facts that this version of fanfold does not know.
    """
    if kept := metadata.get(KEPT):
        try:
            return Text(**json.loads(kept))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"The table's text encoder was kept by another version of fanfold: {error}. Keep it again with: "
                "fanfold images embed SOURCE DATABASE --text-model FILE"
            ) from error
    weights = metadata.get("fanfold.sha256"), metadata.get("fanfold.base")
    return text_of_weights(*weights, commit=metadata.get("fanfold.revision"))


def keep(dataset: lance.LanceDataset, text: Text) -> None:
    """Keep the facts of a text encoder with a table, unless they are there. Raises StorageError."""
    facts = json.dumps(asdict(text))
    if (dataset.schema.metadata or {}).get(KEPT.encode()) != facts.encode():
        with errors_of(dataset.uri):
            dataset.update_schema_metadata({KEPT: facts})


def check(text: Text, dimension: int) -> None:
    """Open a text encoder. Raises UsageError unless its vectors are as long as those of the pictures."""
    from fanfold.images.text.encoder import open_encoder

    check_length(text, len(open_encoder(text)("a photo")), dimension)


def check_length(text: Text, length: int, dimension: int) -> None:
    """Raises UsageError unless a vector of a text is as long as those of the pictures."""
    if length != dimension:
        raise UsageError(
            f"The text encoder {text.source} gives vectors of {length} values, but those of the pictures have "
            f"{dimension}. Use the text encoder that was trained with the model of the pictures."
        )
