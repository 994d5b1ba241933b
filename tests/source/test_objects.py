"""Objects with any key that S3 allows, on a server that takes keys literally (SeaweedFS takes some for paths)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import fanfold
from aws.dynamo_servers import moto
from fanfold import StorageError, UsageError
from fanfold.source import Several, open_source, reader
from fanfold.source.bucket import FOLDER
from fanfold.source.objects import Objects, read_url
from fanfold.storage import exists
from flaky import Plan, flaky
from helpers import TXT, embed, failures, texts_of
from jobs import Scripted

LIMIT = 1 << 20

PLAIN = ("p/a.txt", "p/b.txt", "p/b.txt-1.txt", "p/sub/x.txt", "p/z.txt", "q/a.txt", "z.txt")
ODD = ("p//b.txt", "p//sub//b.txt", "p/sub//", "logs//", "/p/b.txt", "//p/b.txt", "//", "/", "p/c\x01d.txt")
ODD += ("p/\x7f.txt", "p/tab\t.txt", "p/cr\r.txt", "p/é\U0001f600//x.txt", "p///x.txt")
FOLDERS = ("p/", "p/b.txt/", "p/only.txt/", "p/sub/")
HIDDEN = ("p/./b.txt", "p/../b.txt", "../b.txt", "..", "p/.x//y.txt")
NAMED = ("p/%2F.txt", "p/100%.txt", "p/back\\slash.txt", "p/q?x#y.txt", "p/a+b c.txt", "p/<&>'\".txt", "p/x...txt")
NAMED += ("p/\ufffe.txt", "p/" + "x" * 1018 + ".txt", "dir./x.txt", "p/a:b@c=d,e;f$g.txt")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 server that takes keys literally."""
    with moto() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            patch.setenv(name, value)
        yield boto3.client("s3")


@pytest.fixture
def fill(s3: Any, request: pytest.FixtureRequest) -> Any:
    """Make a bucket with these keys, whose texts are the keys; return its URL."""

    def filled(*keys: str) -> str:
        name = f"b{abs(hash(request.node.nodeid)):x}"
        s3.create_bucket(Bucket=name)
        for key in keys:
            s3.put_object(Bucket=name, Key=key, Body=key.encode())
        return f"s3://{name}"

    return filled


