"""Files of the Hugging Face hub: fetched once, kept, and checked at every later use.

    CACHE/hub/models--ORG--REPO/...          the hub client's own layout
    CACHE/hub/records/<hash of address>.json  a fetched file: revision (a commit), SHA-256, path

An address without a revision means the hub's `main` on the day of the first fetch. The record keeps that commit, so a
push to the repository does not change the vectors of a table.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.models.cache import cache_dir, digest, write_whole

SCHEME = "hf://"
CONFIG = "preprocessor_config.json"
_NO_DOWNLOAD = "The model 'efficientnet-lite0' needs no download."


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `hf://org/repo/path/in/repo.onnx@revision`."""

    repo: str
    path: str
    revision: str | None

    @classmethod
    def parse(cls, text: str, ending: str = ".onnx") -> "Address":
        """Raises UsageError for other text."""
        body, _, revision = text.removeprefix(SCHEME).partition("@")
        parts = body.split("/", 2)
        if len(parts) != 3 or not all(parts) or not body.endswith(ending):
            raise UsageError(f"'{text}' is not an address like hf://org/repo/path/model{ending}@revision.")
        return cls("/".join(parts[:2]), parts[2], revision or None)

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}/{self.path}" + (f"@{self.revision}" if self.revision else "")


class NotThere(UsageError):
    """The repository has no such file."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of the hub on this disk."""

    file: str
    revision: str
    """Commit that it is from."""
    sha256: str
    config: str
    """Path of the preprocessor_config.json of the same revision; empty if there is none, or if it was not wanted."""


def fetch(address: Address, sha256: str = "", *, config: bool = True, otherwise: str = _NO_DOWNLOAD) -> Fetched:
    """The file at `address`, from the cache if it is there and unharmed, else from the hub.

    `sha256`, if given, is the file's expected hash; with `config`, the file of its preprocessing comes along.
    `otherwise` is a sentence on what works without the file. Raises NotThere, and FanfoldError if the hash differs or
    the hub cannot be reached.
    """
    record = _record(address, config)
    kept = _kept(record)
    if kept is None:
        kept = _download(address, config, otherwise)
        write_whole(record, json.dumps(asdict(kept), indent=1).encode())
    if sha256 and kept.sha256 != sha256:
        raise FanfoldError(f"{address} is not the expected file: its SHA-256 is {kept.sha256}, not {sha256}.")
    return kept


def is_here(address: Address, *, config: bool = True) -> bool:
    """Whether the file at `address` is in the cache, unharmed."""
    return _kept(_record(address, config)) is not None


def _record(address: Address, config: bool) -> Path:
    identity = str(address) if config else f"{address} alone"
    return cache_dir() / "hub" / "records" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def _kept(record: Path) -> Fetched | None:
    """The record's file, if it is unharmed; else the file is removed, to be fetched again."""
    try:
        kept = Fetched(**json.loads(record.read_bytes()))
        file = Path(kept.file)
        if digest(file) == kept.sha256:
            return kept
        file.resolve().unlink()  # snapshots are links to blobs: the blob is what is damaged
    except (OSError, ValueError, TypeError):
        pass
    return None


def _download(address: Address, config: bool, otherwise: str) -> Fetched:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file, commit = _call(address, otherwise)
    except EntryNotFoundError as error:
        raise NotThere(f"'{address.path}' does not exist in {address.repo} on the Hugging Face hub.") from error
    beside = _config(Address(address.repo, address.path, commit)) if config else None
    return Fetched(str(file), commit, digest(file), str(beside or ""))


def _config(address: Address) -> Path | None:
    """The file of the model's preprocessing: beside its graph, else at the repository's top."""
    from huggingface_hub.errors import EntryNotFoundError

    for path in dict.fromkeys([str(PurePosixPath(address.path).with_name(CONFIG)), CONFIG]):
        try:
            return _call(Address(address.repo, path, address.revision))[0]
        except EntryNotFoundError:
            continue
    return None


def _call(address: Address, otherwise: str = _NO_DOWNLOAD) -> tuple[Path, str]:
    """A file by the hub's own client, and its commit. Raises EntryNotFoundError, or FanfoldError for other errors.

    The commit comes first: without a network, the download alone would retry for half a minute.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT")
    url = hf_hub_url(address.repo, address.path, revision=address.revision, endpoint=endpoint)
    try:
        commit = get_hf_file_metadata(url, endpoint=endpoint).commit_hash
        options: dict[str, Any] = {"revision": commit, "cache_dir": cache_dir() / "hub", "endpoint": endpoint}
        with _silent():
            return Path(hf_hub_download(address.repo, address.path, **options)), str(commit)
    except RepositoryNotFoundError as error:
        raise UsageError(f"There is no model {address.repo} on the Hugging Face hub, or it is private.") from error
    except Exception as error:  # HTTP errors, broken downloads, full disks: the client wraps few of them
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise
        message = " ".join(str(error.__cause__ or error).split())[:200]
        raise FanfoldError(
            f"Cannot fetch {address} from the Hugging Face hub ({type(error).__name__}: {message}). "
            f"Check the network and try again. {otherwise}"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """The block runs without the client's progress bars."""
    from huggingface_hub import utils

    before = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            utils.enable_progress_bars()
