"""The worker's loop: items in, rows and failures out, each item answered once.

    items ──read ahead──▶ bytes ──decode──▶ uint8[batch, size, size, 3] ──embed──▶ rows ──▶ record batches
            threads         └─ Failure        one thread      └─ Failure      └─ Failure

Reading waits for disks and networks, so threads do it. Decoding and embedding are arithmetic, with a worker per core,
so they take turns on one thread. A worker with several cores, for example beside a GPU, decodes the next minibatch on
all of them while the model computes this one.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from more_itertools import peekable

from fanfold.errors import FanfoldError, UsageError
from fanfold.images.decode import DecodeError, Facts, Pixels, View, decode
from fanfold.images.models.embedder import Embed, Vectors
from fanfold.job import Failure, Item, Opener
from fanfold.storage import first_line

READ_AHEAD = 64 << 20
"""Most bytes of files in memory before their turn; a single larger file still passes."""
ROWS = 64
"""Most rows in a record batch."""
HURRY = 0.5
"""Seconds after which a record batch is passed on with fewer rows, to show progress."""

Answer = pa.RecordBatch | Failure


class Picture(NamedTuple):
    """A decoded picture with a place in the minibatch."""

    item: Item
    row: dict[str, Any]
    """Its row, but for the vector."""


class Embedding:
    """A worker's model and minibatch; a `fanfold.job.Work`."""

    def __init__(
        self, embedder: Embed, view: View, schema: pa.Schema, batch_size: int, max_bytes: int, threads: int = 1
    ) -> None:
        self.seconds = {"read": 0.0, "decode": 0.0, "embed": 0.0}
        self._embedder = embedder
        self._view = view
        self._schema = schema
        self._pixels = np.empty((batch_size, view.size, view.size, 3), np.uint8)
        self._max_bytes = max_bytes
        self._threads = threads

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[Answer]:
        """Answer every item once: rows of the job's schema in batches, failures as they happen."""
        rows: list[dict[str, Any]] = []
        since = time.monotonic()
        for answer in self._answers(items, source):
            if isinstance(answer, Failure):
                yield answer
                continue
            rows.append(answer)
            if len(rows) == ROWS or time.monotonic() - since > HURRY:
                yield _batch_of(rows, self._schema)
                rows, since = [], time.monotonic()
        if rows:
            yield _batch_of(rows, self._schema)

    def _answers(self, items: Iterable[Item], source: Opener) -> Iterator[dict[str, Any] | Failure]:
        """Fill and embed minibatches."""
        batch: list[Picture] = []
        for picture in self._decoded(items, source):
            if isinstance(picture, Failure):
                yield picture
                continue
            batch.append(picture)
            if len(batch) == len(self._pixels):
                yield from self._embedded(batch)
                batch = []
        if batch:
            yield from self._embedded(batch)

    def embed_one(self, data: bytes) -> Vectors:
        """float32[dimension], the vector of one picture. Raises UsageError for bytes that are not a picture."""
        try:
            decode(data, self._pixels[0], self._view)
        except DecodeError as error:
            raise UsageError(f"The picture cannot be read: {error}") from error
        vector: Vectors = self._embedder(self._pixels[:1])[0]
        return vector

    def _decoded(self, items: Iterable[Item], source: Opener) -> Iterator[Picture | Failure]:
        """Read and decode; pixels go into the minibatch's places in turn.

        Several threads decode a minibatch ahead; then the time of decoding is the wait for it.
        Pillow's settings are process-wide, so pictures that are not JPEGs are decoded one at a time (see decode).
        """
        places, ahead = cycle(self._pixels), len(self._pixels)
        with (
            closing(read_ahead(items, source, self._max_bytes)) as reads,
            closing(decode_ahead(self._timed_reads(reads), self._view, self._threads, ahead)) as decoded,
        ):
            for item, result in decoded:
                with self._timed("decode"):
                    found = result()
                if isinstance(found, Decoded):
                    next(places)[:] = found.pixels
                    facts = {"uri": source.uri(item), "bytes": found.bytes, **found.facts._asdict()}
                    yield Picture(item, {"key": item.key, "version": item.version, **facts})
                else:
                    yield Failure.of(item, "decode" if isinstance(found, DecodeError) else "read", found)

    def _timed_reads(self, reads: "Iterator[Read]") -> "Iterator[Read]":
        while True:
            with self._timed("read"):  # the wait, not the time of the threads
                read = next(reads, None)
            if read is None:
                return
            yield read

    def _embedded(self, batch: list[Picture]) -> Iterator[dict[str, Any] | Failure]:
        with self._timed("embed"):
            vectors = self._vectors(len(batch))
        for (item, row), vector in zip(batch, vectors, strict=True):
            if isinstance(vector, Exception):
                yield Failure.of(item, "embed", vector)
            else:
                yield row | {"vector": vector, "created": time.time_ns() // 1000}

    def _vectors(self, count: int) -> "list[Vectors | Exception]":
        """The vectors of the first `count` pictures; if they fail together, each is tried alone."""
        try:
            return [_finite(vector) for vector in self._embedder(self._pixels[:count])]
        except Exception:
            return [self._vector(index) for index in range(count)]

    def _vector(self, index: int) -> Vectors | Exception:
        """Raises FanfoldError if a black picture fails, too: then the GPU or the memory is lost."""
        try:
            return _finite(self._embedder(self._pixels[index : index + 1])[0])
        except Exception as error:
            try:
                self._embedder(np.zeros_like(self._pixels[:1]))
            except Exception:
                raise FanfoldError(
                    f"The model no longer runs: {first_line(error)}. Run the command again when that is fixed; "
                    "finished work is kept."
                ) from error
            return error

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def _finite(vector: Vectors) -> Vectors | Exception:
    finite = np.isfinite(vector).all()
    return vector if finite else ValueError("the model gave a vector with values that are not finite")


def _batch_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in schema.names}
    values = pa.array(np.concatenate(columns["vector"]))  # at once: a list of arrays takes ten times as long
    columns["vector"] = pa.FixedSizeListArray.from_arrays(values, len(rows[0]["vector"]))
    return pa.RecordBatch.from_pydict(columns, schema=schema)


