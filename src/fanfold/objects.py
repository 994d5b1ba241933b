"""The objects of a bucket, by their keys, whatever those are.

obstore lists and reads them fast, and takes a key for a path: `a//b`, `a/../b` and control characters end its listing,
and `/a` and `a/` become `a`. On S3, with the extra `aws`, S3's own API lists, and reads such keys.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from fanfold.errors import StorageError
from fanfold.storage import open_url, unlisted

if TYPE_CHECKING:
    from fanfold.aws.objects import S3Objects

Meta = Mapping[str, Any]
"""What a store says of an object, as obstore has it: `path` (the key), `size`, `e_tag`, `last_modified`."""

_ODD = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")
"""Keys that are not paths as obstore knows them."""


class Answer(NamedTuple):
    """An object: what it is, and a call that gets its content."""

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
        from fanfold.aws.objects import S3Objects

        return S3Objects(self.bucket[5:])

    def list(self, prefix: str) -> Iterator[Meta]:
        """The objects whose keys begin with `prefix`, which is empty or ends in a slash.

        Raises StorageError at a key that cannot be listed.
        """
        if self._s3:
            self._check(prefix)
            return self._s3.list(prefix)
        return _with_slashes(self._listed(prefix))

    def head(self, key: str) -> Meta:
        """What is known of an object without its content."""
        if self._s3 and _ODD.search(key):
            return self._s3.head(key)
        return self._store.head(key)

    def get(self, key: str) -> Answer:
        """An object, its content to be had."""
        if self._s3 and _ODD.search(key):
            return Answer(*self._s3.get(key))
        answer = self._store.get(key)
        return Answer(answer.meta, lambda: bytes(answer.bytes()))

    def _check(self, prefix: str) -> None:
        """Look by obstore, which reads most objects: boto3 may find a region or credentials that it does not."""
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
            "Such keys can be used on s3:// only. Rename that object, name prefixes that do not hold it, or list the "
            "addresses of the others in a .txt file."
        )


def _with_slashes(listed: Iterator[Meta]) -> Iterator[Meta]:
    """obstore's listing, in which `a/` is a second `a`, with that slash again.

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
