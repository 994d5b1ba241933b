"""The worker's loop: every item is answered once, a bad one fails alone, and memory is bounded."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import simplejpeg
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fanfold.errors import FanfoldError, UsageError
from fanfold.images import Images
from fanfold.images.decode import DecodeError, View
from fanfold.images.models.embedder import Embedder, threads
from fanfold.images.work import ROWS, Decoded, Embedding, decode_ahead, read_ahead
from fanfold.job import Failure, Item, Work


def jpeg(red: int = 100, size: tuple[int, int] = (60, 40)) -> bytes:
    """A small JPEG of one colour."""
    pixels = np.full((size[1], size[0], 3), (red, 50, 200), np.uint8)
    return simplejpeg.encode_jpeg(pixels)


def split(answers: Iterator[pa.RecordBatch | Failure]) -> tuple[dict[str, dict[str, Any]], dict[str, Failure]]:
    """Rows and failures by key; no key occurs twice."""
    rows: dict[str, dict[str, Any]] = {}
    failures: dict[str, Failure] = {}
    for answer in answers:
        found = {answer.key: answer} if isinstance(answer, Failure) else {r["key"]: r for r in answer.to_pylist()}
        assert not (found.keys() & (rows.keys() | failures.keys()))
        (failures if isinstance(answer, Failure) else rows).update(found)
    return rows, failures


def test_row(work: Embedding, folder: Callable[..., Any], picture: Image.Image) -> None:
    """A row has the item, its URI, its facts, and the same vector as the picture alone."""
    source = folder(**{"a b.jpg": simplejpeg.encode_jpeg(np.array(picture))})
    (item,) = source.items()
    before = time.time()
    (batch,) = work([item], source)
    assert batch.schema == Images().schema()
    (row,) = batch.to_pylist()
    data = source.read(item, 1 << 20)
    assert np.allclose(row.pop("vector"), work.embed_one(data), atol=1e-5)
    assert before - 1 <= row.pop("created").timestamp() <= time.time() + 1
    uri = (source.root / "a b.jpg").as_uri()
    assert row == {
        "key": "a b.jpg",
        "version": "1",
        "uri": uri,
        "width": 450,
        "height": 300,
        "bytes": len(data),
        "format": "JPEG",
        "truncated": False,
    }


def test_each_item_once(work: Embedding, folder: Callable[..., Any]) -> None:
    """Good and bad items in any mixture are each answered once, with the right result."""
    good = {f"{number:03d}.jpg": jpeg(number) for number in range(ROWS + 30)}
    source = folder(**good, **{"empty.png": b"", "text.jpg": b"hello", "half.jpg": jpeg(size=(900, 600))[:-300]})
    missing = Item("gone.jpg", 10, "1", "gone.jpg")
    large = Item("large.jpg", 1 << 40, "1", "000.jpg")
    items = [missing, *source.items(), large]
    rows, failures = split(work(items, source))
    assert rows.keys() | failures.keys() == {item.key for item in items}
    assert {key: failure.stage for key, failure in failures.items()} == {
        "empty.png": "decode",
        "text.jpg": "decode",
        "gone.jpg": "read",
        "large.jpg": "read",
    }
    assert failures["gone.jpg"].error == "FileNotFoundError"
    assert rows.keys() == good.keys() | {"half.jpg"}


def test_record_batches_are_small(work: Embedding, folder: Callable[..., Any]) -> None:
    """Rows come in batches of a second's work, so that progress is visible."""
    source = folder(**{f"{number:03d}.jpg": jpeg(number) for number in range(2 * ROWS + 1)})
    sizes = [answer.num_rows for answer in work(source.items(), source)]
    assert sum(sizes) == 2 * ROWS + 1
    assert 1 < len(sizes) < ROWS
    assert max(sizes) <= ROWS


def test_vectors_belong_to_their_rows(work: Embedding, folder: Callable[..., Any]) -> None:
    """For any split into minibatches, each row has its own vector."""
    source = folder(**{f"{number:03d}.jpg": jpeg(10 * number) if number != 2 else b"" for number in range(9)})
    rows, _ = split(work(source.items(), source))
    for key, row in rows.items():
        assert np.allclose(row["vector"], work.embed_one((source.root / key).read_bytes()), atol=1e-4), key


def test_nothing(work: Embedding, folder: Callable[..., Any]) -> None:
    """No items give no answers."""
    assert list(work([], folder())) == []


def test_it_is_a_work(work: Embedding, folder: Callable[..., Any]) -> None:
    """It satisfies the contract of a work, and records how long each stage took."""
    used: Work = work
    before = dict(used.seconds)
    source = folder(**{"a.jpg": jpeg()})
    list(used(source.items(), source))
    assert used.seconds.keys() == {"read", "decode", "embed"}
    assert all(used.seconds[stage] > before[stage] for stage in before)


