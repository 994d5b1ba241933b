"""The files of a text encoder on this disk: fetched once, and checked at every use."""

from pathlib import Path
from typing import NamedTuple

from fanfold.errors import UsageError
from fanfold.images.models import hub
from fanfold.images.models.cache import digest
from fanfold.images.models.registry import Text

OTHERWISE = "A search by a picture does not need it."


class Files(NamedTuple):
    """The two files of a text encoder."""

    graph: Path
    tokenizer: Path


def files_of(text: Text) -> Files:
    """The files, those of the hub from the cache or fetched.

    Raises UsageError for a local file that is gone or has changed, FanfoldError for one that cannot be fetched.
    """
    tokenizer = _checked(text.tokenizer, text.tokenizer_sha256, ".json")  # the small one first
    return Files(_checked(text.source, text.sha256, ".onnx"), tokenizer)


def are_here(text: Text) -> bool:
    """Whether nothing has to be fetched."""
    addresses = ((text.source, ".onnx"), (text.tokenizer, ".json"))
    return all(
        hub.is_here(hub.Address.parse(address, ending), config=False)
        for address, ending in addresses
        if address.startswith(hub.SCHEME)
    )


def _checked(address: str, sha256: str, ending: str) -> Path:
    if address.startswith(hub.SCHEME):
        fetched = hub.fetch(hub.Address.parse(address, ending), sha256, config=False, otherwise=OTHERWISE)
        return Path(fetched.file)
    path = Path(address)
    if (found := hash_of(path)) != sha256:
        raise UsageError(
            f"{path} has changed since the table was made: its SHA-256 is {found}, not {sha256}. Put the old file "
            "back, or choose the new one with: fanfold images embed SOURCE DATABASE --text-model FILE"
        )
    return path


def hash_of(path: Path) -> str:
    """The SHA-256 of a local file. Raises UsageError if it cannot be read."""
    try:
        return digest(path)
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}, which a search by text needs: {error.strerror}. Put the file back, or choose another "
            "text encoder with: fanfold images embed SOURCE DATABASE --text-model FILE"
        ) from error
