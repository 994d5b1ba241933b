"""The objects of a bucket, by any key that the store allows.

obstore lists and reads fast, but treats a key as a path: `a//b`, `a/../b` and control characters end its listing, and
`/a` and `a/` become `a`. On S3, with the extra `aws`, S3's own API lists the objects, and reads such keys.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from fanfold.errors import StorageError
from fanfold.storage import is_web, open_url, os_errors, split_url, unlisted

if TYPE_CHECKING:
    from fanfold.aws.objects import S3Objects

S3 = "fanfold.aws.objects"
"""The module of S3's own API. By name, since it builds on the core."""

Meta = Mapping[str, Any]
"""An object's description, in obstore's form: `path` (the key), `size`, `e_tag`, `last_modified`."""

_ODD = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")
"""Keys that are not paths as obstore knows them."""


class Answer(NamedTuple):
    """An object: its description, and a call that gets its content."""

    meta: Meta
    content: Callable[[], bytes]


class Objects:
    """The objects of one bucket, by the bucket's URL. All but `list` raise what obstore raises, or OSError."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    @cached_property
    def _store(self) -> ObjectStore:
        return open_url(self.bucket)

    @cached_property
    def _s3(self) -> "S3Objects | None":
        if not self.bucket.lower().startswith("s3://") or not find_spec("boto3"):
            return None
        found: S3Objects = importlib.import_module(S3).S3Objects(self.bucket[5:])
        return found

    def list(self, prefix: str) -> Iterator[Meta]:
        """The objects whose keys begin with `prefix`, which is empty or ends in a slash.

        Raises StorageError at a key that cannot be listed.
        """
        if self._s3:
            self._check(prefix)
            return self._s3.list(prefix)
        return _with_slashes(self._listed(prefix))

    def head(self, key: str) -> Meta:
        """The description of an object."""
        if self._s3 and _ODD.search(key):
            return self._s3.head(key)
        return self._store.head(key)

    def get(self, key: str, span: tuple[int, int] | None = None) -> Answer:
        """An object, or the part of it from one offset to another."""
        if self._s3 and _ODD.search(key):
            return Answer(*self._s3.get(key, span))
        answer = self._store.get(key, options={"range": span} if span else None)
        return Answer(answer.meta, lambda: bytes(answer.bytes()))

    def _check(self, prefix: str) -> None:
        """Check that obstore can list: it reads most objects, and boto3 may have credentials that it lacks."""
        if prefix and _ODD.search(prefix[:-1]):
            return
        try:
            next(iter(self._store.list(prefix[:-1] or None, chunk_size=1)), None)
        except BaseError as error:
            if not unlisted(error):
                raise

    def _listed(self, prefix: str) -> Iterator[Meta]:
        try:
            for chunk in self._store.list(prefix[:-1] or None, chunk_size=1000):
                yield from chunk
        except BaseError as error:
            if key := unlisted(error):
                raise StorageError(self._unlisted(key)) from error
            raise

    def _unlisted(self, key: str) -> str:
        where = f"Cannot list {self.bucket}: the key {key!r} has an empty part, '.', '..' or a control character. "
        if self.bucket.lower().startswith("s3://"):
            return where + "Such keys need the extra 'aws'. Install it with: pip install 'fanfold[aws]'"
        return where + (
            "Such keys work on s3:// only. Rename that object, name prefixes without it, or list the addresses of the "
            "others in a .txt file."
        )


def _with_slashes(listed: Iterator[Meta]) -> Iterator[Meta]:
    """obstore's listing with its lost slashes: it lists `a/` as a second `a`.

    Keys come in order, so between the two are only keys that begin with them: those make a short stack.
    """
    stack: list[str] = []
    for meta in listed:
        path = meta["path"]
        while stack and not path.startswith(stack[-1]):
            stack.pop()
        if stack and stack[-1] == path:
            yield {**meta, "path": f"{path}/"}
        else:
            stack.append(path)
            yield meta


def read_url(url: str) -> bytes:
    """The content of one object or web page. Raises OSError."""
    if is_web(url):
        from fanfold.source.web import Web

        return Web().read(url)
    with os_errors(url):
        base, key = split_url(url)
        return Objects(base).get(key).content()