@pytest.fixture
def without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `aws`."""
    monkeypatch.setattr("fanfold.source.objects.find_spec", lambda _name: None)


def contents(address: str) -> dict[str, str]:
    """The text that a worker reads under each key of a source."""
    source = open_source(address)
    worker = reader(source.root)
    items = list(source.list(TXT))
    assert len({item.key for item in items}) == len(items)
    return {item.key: worker.read(item, LIMIT).decode() for item in items}


def ends(*keys: str) -> set[str]:
    """The keys with the suffix of a text."""
    return {key for key in keys if key.endswith(".txt")}


def test_every_key_of_a_bucket_is_an_item(fill: Any) -> None:
    """Every key of a bucket is read by its own name, or left out for a reason; no two are merged."""
    bucket = fill(*PLAIN, *ODD, *FOLDERS, *HIDDEN, *NAMED)
    assert contents(bucket) == {key: key for key in ends(*PLAIN, *ODD, *NAMED)}
    source = open_source(bucket)
    items = list(source.list(TXT))
    assert source.left_out == {FOLDER: len(FOLDERS) + 4, "hidden": len(HIDDEN)}
    assert len(items) + source.left_out.total() == len({*PLAIN, *ODD, *FOLDERS, *HIDDEN, *NAMED})
    assert {source.uri(item) for item in items} == {f"{bucket}/{item.key}" for item in items}


@pytest.mark.parametrize("prefix", ["p", "p/", "p/sub", "/p", "p//sub", "p/é\U0001f600"])
def test_every_key_below_a_prefix_is_an_item(fill: Any, prefix: str) -> None:
    """The same is true below a prefix, even one with an odd name, or one just above odd names."""
    bucket = fill(*PLAIN, *ODD, *FOLDERS, *NAMED)
    below = prefix.removesuffix("/") + "/"
    expected = {key.removeprefix(below): key for key in ends(*PLAIN, *ODD, *NAMED) if key.startswith(below)}
    assert expected
    assert contents(f"{bucket}/{prefix}") == expected
    source = open_source(f"{bucket}/{prefix}")
    assert {source.uri(item) for item in source.list(TXT)} == {f"{bucket}/{key}" for key in expected.values()}


@pytest.mark.parametrize("key", ["p/b.txt", *sorted(ends("/x.txt", *ODD, *NAMED))])
def test_every_key_is_an_address(fill: Any, tmp_path: Path, key: str) -> None:
    """An object can be a source, a line of a list, a line of a list in its bucket, or a list itself."""
    renamed = key.removesuffix("txt") + "jpg"
    bucket = fill(renamed, renamed + "/", key)
    where = f"{bucket}/{renamed}"
    assert list(contents(where).values()) == [renamed]
    inner = open_source(where).within(bucket)
    assert inner is not None
    assert [item.key for item in inner.list(TXT)] == [renamed]
    (tmp_path / "some.txt").write_bytes(f"{where}\n{where}\n".encode())
    assert contents(str(tmp_path / "some.txt")) == {where: renamed}
    assert read_url(f"{bucket}/{key}") == key.encode()
    assert open_source(f"{bucket}/{key}").addresses == [f"{bucket}/{key}"]


def test_a_run_over_odd_keys(fill: Any, database: str) -> None:
    """A run does every key with workers that know only the root; a rerun, whole or of a part, does none."""
    bucket = fill(*PLAIN, *ODD, *FOLDERS)
    report = embed(bucket, database)
    assert (report.ok, report.failed, report.lost) == (len(ends(*PLAIN, *ODD)), 0, 0)
    assert report.left_out == {FOLDER: len(FOLDERS) + 4}
    assert texts_of(database) == {key: key for key in ends(*PLAIN, *ODD)}
    assert embed(bucket, database).unchanged == report.ok
    for part in ("p", "/p"):
        below = sum(key.startswith(f"{part}/") for key in ends(*PLAIN, *ODD))
        report = embed(f"{bucket}/{part}", database)
        assert (report.unchanged, report.listed) == (below, below)
    assert fanfold.preview(Scripted(), source=bucket, database=database).todo == 0
    assert failures(database) == {}


def test_several_prefixes_of_odd_names(fill: Any, database: str) -> None:
    """Prefixes of one bucket are one source, even those with a leading slash."""
    bucket = fill(*PLAIN, *ODD)
    source = Several.of([open_source(f"{bucket}/{prefix}") for prefix in ("/p", "p//sub", "q")])
    items = {item.key: item for item in source.list(TXT)}
    assert {key: source.read(item, LIMIT).decode() for key, item in items.items()} == {
        key: key for key in ("/p/b.txt", "p//sub//b.txt", "q/a.txt")
    }
    run = fanfold.run(Scripted(), source=[f"{bucket}/p", f"{bucket}//p"], database=database)
    list(run)
    assert run.report.ok == len([key for key in ends(*PLAIN, *ODD) if key.startswith(("p/", "/p/"))])


def test_stems_of_odd_keys(fill: Any, s3: Any, database: str) -> None:
    """Keys that share a stem are named, and other keys are done."""
    bucket = fill("p//a.txt", "/b.txt", "p/c.txt/")
    assert embed(bucket, database, ids="stem").ok == 2
    assert texts_of(database) == {"a": "p//a.txt", "b": "/b.txt"}
    s3.put_object(Bucket=bucket[5:], Key="p//b.txt", Body=b"b")
    with pytest.raises(UsageError, match=r"b: /b.txt, p//b.txt"):
        embed(bucket, database, ids="stem")


def test_pages_of_a_listing(fill: Any) -> None:
    """A listing of many pages has each object once, in order, with the same facts as obstore."""
    keys = [f"p/{number:02d}{odd}.txt" for number in range(20) for odd in ("a", "é b+%", "//")]
    objects = Objects(fill(*keys, "q/a.txt", "q/é b+%.txt"))
    assert objects._s3
    assert [{**meta, "version": None} for meta in objects.list("q/")] == [*objects._listed("q/")]
    objects._s3._asked["MaxKeys"] = 7
    assert [meta["path"] for meta in objects.list("p/")] == sorted(keys)


def test_an_empty_prefix_and_a_missing_bucket(fill: Any) -> None:
    """Both are errors that name the address; a folder marker alone is an empty source."""
    bucket = fill("marked/", "other/x.txt")
    for address in (f"{bucket}/none", f"{bucket}/none.jpg", f"{bucket}/none//x.jpg", "s3://no-bucket"):
        with pytest.raises(StorageError, match=address):
            list(open_source(address).list(TXT))
    source = open_source(f"{bucket}/marked")
    assert list(source.list(TXT)) == []
    assert source.left_out == {FOLDER: 1}


def test_an_odd_key_that_is_gone(fill: Any, s3: Any) -> None:
    """An odd key that was deleted or changed after listing is an OSError, like any other key."""
    bucket = fill("p//a.txt", "p//b.txt", "p//c.txt")
    source = open_source(bucket)
    gone, changed, large = source.list(TXT)
    s3.delete_object(Bucket=bucket[5:], Key=gone.path)
    s3.put_object(Bucket=bucket[5:], Key=changed.path, Body=b"changed")
    with pytest.raises(FileNotFoundError, match=r"not found: s3://.*p//a.txt"):
        source.read(gone, LIMIT)
    with pytest.raises(OSError, match="run again"):
        source.read(changed, LIMIT)
    with pytest.raises(OSError, match="over the limit"):
        source.read(large, 2)


@pytest.mark.parametrize("times", [1, 2])
def test_an_odd_key_whose_content_breaks_off(fill: Any, s3: Any, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Content that breaks off is requested once more; if that breaks off as well, it is an OSError."""
    bucket, content = fill("p//a.txt"), b"x" * 100_000
    s3.put_object(Bucket=bucket[5:], Key="p//a.txt", Body=content)
    (item,) = open_source(bucket).list(TXT)
    with flaky(os.environ["AWS_ENDPOINT_URL"], plan := Cuts(times)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        source = reader(bucket)
        if times == 1:
            assert source.read(item, LIMIT) == content
        else:
            with pytest.raises(OSError, match=r"p//a\.txt"):
                source.read(item, LIMIT)
    assert plan.met["cut"] == times


class Cuts(Plan):
    """Cut the first answers in the middle, as many as the seed."""

    def fault(self, _request: str) -> str:
        fault = "cut" if self.met["cut"] < self.seed else ""
        self.met[fault] += 1
        return fault


def test_there_is_something_of_an_odd_name(fill: Any) -> None:
    """A prefix exists even if only odd keys are below it."""
    bucket = fill("p//x.txt", "q/../x")
    assert exists(f"{bucket}/p")
    assert exists(bucket)
    assert not exists(f"{bucket}/r")


@pytest.mark.usefixtures("without_boto3")
@pytest.mark.parametrize("key", ["p//b.txt", "p/./b.txt", "logs//", "p/c\x01d.txt"])
def test_odd_keys_without_boto3(fill: Any, key: str) -> None:
    """Without the extra `aws` a listing ends at an odd key, and names it and what to install."""
    bucket = fill("a.txt", key)
    with pytest.raises(StorageError) as caught:
        list(open_source(bucket).list(TXT))
    assert repr(key) in str(caught.value)
    assert "pip install 'fanfold[aws]'" in str(caught.value)


@pytest.mark.usefixtures("without_boto3")
def test_closing_slashes_without_boto3(fill: Any) -> None:
    """Without the extra, an object whose key ends in a slash is not merged with the one without the slash."""
    bucket = fill("p/b.txt", "p/b.txt-1.txt", "p/b.txt/", "p/c.txt")
    assert contents(bucket) == {key: key for key in ("p/b.txt", "p/b.txt-1.txt", "p/c.txt")}
    source = open_source(bucket)
    list(source.list(TXT))
    assert source.left_out == {FOLDER: 1}


def test_what_is_said_of_other_stores() -> None:
    """For gs:// and az:// the message says what to do."""
    said = Objects("gs://bucket")._unlisted("p//b.jpg")
    assert "'p//b.jpg'" in said
    assert "Rename that object" in said
