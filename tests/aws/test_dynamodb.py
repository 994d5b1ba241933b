"""The DynamoDB table, tested with servers that speak its API and with proxies that make them fail."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pytest
from boto3.dynamodb.conditions import Attr
from dynamo_servers import ABSENT, Throttle, dynalite, environment, moto, throttled

import fanfold.aws.client
from fanfold import StorageError, UsageError
from fanfold.aws.dynamodb.items import ITEM_BYTES
from fanfold.aws.dynamodb.table import DynamoTable
from fanfold.core.index import digests, words
from fanfold.core.mirror import bring_in_step, open_mirror
from fanfold.core.table import Drop, Table
from flaky import FAULTS, Plan, flaky

METADATA = {"fanfold.model": "resnet18", "fanfold.recipe": '{"model": "resnet18"}'}
DIMENSION = 512

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of dynalite."""
    with dynalite() as address:
        yield address


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that sets the address of DynamoDB."""

    def point(address: str) -> None:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)

    return point


@pytest.fixture
def address(server: str, reach: Callable[[str], None]) -> str:
    """The address of a table that can be created in dynalite."""
    reach(server)
    return f"dynamodb://{uuid.uuid4().hex}"


@pytest.fixture
def table(address: str) -> DynamoTable:
    """An empty table in dynalite."""
    return DynamoTable.create(address, METADATA)


def rows(count: int, version: str = "1", dimension: int = DIMENSION, start: int = 0) -> pa.Table:
    """Rows like those of the job `images`, with vectors that depend on the version."""
    keys = [f"a/{number:05d}.jpg" for number in range(start, start + count)]
    rng = np.random.default_rng([int(version), start])
    vectors = rng.standard_normal(count * dimension, np.float32)
    times = pa.array([1_800_000_000_000_000] * count, pa.timestamp("us", "UTC"))
    columns: dict[str, Any] = {
        "key": keys,
        "version": [version] * count,
        "uri": [f"s3://bucket/{key}" for key in keys],
        "vector": pa.FixedSizeListArray.from_arrays(vectors, dimension),
        "width": pa.array(range(count), pa.int32()),
        "truncated": [False] * count,
        "created": times,
    }
    return pa.table(columns)


def texts(some: Mapping[str, str]) -> pa.Table:
    """Rows of a key and a text, at version 1."""
    return pa.table({"key": list(some), "version": ["1"] * len(some), "text": list(some.values())})


def keys_of(some: pa.Table) -> list[str]:
    return [str(key) for key in some["key"].to_pylist()]


def check_holds(table: DynamoTable, some: pa.Table) -> None:
    """Check that the table has these rows, each once, bit for bit, and no others."""
    found, vectors, missing = table.get(keys_of(some))
    assert (found, missing) == (keys_of(some), [])
    assert vectors.tobytes() == some["vector"].combine_chunks().flatten().to_numpy().astype("<f4").tobytes()
    scanned = [item["ImageId"] for item in table.scan()]
    assert sorted(scanned) == sorted(keys_of(some))
    assert set(table.versions(keys_of(some)).values()) == set(some["version"].to_pylist())


def plain(name: str) -> Any:
    """The table through plain boto3."""
    return boto3.resource("dynamodb").Table(name)


# -- rows there and back ----------------------------------------------------------------------------------------------


def test_rows_come_back_bit_for_bit(table: DynamoTable) -> None:
    """Rows that were put are there once, at their version, in the order asked; missing keys are listed."""
    some = rows(333)
    table.put(some, {})
    check_holds(table, some)
    assert table.get(["none", *keys_of(some)[::-1], ""])[0::2] == (keys_of(some)[::-1], ["none", ""])
    assert table.versions(["none", "", "k" * 3000]) == {}
    assert table.refused == {}


def test_the_articles_reader_works_unchanged(table: DynamoTable) -> None:
    """Plain boto3 and the article's two lines of reading code return the vectors that were put."""
    some = rows(30)
    table.put(some, {})
    for key, expected in zip(keys_of(some), some["vector"].to_pylist(), strict=True):
        item = plain(table.name).get_item(Key={"ImageId": key})["Item"]
        vector = np.frombuffer(item["Vector"].value, dtype=item["DataType"])
        assert len(vector) == item["Dimension"]
        assert vector.tolist() == expected
    assert item | {"Vector": 0, "Recipe": 0} == {
        "ImageId": "a/00029.jpg",
        "Version": "1",
        "Uri": "s3://bucket/a/00029.jpg",
        "Vector": 0,
        "DataType": "float32",
        "Dimension": DIMENSION,
        "Width": 29,
        "Truncated": False,
        "Created": "2027-01-15T08:00:00.000000+00:00",
        "Model": "resnet18",
        "Recipe": 0,
    }


