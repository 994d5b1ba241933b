"""The worker's loop: items in, rows and failures out, each item answered once.

    items ──read ahead──▶ bytes ──decode──▶ uint8[batch, size, size, 3] ──embed──▶ rows ──▶ record batches
            threads         └─ Failure        one thread      └─ Failure      └─ Failure

Reading waits for disks and networks, so threads do it; decoding and embedding are arithmetic, and a worker is one of
as many processes as there are cores, so they take turns on one thread. A worker of several cores, one with a GPU,
decodes the next minibatch on all of them while the model has this one.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.decode import DecodeError, Facts, Pixels, View, decode
from fanfold.images.embed import Embedder, Vectors
from fanfold.job import Failure, Item, Opener
from fanfold.storage import first_line

READ_AHEAD = 64 << 20
"""Bytes of files held or being read before their turn; a single larger file still passes."""
ROWS = 64
"""Rows in a record batch, at most."""
HURRY = 0.5
"""Seconds after which a record batch is passed on with fewer rows, so that progress is seen."""

Answer = pa.RecordBatch | Failure


class Picture(NamedTuple):
    """A picture that was decoded, and has its place in the minibatch."""

    item: Item
    uri: str
    bytes: int
    facts: Facts


class Embedding:
    """What a worker holds for the job `images`: the model, the minibatch. It is a `fanfold.job.Work`."""

    def __init__(
        self, embedder: Embedder, view: View, schema: pa.Schema, batch_size: int, max_bytes: int, threads: int = 1
    ) -> None:
        self.seconds = {"read": 0.0, "decode": 0.0, "embed": 0.0}
        self._embedder = embedder
        self._view = view
        self._schema = schema
        self._pixels = np.empty((batch_size, view.size, view.size, 3), np.uint8)
        self._max_bytes = max_bytes
        self._threads = threads

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[Answer]:
        """Answer every item once: rows of the job's schema some at a time, failures as they happen."""
        rows = Rows(self._schema)
        batch: list[Picture] = []
        decoded = self._decoded if self._threads == 1 else self._decoded_ahead
        for answer in decoded(items, source):
            if isinstance(answer, Failure):
                yield answer
                continue
            batch.append(answer)
            if len(batch) == len(self._pixels):
                yield from self._embedded(batch, rows)
                batch.clear()
        yield from self._embedded(batch, rows)
        yield from rows.flush()

    def embed_one(self, data: bytes) -> Vectors:
        """float32[dimension], the vector of one picture, as a table of this job holds it.

        Raises UsageError for bytes that are no picture.
        """
        try:
            decode(data, self._pixels[0], self._view)
        except DecodeError as error:
            raise UsageError(f"The picture cannot be read: {error}") from error
        vector: Vectors = self._embedder(self._pixels[:1])[0]
        return vector

    def _decoded(self, items: Iterable[Item], source: Opener) -> Iterator[Picture | Failure]:
        """Read and decode; the pixels of the pictures go into the places of the minibatch, one after the other."""
        places = cycle(self._pixels)
        pixels = next(places)
        reads = read_ahead(items, source, self._max_bytes)
        try:
            while (read := self._next(reads)) is not None:
                item, data = read
                if isinstance(data, Exception):
                    yield Failure.of(item, "read", data)
                    continue
                try:
                    with self._timed("decode"):
                        facts = decode(data, pixels, self._view)
                except DecodeError as error:
                    yield Failure.of(item, "decode", error)
                    continue
                yield Picture(item, source.uri(item), len(data), facts)
                pixels = next(places)
        finally:
            reads.close()

    def _decoded_ahead(self, items: Iterable[Item], source: Opener) -> Iterator[Picture | Failure]:
        """The same by several threads, in order, a minibatch ahead. What is counted as decoding is the wait for it.

        Pillow's settings are the process's, so of what is not JPEG one is decoded at a time (see decode.py).
        """
        places = cycle(self._pixels)
        with (
            closing(read_ahead(items, source, self._max_bytes)) as reads,
            closing(
                decode_ahead(iter(partial(self._next, reads), None), self._view, self._threads, len(self._pixels))
            ) as decoded,
        ):
            for item, result in decoded:
                with self._timed("decode"):
                    found = result()
                if isinstance(found, Decoded):
                    next(places)[:] = found.pixels
                    yield Picture(item, source.uri(item), found.bytes, found.facts)
                else:
                    yield Failure.of(item, "decode" if isinstance(found, DecodeError) else "read", found)

    def _next(self, reads: "Iterator[Read]") -> "Read | None":
        with self._timed("read"):  # what is waited for, not what the threads spend
            return next(reads, None)

    def _embedded(self, batch: list[Picture], rows: "Rows") -> Iterator[Answer]:
        if not batch:
            return
        with self._timed("embed"):
            vectors = self._vectors(len(batch))
        for picture, vector in zip(batch, vectors, strict=True):
            if isinstance(vector, Exception):
                yield Failure.of(picture.item, "embed", vector)
            else:
                rows.add(picture, vector)
                if len(rows) == ROWS or time.monotonic() - rows.since > HURRY:
                    yield from rows.flush()

    def _vectors(self, count: int) -> "list[Vectors | Exception]":
        """The vector of each of the first `count` pictures; if they fail together, one by one, so one fails alone."""
        try:
            found = list(self._embedder(self._pixels[:count]))
        except Exception:
            return [self._vector(index) for index in range(count)]
        return [_finite(vector) for vector in found]

    def _vector(self, index: int) -> Vectors | Exception:
        try:
            return _finite(self._embedder(self._pixels[index : index + 1])[0])
        except Exception as error:
            self._check_model(error)
            return error

    def _check_model(self, error: Exception) -> None:
        """Raises FanfoldError if a black picture fails as well: a lost GPU, or no memory, is no picture's fault."""
        try:
            self._embedder(np.zeros_like(self._pixels[:1]))
        except Exception:
            raise FanfoldError(
                f"The model no longer runs: {first_line(error)}. Run the command again once that is mended; what is "
                "done stays done."
            ) from error

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def _finite(vector: Vectors) -> Vectors | Exception:
    return (
        vector if np.isfinite(vector).all() else ValueError("the model gave a vector with values that are not finite")
    )