# -- what the model does --------------------------------------------------------------------------------------------


@pytest.fixture(name="moody", params=[1, 3], ids=["1 thread", "3 threads"])
def _moody(request: pytest.FixtureRequest) -> Embedding:
    """A model that looks up its picture's red in a table: NaN at 50, nothing to look up from 150 on."""
    table = np.repeat(np.arange(150, dtype=np.float32)[:, None], 3, axis=1)
    table[47:54] = np.nan
    constants = {
        "table": table,
        "from": np.array([0, 0, 0, 0]),
        "to": np.array([999, 1, 1, 1]),
        "axes": np.array([1, 2, 3]),
    }
    nodes = [
        helper.make_node("Slice", ["pictures", "from", "to"], ["corner"]),
        helper.make_node("Squeeze", ["corner", "axes"], ["red"]),
        helper.make_node("Cast", ["red"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["vectors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "moody",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    schema = Images().schema()
    at = schema.get_field_index("vector")
    small = schema.set(at, pa.field("vector", pa.list_(pa.float32(), 3)))
    return Embedding(Embedder(model.SerializeToString()), View(8, 1.0), small, 4, 1 << 20, request.param)


def test_one_bad_picture_fails_alone(moody: Embedding, folder: Callable[..., Any]) -> None:
    """If a minibatch fails, its pictures are tried one by one, and only the culprit fails."""
    source = folder(**{f"{red:03d}.jpg": jpeg(red) for red in (10, 20, 50, 90, 100, 200, 110, 120, 130)})
    rows, failures = split(moody(source.items(), source))
    assert {key: failure.stage for key, failure in failures.items()} == {"050.jpg": "embed", "200.jpg": "embed"}
    assert failures["050.jpg"].message == "the model gave a vector with values that are not finite"
    assert "out of data bounds" in failures["200.jpg"].message
    assert all(abs(row["vector"][0] - int(key[:3])) < 3 for key, row in rows.items())


def test_a_model_that_runs_no_more(moody: Embedding, folder: Callable[..., Any]) -> None:
    """If no picture at all can be embedded, the task fails, because failed pictures would not be retried."""
    broken = Embedding(moody._embedder, View(9, 1.0), moody._schema, 4, 1 << 20)  # the model takes pictures of 8 x 8
    source = folder(**{f"{number}.jpg": jpeg(number) for number in range(6)})
    with pytest.raises(FanfoldError, match=r"The model no longer runs: .*dimension.*Run the command again"):
        list(broken(source.items(), source))


# -- reading ahead --------------------------------------------------------------------------------------------------


class Slow:
    """A source whose reads take as long as a test needs, and that counts the reads in flight."""

    def __init__(self, parallel_reads: int, during: Callable[[Item], object] = lambda _item: None) -> None:
        self.parallel_reads, self.during = parallel_reads, during
        self.started = self.flying = self.most = 0
        self.lock = threading.Lock()

    def read(self, item: Item, limit: int) -> bytes:  # noqa: ARG002
        with self.lock:
            self.started += 1
            self.flying += 1
            self.most = max(self.most, self.flying)
        self.during(item)
        with self.lock:
            self.flying -= 1
        if item.key == "7":
            raise ValueError("not what a source promised to raise")
        return item.key.encode()

    def uri(self, item: Item) -> str:
        return item.key


def numbered(count: int, size: int = 10) -> list[Item]:
    """This many items of a size."""
    return [Item(str(number), size, "1", str(number)) for number in range(count)]


def test_reads_overlap() -> None:
    """As many reads as the source allows are in flight, and their results come in order."""
    eight = threading.Barrier(8)
    source = Slow(parallel_reads=8, during=lambda item: int(item.key) < 8 and eight.wait(60))
    found = list(read_ahead(numbered(80), source, limit=100))
    assert [item.key for item, _ in found] == [str(number) for number in range(80)]
    assert source.most == 8
    assert isinstance(found[7][1], ValueError)


def test_reading_stays_within_its_budget() -> None:
    """No more bytes than the budget are read ahead, but a single larger file still passes."""
    source = Slow(parallel_reads=8, during=lambda _item: time.sleep(0.005))
    list(read_ahead(numbered(20, size=100), source, limit=1000, budget=250))
    assert source.most <= 2
    assert len(list(read_ahead(numbered(3, size=900), source, limit=1000, budget=250))) == 3


def test_reading_stops_with_its_consumer() -> None:
    """When the consumer stops, no further reads start, and it does not wait for those in flight."""
    go_on = threading.Event()
    source = Slow(parallel_reads=2, during=lambda item: item.key == "0" or go_on.wait(60))
    reads = read_ahead(numbered(1000), source, limit=100)
    next(reads)
    while source.flying < 2:
        time.sleep(0.001)
    reads.close()
    assert source.flying == 2
    go_on.set()
    while source.flying:
        time.sleep(0.001)
    time.sleep(0.1)
    assert source.started == 3


def test_items_are_not_listed_ahead() -> None:
    """Items are taken from their iterator when there is room, not all at once."""
    taken = (Item(str(number), 10, "1", "") for number in itertools.count())
    reads = read_ahead(taken, Slow(parallel_reads=2), limit=100)
    for _ in range(10):
        next(reads)
    reads.close()
    assert int(next(taken).key) < 20


# -- one picture, and many ------------------------------------------------------------------------------------------


def test_embed_one_refuses(work: Embedding) -> None:
    """A query that is not a picture is a usage error with the reason."""
    with pytest.raises(UsageError, match="cannot be read: not a picture"):
        work.embed_one(b"hello")


def test_memory_is_bounded(work: Embedding, folder: Callable[..., Any], photos: dict[str, Path]) -> None:
    """Embedding more pictures takes no more memory."""
    content = photos["rocket"].read_bytes()
    source = folder(**{"a.jpg": content})
    items = [Item(str(number), len(content), "1", "a.jpg") for number in range(100)]  # 0.8 MB each
    process = psutil.Process()

    def held_after(some: list[Item]) -> int:
        for _ in work(some, source):
            pass
        return process.memory_info().rss

    first = held_after(items[:20])
    assert held_after(items) - first < 40 << 20


# -- decoding ahead -------------------------------------------------------------------------------------------------

SMALL = View(8, 1.0)


def pictures(count: int, taken: list[str]) -> Iterator[tuple[Item, bytes | Exception]]:
    """Items with their bytes, recorded when taken; every fourth is not a picture, every fifth could not be read."""
    for item in numbered(count):
        number = int(item.key)
        taken.append(item.key)
        yield item, OSError("gone") if number % 5 == 4 else b"no picture" if number % 4 == 3 else jpeg(number)


def test_threads_decode_in_order() -> None:
    """Several threads give every item one answer, in order: its picture, or the reason why it has none."""
    found = [(item.key, result()) for item, result in decode_ahead(pictures(40, []), SMALL, threads=4, ahead=8)]
    assert [key for key, _ in found] == [str(number) for number in range(40)]
    for key, result in found:
        if int(key) % 5 == 4:
            assert isinstance(result, OSError)
        elif int(key) % 4 == 3:
            assert isinstance(result, DecodeError)
        else:
            assert isinstance(result, Decoded)
            assert abs(int(result.pixels[0, 0, 0]) - int(key)) < 3


def test_decoding_ahead_is_bounded() -> None:
    """At most a minibatch and one picture per thread are in progress, and no more bytes than the budget."""
    for budget, most in ((1000, 2 + 3 + 1), (30, 3)):  # files of 10 bytes each
        taken: list[str] = []
        ahead = decode_ahead(pictures(40, taken), SMALL, threads=3, ahead=2, budget=budget)
        for number, _ in enumerate(ahead):
            assert len(taken) <= number + most
        assert len(taken) == 40


def test_decoding_ahead_stops_when_closed() -> None:
    """Closing the iterator stops the decoding."""
    taken: list[str] = []
    ahead = decode_ahead(pictures(40, taken), SMALL, threads=2, ahead=2)
    next(ahead)
    ahead.close()
    assert len(taken) <= 5


def test_threads_change_no_vector(
    work: Embedding, folder: Callable[..., Any], photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with several cores gives the same rows and failures as one with a single core, up to rounding."""
    names = ("chelsea", "rocket", "coffee", "logo", "retina")
    source = folder(**{photos[name].name: photos[name].read_bytes() for name in names}, **{"bad.jpg": b"no picture"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    several = Images(batch_size=4).open()
    (ours, failed), (theirs, failed_there) = (split(one(source.items(), source)) for one in (work, several))
    assert ours.keys() == theirs.keys()
    assert failed == failed_there
    for key, row in ours.items():
        assert np.allclose(row["vector"], theirs[key]["vector"], atol=1e-4)
        assert {**row, "vector": 0, "created": 0} == {**theirs[key], "vector": 0, "created": 0}


@pytest.mark.parametrize(("said", "count"), [(None, 1), ("1", 1), ("4", 4), ("0", 1), ("4,2", 1)])
def test_threads_as_the_executor_says(said: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS sets a worker's cores; a missing or invalid value means one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads() == count


def test_minibatches_by_provider() -> None:
    """A GPU gets larger minibatches, unless the user sets the size."""
    assert [Images(provider=name).minibatch for name in ("cpu", "cuda", "tensorrt")] == [2, 64, 64]
    assert Images(provider="cuda", batch_size=8).minibatch == 8