# -- reading and decoding ahead -------------------------------------------------------------------------------------

Read = tuple[Item, bytes | Exception]
T = TypeVar("T")
Result = TypeVar("Result")


def read_ahead(
    items: Iterable[Item], source: Opener, limit: int, budget: int = READ_AHEAD
) -> Generator[Read, None, None]:
    """Yield each item with its bytes, or with the error of reading it, in order.

    Threads read some items ahead of the one being yielded: `source.parallel_reads` at a time, twice as many in memory,
    and no more than `budget` bytes in all by the items' sizes. Closing the generator stops the reading.
    """
    upcoming = peekable((item, item) for item in items)

    def has_room(count: int, held: int) -> bool:
        following = upcoming.peek(None) if count < 2 * source.parallel_reads else None
        return following is not None and held + following[0].size <= budget

    def read(item: Item) -> bytes:
        return source.read(item, limit)

    with closing(_ahead(upcoming, read, source.parallel_reads, "fanfold-read", has_room)) as reads:
        for item, result in reads:
            data: bytes | Exception
            try:
                data = result()
            except Exception as error:  # sources promise OSError; no other error may end the task either
                data = error
            yield item, data


class Decoded(NamedTuple):
    """A picture ready for the model."""

    pixels: Pixels
    """uint8[size, size, 3]"""
    facts: Facts
    bytes: int
    """Size of its file."""


def decode_ahead(
    reads: Iterator[Read], view: View, threads: int, ahead: int, budget: int = READ_AHEAD
) -> Generator[tuple[Item, Callable[[], Decoded | Exception]], None, None]:
    """Yield each item, in order, with a call that waits for its picture or its error.

    Beside the picture that was yielded, `ahead` more and one per thread are in progress, as long as their files take no
    more than `budget` bytes together. Closing the generator stops the decoding. With one thread, the call itself
    decodes, and nothing is done ahead.
    """

    def decoded(data: bytes | Exception) -> Decoded | Exception:
        if isinstance(data, Exception):
            return data
        pixels = np.empty((view.size, view.size, 3), np.uint8)
        try:
            return Decoded(pixels, decode(data, pixels, view), len(data))
        except DecodeError as error:
            return error

    def has_room(count: int, held: int) -> bool:
        return count <= ahead + threads and held < budget

    if threads == 1:
        return ((item, partial(decoded, data)) for item, data in reads)
    return _ahead(reads, decoded, threads, "fanfold-decode", has_room)


def _ahead(
    inputs: Iterator[tuple[Item, T]],
    call: Callable[[T], Result],
    threads: int,
    name: str,
    has_room: Callable[[int, int], bool],
) -> Generator[tuple[Item, Callable[[], Result]], None, None]:
    """Call `call` by threads for some inputs ahead; yield each item, in order, with a function that waits for it.

    `has_room(count, bytes)` is whether another input may start beside those in progress; a first one always may.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    held = 0
    try:
        while True:
            while not pending or has_room(len(pending), held):
                if (following := next(inputs, None)) is None:
                    break
                item, data = following
                held += item.size
                pending.append((item, pool.submit(call, data)))
            if not pending:
                return
            item, future = pending.popleft()
            held -= item.size
            yield item, future.result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