def test_what_was_spent_is_what_dynamodb_says(table: DynamoTable) -> None:
    """A write unit is 1 KB of an item, a read unit 4 KB read consistently; dynalite counts as DynamoDB does."""
    some = rows(60, dimension=600)  # 2.5 KB per item
    table.put(some, {})
    assert table.spent == {"written": 60, "write_units": 60 * 3, "read_units": 0, "throttled": 0}
    table.get(keys_of(some))
    assert table.spent["read_units"] == 60


def test_of_two_rows_with_one_key_the_last_is_put(table: DynamoTable) -> None:
    """DynamoDB refuses a call that names a key twice, so no call does."""
    twice = pa.concat_tables([rows(20), rows(20, "2")])
    table.put(twice, {})
    check_holds(table, rows(20, "2"))


# -- other writers ----------------------------------------------------------------------------------------------------


def test_a_newer_row_is_never_replaced_by_an_older(table: DynamoTable) -> None:
    """A writer with stale versions leaves newer rows alone, even among new rows, and without an error."""
    table.put(rows(40), {})
    stale = table.versions(keys_of(rows(40)))
    table.put(rows(40, "3"), stale)
    written = table.spent["written"]
    table.put(rows(50, "2"), stale)
    assert table.spent["written"] == written + 10  # the ten that were new
    check_holds(table, pa.concat_tables([rows(40, "3"), rows(50, "2").slice(40)]))


def test_a_row_is_replaced_where_it_was_seen(table: DynamoTable) -> None:
    """A changed row replaces the row that was seen."""
    table.put(rows(40), {})
    table.put(rows(40, "2"), table.versions(keys_of(rows(40))))
    check_holds(table, rows(40, "2"))


def test_an_item_without_a_version_is_replaced(table: DynamoTable) -> None:
    """An item that was put there by hand counts as seen without a version, and is replaced."""
    plain(table.name).put_item(Item={"ImageId": "a/00000.jpg"})
    seen = table.versions(["a/00000.jpg"])
    assert seen == {"a/00000.jpg": ""}
    table.put(rows(1), seen)
    check_holds(table, rows(1))


def test_only_what_was_seen_is_deleted(table: DynamoTable) -> None:
    """A key is deleted if it still has the version that was seen; deleting a missing key is not an error."""
    table.put(rows(60), {})
    seen = table.versions(keys_of(rows(60)))
    table.put(rows(10, "2"), seen)
    table.delete(seen)
    table.delete(seen)
    check_holds(table, rows(10, "2"))


