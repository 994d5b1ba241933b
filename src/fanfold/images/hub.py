"""Files of the Hugging Face hub: fetched once, kept, and checked on every later use.

    CACHE/hub/models--ORG--REPO/...          the hub client's own layout
    CACHE/hub/records/<hash of address>.json  what was fetched: revision (a commit), SHA-256, where it lies

An address without a revision means the hub's `main` on the day it was first fetched; the record keeps that commit, so
vectors do not change under a table because somebody pushed to a repository.
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
from fanfold.images.cache import cache_dir, digest, write_whole

SCHEME = "hf://"
CONFIG = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Address:
    """`hf://org/repo/path/in/repo.onnx@revision`, taken apart."""

    repo: str
    path: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Raises UsageError for what does not look like one."""
        body, _, revision = text.removeprefix(SCHEME).partition("@")
        parts = body.split("/", 2)
        if len(parts) != 3 or not all(parts) or not body.endswith(".onnx"):
            raise UsageError(f"'{text}' is not an address like hf://org/repo/path/model.onnx@revision.")
        return cls("/".join(parts[:2]), parts[2], revision or None)

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}/{self.path}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of the hub on this disk."""

    file: str
    revision: str
    """The commit it is from, whatever the address said."""
    sha256: str
    config: str
    """The repository's preprocessor_config.json of the same revision on this disk; empty if it has none."""


def fetch(address: Address, sha256: str = "") -> Fetched:
    """The file at `address`, from the cache if it is there unharmed, else from the hub.

    `sha256`, if given, is what the file must have. Raises FanfoldError when the file cannot be had, or is not the one.
    """
    record = _record_file(address)
    kept = _kept(record)
    if kept is None:
        kept = _download(address)
        write_whole(record, json.dumps(asdict(kept), indent=1).encode())
    if sha256 and kept.sha256 != sha256:
        raise FanfoldError(f"{address} has the SHA-256 {kept.sha256}, not {sha256}: it is not the file it should be.")
    return kept


def _record_file(address: Address) -> Path:
    key = hashlib.sha256(str(address).encode()).hexdigest()[:32]
    return cache_dir() / "hub" / "records" / f"{key}.json"


def _kept(record: Path) -> Fetched | None:
    """What the record tells, if the file is still what it was; else the file is removed, to be fetched again."""
    try:
        kept = Fetched(**json.loads(record.read_bytes()))
        file = Path(kept.file)
        if digest(file) == kept.sha256:
            return kept
        file.resolve().unlink()  # snapshots are links to blobs: the blob is what is damaged
    except (OSError, ValueError, TypeError):
        pass
    return None


def _download(address: Address) -> Fetched:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file, commit = _call(address)
    except EntryNotFoundError as error:
        raise UsageError(f"There is no '{address.path}' in {address.repo} on the Hugging Face hub.") from error
    config = _config(Address(address.repo, address.path, commit))
    return Fetched(str(file), commit, digest(file), str(config or ""))


def _config(address: Address) -> Path | None:
    """The file that tells how pictures are shown to a model: beside its graph, else at the repository's top."""
    from huggingface_hub.errors import EntryNotFoundError

    for path in dict.fromkeys([str(PurePosixPath(address.path).with_name(CONFIG)), CONFIG]):
        try:
            return _call(Address(address.repo, path, address.revision))[0]
        except EntryNotFoundError:
            continue
    return None


def _call(address: Address) -> tuple[Path, str]:
    """A file by the hub's own client, and its commit. Raises EntryNotFoundError, or FanfoldError for all else.

    The commit is asked for first: the download alone would go on trying for half a minute without a network.
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
    except LocalEntryNotFoundError as error:  # the client's word for a connection that broke
        raise FanfoldError(_unreachable(address, error)) from error
    except EntryNotFoundError:
        raise
    except Exception as error:  # HTTP errors, broken downloads, full disks: the client wraps few of them
        raise FanfoldError(_unreachable(address, error)) from error


def _unreachable(address: Address, error: Exception) -> str:
    said = " ".join(str(error.__cause__ or error).split())[:200]
    return (
        f"{address} cannot be fetched from the Hugging Face hub ({type(error).__name__}: {said}). "
        "The model 'efficientnet-lite0' needs no download."
    )


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bars from a library; as they were, afterwards."""
    from huggingface_hub import utils

    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