class Rows:
    """Rows under way to a record batch, their vectors already in the memory Arrow will own."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._dimension = schema.field("vector").type.list_size
        self._clear()

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, picture: Picture, vector: Vectors) -> None:
        """Append a row. There is room for `ROWS`."""
        self._vectors[len(self._pictures)] = vector
        self._pictures.append(picture)

    def flush(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows so far, if any, and begin anew."""
        if self._pictures:
            batch = pa.RecordBatch.from_arrays([self._column(field) for field in self._schema], schema=self._schema)
            self._clear()
            yield batch

    def _clear(self) -> None:
        self.since = time.monotonic()
        self._pictures: list[Picture] = []
        self._vectors = np.empty((ROWS, self._dimension), np.float32)

    def _column(self, field: "pa.Field[Any]") -> Any:
        if field.name == "vector":  # no copy: Arrow keeps the array alive
            values = pa.array(self._vectors[: len(self)].reshape(-1))
            return pa.FixedSizeListArray.from_arrays(values, self._dimension)
        if field.name == "created":
            return pa.array([time.time_ns() // 1000] * len(self), pa.int64()).cast(field.type)
        return pa.array([_value(picture, field.name) for picture in self._pictures], field.type)


def _value(picture: Picture, column: str) -> Any:
    """A row's value: the item's, the picture's, or one of its facts, whichever has the column's name."""
    owner = picture.item if column in ("key", "version") else picture if column in ("uri", "bytes") else picture.facts
    return getattr(owner, column)


# -- reading ahead --------------------------------------------------------------------------------------------------

Read = tuple[Item, bytes | Exception]


def read_ahead(
    items: Iterable[Item], source: Opener, limit: int, budget: int = READ_AHEAD
) -> Generator[Read, None, None]:
    """Yield each item with its bytes, or with why it has none, in order.

    Some items ahead of the one being yielded are read by threads: `source.parallel_reads` at a time, twice as many
    held, and no more than `budget` bytes in all as the items' sizes tell. Closing the generator stops the reading.
    """
    pool = ThreadPoolExecutor(source.parallel_reads, thread_name_prefix="fanfold-read")
    pending: deque[tuple[Item, Future[bytes]]] = deque()
    left = iter(items)
    upcoming = next(left, None)
    held = 0
    try:
        while pending or upcoming is not None:
            while upcoming is not None and _has_room(pending, held + upcoming.size, source, budget):
                pending.append((upcoming, pool.submit(source.read, upcoming, limit)))
                held += upcoming.size
                upcoming = next(left, None)
            item, future = pending.popleft()
            held -= item.size
            yield item, _result(future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _has_room(pending: deque[Any], bytes_then: int, source: Opener, budget: int) -> bool:
    return not pending or (len(pending) < 2 * source.parallel_reads and bytes_then <= budget)


def _result(future: Future[bytes]) -> bytes | Exception:
    try:
        return future.result()
    except Exception as error:  # sources promise OSError; whatever else one raises must not end the task
        return error


# -- decoding ahead -------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """A picture ready for the model."""

    pixels: Pixels
    """uint8[size, size, 3]"""
    facts: Facts
    bytes: int
    """Of its file."""


def decode_ahead(
    reads: Iterator[Read], view: View, threads: int, ahead: int, budget: int = READ_AHEAD
) -> Generator[tuple[Item, Callable[[], Decoded | Exception]], None, None]:
    """Yield each item with a call that waits for its picture, or for why there is none, in order.

    `ahead` pictures and one a thread are under way while the one yielded is used, as long as their files take no more
    than `budget` bytes together. Closing the generator stops the decoding.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fanfold-decode")
    pending: deque[tuple[Item, Future[Decoded | Exception]]] = deque()
    held, ended = 0, False
    try:
        while pending or not ended:
            while not ended and (not pending or (len(pending) <= ahead + threads and held < budget)):
                read = next(reads, None)
                if read is None:
                    ended = True
                    break
                item, data = read
                held += item.size
                pending.append((item, pool.submit(_decoded_apart, data, view)))
            if pending:
                item, future = pending.popleft()
                held -= item.size
                yield item, future.result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _decoded_apart(data: bytes | Exception, view: View) -> Decoded | Exception:
    if isinstance(data, Exception):
        return data
    pixels = np.empty((view.size, view.size, 3), np.uint8)
    try:
        return Decoded(pixels, decode(data, pixels, view), len(data))
    except DecodeError as error:
        return error