def test_it_follows_a_lance_table(table: DynamoTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mirror it gets added and changed rows and loses removed ones, and overlapping drivers leave it in sync."""
    monkeypatch.setattr("fanfold.core.mirror._AT_ONCE", 100)
    truth = Table.create(str(tmp_path), "images", rows(1).schema)
    keys = keys_of(rows(250))
    mirrors = [open_mirror(f"dynamodb://{table.name}", METADATA) for _ in range(3)]
    for version, count in (("1", 250), ("2", 120), ("3", 30)):
        truth.commit(truth.write(iter(rows(count, version).to_batches())))
        with ThreadPoolExecutor(3) as pool:  # each has its own view of the table, and all the keys
            tables = [found for _ in mirrors if (found := Table.open(str(tmp_path), "images"))]
            list(pool.map(bring_in_step, tables, mirrors, [keys, keys[::-1], keys]))
    gone = keys[:10] + keys[-10:]
    truth.commit([], Drop(digests(gone), words(["3"] * 10 + ["1"] * 10)))
    bring_in_step(truth, mirrors[0], gone)
    now = pa.concat_tables([rows(30, "3").slice(10), rows(120, "2").slice(30), rows(250).slice(120, 120)])
    assert truth.dataset.count_rows() == 230
    check_holds(table, now)


# -- what DynamoDB cannot hold ----------------------------------------------------------------------------------------


def test_rows_it_cannot_hold_are_refused_by_name(table: DynamoTable) -> None:
    """Items over 400 KB and keys over 2048 bytes are named, with the reason, and all others are written."""
    good = {f"{number}": "x" for number in range(30)} | {"é" * 1024: "x"}
    bad = {"big": "x" * ITEM_BYTES, "huge": "x" * 20_000_000, "é" * 1025: "x", "": "x"}
    table.put(texts(good | bad), {})
    assert set(table.refused) == set(bad)
    assert "Item size" in table.refused["big"]
    assert table.refused["huge"] == "it is far larger than 400 KB, the limit of an item"
    assert table.refused["é" * 1025] == "its key does not have 1 to 2,048 bytes of UTF-8"
    assert {item["ImageId"] for item in table.scan()} == set(good)
    table.put(texts({"1": "x" * 409_600}), table.versions(["1"]))  # one that exists already
    assert "1" in table.refused


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e126, 1e-131])
def test_numbers_that_dynamodb_does_not_have(table: DynamoTable, number: float) -> None:
    """The row is refused with DynamoDB's reason, and the row beside it is written."""
    table.put(pa.table({"key": ["bad", "good"], "version": ["1", "1"], "score": [number, 1.5]}), {})
    assert list(table.refused) == ["bad"]
    assert [item["Score"] for item in table.scan()] == [1.5]


def test_what_only_the_server_refuses_costs_that_row_alone(reach: Callable[[str], None]) -> None:
    """If DynamoDB declines a call because of one item, the others are written and that one is reported."""
    with dynalite(maxItemSizeKb=1) as address:
        reach(address)
        table = DynamoTable.create("dynamodb://small", METADATA)
        table.put(texts({f"{number}": "x" for number in range(30)} | {"big": "x" * 1100}), {})
        table.put(texts({"1": "x" * 1100, "2": "y"}), table.versions(["1", "2"]))
        assert set(table.refused) == {"big", "1"}
        assert "size" in table.refused["big"]
        assert sum(1 for _ in table.scan()) == 30


def test_a_call_stays_within_16_mb(table: DynamoTable) -> None:
    """Rows near the limit are split over several calls, even if JSON makes them six times as large, and can be read."""
    large = texts({f"{number}": "\x01" * 400_000 for number in range(8)})  # 19 MB of JSON
    table.put(large, {})
    assert table.refused == {}
    assert table.spent["written"] == 8
    vectors = rows(44, dimension=99_000)  # 17 MB to read; an answer has at most 16
    table.put(vectors, {})
    assert table.get(keys_of(vectors))[0] == keys_of(vectors)
    assert table.spent["throttled"] == 0


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_to_throttling(
    server: str, reach: Callable[[str], None], table: DynamoTable, seed: int
) -> None:
    """Items left over and declined calls are retried until all is done: put, replaced, read and deleted."""
    plan = Throttle(seed)
    with throttled(server, plan) as address:
        reach(address)
        slow = DynamoTable.open(f"dynamodb://{table.name}", METADATA)
        slow.put(rows(120), {})
        slow.put(rows(40, "2"), slow.versions(keys_of(rows(40))))
        now = pa.concat_tables([rows(40, "2"), rows(120).slice(40)])
        check_holds(slow, now)
        slow.delete(dict.fromkeys(keys_of(rows(120)), "1"))
        check_holds(slow, rows(40, "2"))
    assert slow.spent["written"] == 160
    assert plan.calls["declined"] > 10
    assert plan.calls["left over"] > 10
    assert slow.spent["throttled"] >= plan.calls["declined"]


def test_a_table_is_emptied_under_a_throttle(server: str, reach: Callable[[str], None], table: DynamoTable) -> None:
    """Each page of a table is retried until it is read and deleted, even after other pages were."""
    table.put(rows(160, dimension=8192), {})
    with throttled(server, Throttle(declined=0.5)) as address:
        slow = _at(address, reach, table)
        slow.clear()
        assert list(slow.scan()) == []
    assert slow.spent["throttled"]


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_to_faults(server: str, reach: Callable[[str], None], table: DynamoTable, seed: int) -> None:
    """Errors, resets, cut answers and stalls, before and after the server did the request, change nothing."""
    plan = Plan(seed, rate=0.3, stall=0.2)
    with flaky(server, plan) as address:
        reach(address)
        shaky = DynamoTable.open(f"dynamodb://{table.name}", METADATA)
        shaky.put(rows(400), {})
        seen = shaky.versions(keys_of(rows(30)))
        shaky.put(rows(30, "2"), seen)
        shaky.put(rows(30, "3"), seen)  # stale by now
        now = pa.concat_tables([rows(30, "2"), rows(400).slice(30)])
        check_holds(shaky, now)
        shaky.delete(seen)  # stale, too
        check_holds(shaky, now)
    assert set(plan.met) == {"", *FAULTS}


def test_a_call_that_hangs_is_made_again(
    server: str, reach: Callable[[str], None], table: DynamoTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that gets no answer times out and is made again."""
    monkeypatch.setattr(fanfold.aws.client, "READ_TIMEOUT", 0.2)
    plan = Plan(1, rate=0.3, faults=("stall",), stall=60)
    with flaky(server, plan) as address:
        reach(address)
        started = time.monotonic()
        hanging = DynamoTable.open(f"dynamodb://{table.name}", METADATA)
        hanging.put(rows(200, dimension=16), {})
        check_holds(hanging, rows(200, dimension=16))
    assert plan.met["stall"] > 2
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("plan", [Throttle(left_over=1, declined=0), Throttle(declined=1)])
def test_a_throttle_that_does_not_end_is_an_error(
    server: str, reach: Callable[[str], None], table: DynamoTable, plan: Throttle
) -> None:
    """After a while without progress the error says what is throttled and which command raises its capacity."""
    with throttled(server, plan) as address:
        stuck = _at(address, reach, table)
        stuck.patience = 0.5
        for work in (lambda: stuck.put(rows(80), {}), lambda: stuck.get(keys_of(rows(80)))):
            with pytest.raises(StorageError, match=r"throttled: .* 0\.5 s.*update-table --table-name"):
                work()
    assert stuck.spent["written"] == 0
    reach(server)
    assert list(table.scan()) == []


def _at(address: str, reach: Callable[[str], None], table: DynamoTable) -> DynamoTable:
    """The same table at another address, which need not work yet."""
    reach(address)
    return DynamoTable(f"dynamodb://{table.name}", METADATA)


def test_slow_progress_is_progress(server: str, reach: Callable[[str], None], table: DynamoTable) -> None:
    """Work that takes longer than the patience is not an error as long as it makes progress."""
    with throttled(server, Throttle(left_over=0, declined=0, rate=20)) as address:
        slow = _at(address, reach, table)
        slow.patience = 1.0
        started = time.monotonic()
        slow.put(rows(30), {})
        assert time.monotonic() - started > 1.2
    check_holds(table, rows(30))


def test_a_server_out_of_reach_is_an_error(reach: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the table and the address that could not be reached."""
    monkeypatch.setattr("fanfold.aws.dynamodb.table._SOON", 0.3)
    reach("http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"table 'images': .*http://127\.0\.0\.1:9/.*0\.3 s"):
        DynamoTable.open("dynamodb://images")


# -- the whole table --------------------------------------------------------------------------------------------------


def test_a_scan_gives_every_item_once(table: DynamoTable) -> None:
    """A scan yields every item once, for any number of segments of several pages, with plain Python values."""
    some = rows(160, dimension=8192)  # 5 MB: pages are 1 MB
    table.put(some, {})
    for number, segments in enumerate((1, 4, 7), 1):
        assert sorted(item["ImageId"] for item in table.scan(segments)) == keys_of(some)
        assert table.spent["read_units"] >= number * 160 * 8 / 2
    items = {item["ImageId"]: item for item in table.scan()}
    for row, expected in zip(some.drop_columns("vector").to_pylist(), some["vector"].to_pylist(), strict=True):
        item = items[row["key"]]
        assert (item["Version"], item["Width"], item["Truncated"]) == (row["version"], row["width"], False)
        assert (item["DataType"], item["Dimension"], item["Vector"].dtype) == ("float32", 8192, np.float32)
        assert item["Vector"].tolist() == expected


def test_a_scan_may_be_left(table: DynamoTable) -> None:
    """Closing a scan early ends its threads, and the rest is not read."""
    table.put(rows(330, dimension=8192), {})
    assert not _pool_threads()
    with closing(table.scan(2)) as items:
        first = next(items)
        assert _pool_threads()
    assert first["ImageId"].startswith("a/")
    assert not _pool_threads()
    assert table.spent["read_units"] < 330 * 8 / 2


def _pool_threads() -> list[str]:
    """The threads of executors; servers' threads come and go by themselves."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_a_scan_may_be_left_under_a_throttle(server: str, reach: Callable[[str], None], table: DynamoTable) -> None:
    """Closing a scan ends its wait for a retry."""
    table.put(rows(160, dimension=8192), {})
    with throttled(server, Throttle(declined=1, after=1)) as address:
        slow = _at(address, reach, table)
        slow.patience = 60
        with closing(slow.scan(1)) as items:
            next(items)
            while slow.spent["throttled"] < 4:  # by then the pauses are long
                time.sleep(0.05)
            started = time.monotonic()
    assert time.monotonic() - started < 10


def test_a_scan_goes_on_after_a_reader_was_slow(server: str, reach: Callable[[str], None], table: DynamoTable) -> None:
    """The time that a reader takes for a page does not count as time without progress."""
    table.put(rows(160, dimension=8192), {})
    with throttled(server, Throttle(declined=0.4)) as address:
        slow = _at(address, reach, table)
        slow.patience = 1.0
        items = slow.scan(1)
        found = [next(items)]
        time.sleep(1.2)
        found += items
    assert sorted(item["ImageId"] for item in found) == keys_of(rows(160, dimension=1))
    assert slow.spent["throttled"]


# -- opening and making -----------------------------------------------------------------------------------------------


def test_no_table_is_told_with_the_command_that_makes_it(address: str) -> None:
    """Opening does not create a table, and the message has the command to type."""
    with pytest.raises(UsageError, match=r"no DynamoDB table '\w+'.* aws dynamodb create-table --table-name \w+ "):
        DynamoTable.open(address)


@pytest.mark.parametrize(
    "keys",
    [{"Name": ("HASH", "S")}, {"ImageId": ("HASH", "N")}, {"ImageId": ("HASH", "S"), "Page": ("RANGE", "N")}],
)
def test_another_key_is_refused(address: str, keys: dict[str, tuple[str, str]]) -> None:
    """A table whose key is not the string ImageId alone is refused."""
    boto3.client("dynamodb").create_table(
        TableName=address.removeprefix("dynamodb://"),
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, (kind, _) in keys.items()],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": type} for name, (_, type) in keys.items()],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(UsageError, match=rf"is {' and '.join(keys)}, but fanfold needs ImageId alone"):
        DynamoTable.create(address)


def test_vectors_of_two_recipes_never_mix(table: DynamoTable) -> None:
    """A table with rows of one recipe is refused to another, by model and recipe, and open to all readers."""
    other = METADATA | {"fanfold.model": "lite0", "fanfold.recipe": '{"model": "lite0"}'}
    address = f"dynamodb://{table.name}"
    DynamoTable.open(address, other)  # nothing is in it
    table.put(rows(2), {})
    for metadata in (other, {}):
        with pytest.raises(
            UsageError, match=rf"model resnet18, recipe \w+, .* holds results of model .*dynamodb://{table.name}-2"
        ):
            DynamoTable.open(address, metadata)
    check_holds(DynamoTable.open(address, METADATA), rows(2))
    check_holds(DynamoTable.open(address), rows(2))


def test_a_reader_does_not_write(table: DynamoTable) -> None:
    """Rows need the metadata of their recipe, so nothing is written without it."""
    with pytest.raises(UsageError, match="open for reading only"):
        DynamoTable.open(f"dynamodb://{table.name}").put(rows(2), {})
    assert list(table.scan()) == []


def test_a_table_is_made_once(address: str) -> None:
    """If many create a table at once, all get the same one; creating it again changes none of its content."""
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: DynamoTable.create(address, METADATA), range(6)))
    made[0].put(rows(3), {})
    check_holds(DynamoTable.create(address, METADATA), rows(3))


def test_a_table_is_recoverable_and_costs_nothing_idle(reach: Callable[[str], None]) -> None:
    """A table is billed on demand and has point-in-time recovery; it works on moto as on dynalite."""
    with moto() as address:
        reach(address)
        table = DynamoTable.create("dynamodb://images", METADATA)
        client = boto3.client("dynamodb")
        described = client.describe_table(TableName="images")["Table"]
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        backups = client.describe_continuous_backups(TableName="images")["ContinuousBackupsDescription"]
        assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
        table.put(rows(60), {})
        table.put(rows(20, "2"), table.versions(keys_of(rows(60))))
        table.put(rows(20, "3"), dict.fromkeys(keys_of(rows(60)), "1"))
        check_holds(table, pa.concat_tables([rows(20, "2"), rows(60).slice(20)]))
        assert plain("images").scan(FilterExpression=Attr("Version").eq("3"))["Count"] == 0


@pytest.mark.parametrize("address", ["dynamodb://", "dynamodb://ab", "dynamodb://a/b", "s3://bucket", "images"])
def test_addresses_that_name_no_table_are_refused(address: str) -> None:
    """The message says what a name may be."""
    with pytest.raises(UsageError, match=r"is not the address of a DynamoDB table.*dynamodb://NAME"):
        DynamoTable.open(address)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "The region of .* is not set.* export AWS_REGION="),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "No credentials .* aws configure"),
        ({"AWS_PROFILE": "nobody"}, "No credentials .*nobody"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "here"}, "here.*AWS_ENDPOINT_URL"),
    ],
)
def test_a_wrong_environment_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    """A missing region, credentials or profile, or a bad endpoint, is one line that says what to type."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(UsageError, match=said):
        DynamoTable.open(address)


def test_either_variable_names_the_region_and_the_endpoint(
    server: str, table: DynamoTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_REGION or AWS_DEFAULT_REGION alone is enough, as for S3, and AWS_ENDPOINT_URL applies to DynamoDB, too."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for unset, other in (("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_DEFAULT_REGION", "AWS_REGION")):
        monkeypatch.delenv(unset)
        assert list(DynamoTable.open(f"dynamodb://{table.name}").scan()) == []
        monkeypatch.setenv(unset, os.environ[other])


def test_without_boto3_the_extra_is_named() -> None:
    """Without the extra `aws`, the error says how to install it."""
    program = """
import sys
from fanfold import MissingExtra
sys.modules["boto3"] = None
try:
    import fanfold.aws.dynamodb.table
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'fanfold[aws]'" in done.stdout
