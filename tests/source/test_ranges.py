"""Ranges of items: what is read of files, objects and pages, and that changed items are not read."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aws.dynamo_servers import moto
from fanfold import Item
from fanfold.job import UNKNOWN
from fanfold.source import Changed, Folder, Listed, Several, Source, open_source, reader
from fanfold.storage import open_store
from flaky import Plan, flaky
from helpers import TXT, changed
from pages import Site, site

TEXT = b"0123456789"
RANGES = [(0, 4), (3, 4), (0, 10), (6, 4), (6, 5), (9, 100), (0, 0), (10, 4), (12, 4), (4, 0)]
"""Ranges of ten bytes: from the start, in the middle, to the end, across it, past it; and empty ones."""


def only(source: Source) -> Item:
    """The only item of a source."""
    (item,) = source.list(TXT)
    return item


def check(source: Source, item: Item) -> None:
    """Check that every range equals a slice of the content."""
    for offset, length in RANGES:
        assert source.read_at(item, offset, length) == TEXT[offset : offset + length], (offset, length)
    for offset, length in ((-1, 4), (0, -1)):
        with pytest.raises((OSError, ValueError), match="cannot begin"):
            source.read_at(item, offset, length)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of ten bytes."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x.txt").write_bytes(TEXT)
    return tmp_path / "source" / "x.txt"


@pytest.fixture
def server() -> Iterator[Site]:
    """A web server."""
    with site(TEXT) as running:
        yield running


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object with a key that obstore cannot name, on a server that takes keys literally."""
    with moto() as address:
        for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1"}.get(name, "key"))
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="ranges")
        client.put_object(Bucket="ranges", Key="a//x.jpg", Body=TEXT)
        yield "s3://ranges/a//x.jpg"


# Files


def test_ranges_of_a_file(file: Path) -> None:
    """A range of a file is that part of it, and is shorter at its end."""
    source = open_source(str(file.parent))
    check(source, only(source))
    check(reader(source.root), only(source))


@given(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=200))
def test_any_range_is_a_slice(tmp_path_factory: pytest.TempPathFactory, offset: int, length: int, data: bytes) -> None:
    """Any range of any file is a slice."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "x.txt").write_bytes(data)
    info = (folder / "x.txt").stat()
    item = Item("x.txt", info.st_size, f"{info.st_mtime_ns:x}-{info.st_size:x}", "x.txt")
    assert Folder(str(folder)).read_at(item, offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("text", ["9876543210", "shorter", "longer than it was", ""])
def test_a_file_that_changes_between_two_reads(file: Path, text: str) -> None:
    """No range of a changed file is read, even if its size is the same."""
    source = open_source(str(file.parent))
    item = only(source)
    assert source.read_at(item, 0, 4) == TEXT[:4]
    changed(file, text)
    for offset, length in ((4, 4), (0, 0), (20, 4)):
        with pytest.raises(Changed, match="run again"):
            source.read_at(item, offset, length)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        source.read_at(item, 4, 4)


def test_several_folders(file: Path, tmp_path: Path) -> None:
    """Items of several folders can be read in ranges, too."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "y.txt").write_bytes(TEXT[::-1])
    source = Several.of([open_source(str(file.parent)), open_source(str(tmp_path / "other"))])
    items = {item.key: item for item in source.list(TXT)}
    assert source.read_at(items["other/y.txt"], 2, 3) == b"765"
    assert source.read_at(items["source/x.txt"], 2, 3) == b"234"


# Objects


@pytest.mark.parametrize("by", ["bucket", "list"])
def test_ranges_of_an_object(bucket: str, tmp_path: Path, by: str) -> None:
    """A range of an object is that part of it, and no range of a changed object is read."""
    store = open_store(bucket)
    store.put("x.txt", TEXT)
    (tmp_path / "list.txt").write_text(f"{bucket}/x.txt")
    source = open_source(bucket if by == "bucket" else str(tmp_path / "list.txt"))
    item = only(source)
    check(source, item)
    for text in (b"9876543210", b"short", b"longer than it was"):
        store.put("x.txt", text)
        for offset, length in ((4, 4), (9, 1), (0, 0), (20, 4)):
            with pytest.raises(Changed, match="run again"):
                source.read_at(item, offset, length)
    store.delete("x.txt")
    with pytest.raises(FileNotFoundError, match=r"not found: s3://.*x.txt"):
        source.read_at(item, 4, 4)


def test_ranges_of_an_object_of_an_odd_key(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that obstore cannot name is read in ranges, too, and a range that breaks off is requested again."""
    item = only(source := open_source(odd))
    check(source, item)
    with flaky(os.environ["AWS_ENDPOINT_URL"], plan := Cuts(1)) as address, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        assert reader("s3://ranges").read_at(replace(item, path="a//x.jpg"), 3, 4) == b"3456"
    assert plan.met["cut"] == 1
    client = boto3.client("s3", region_name="us-east-1")
    for text in (b"9876543210", b"short"):
        client.put_object(Bucket="ranges", Key="a//x.jpg", Body=text)
        with pytest.raises(Changed, match="run again"):
            source.read_at(item, 6, 4)
    client.delete_object(Bucket="ranges", Key="a//x.jpg")
    with pytest.raises(FileNotFoundError):
        source.read_at(item, 4, 4)


class Cuts(Plan):
    """Cut the first answers in the middle."""

    def fault(self, _request: str) -> str:
        fault = "cut" if self.met["cut"] < self.seed else ""
        self.met[fault] += 1
        return fault


# Pages


def test_ranges_of_a_page(server: Site) -> None:
    """A range of a page is that part of it, and only the range is sent."""
    source = open_source(server.page("ranges", "x.jpg"))
    check(source, only(source))
    assert {head["range"] for head in server.heads if "range" in head} >= {"bytes=3-6", "bytes=9-9"}


@pytest.mark.parametrize("text", [b"9876543210", b"short", b"longer than it was"])
def test_a_page_that_changes_between_two_reads(server: Site, text: bytes) -> None:
    """No range of a page with another time or size is read."""
    item = only(source := open_source(server.page("ranges", "x.jpg")))
    assert source.read_at(item, 0, 4) == TEXT[:4]
    server.text, server.modified = text, "Tue, 03 Nov 2026 10:00:00 GMT"
    for offset, length in ((4, 4), (9, 1), (0, 0), (20, 4)):
        with pytest.raises(Changed, match="run again"):
            source.read_at(item, offset, length)


def test_a_page_of_a_server_without_ranges(server: Site) -> None:
    """A server that sends the whole page instead of a range is an OSError that says so, and the page is not read."""
    item = only(source := open_source(server.page("plain", "x.jpg")))
    with pytest.raises(OSError, match="does not serve ranges"):
        source.read_at(item, 2, 4)


def test_a_range_that_is_another_one(server: Site) -> None:
    """A server that sends another range than the one asked for is an OSError."""
    item = only(source := open_source(server.page("ranges shift", "x.jpg")))
    with pytest.raises(OSError, match="different range"):
        source.read_at(item, 2, 4)


def test_a_range_that_breaks_off(server: Site) -> None:
    """A range that breaks off is requested once more, and only once."""
    item = only(source := open_source(server.page("ranges cut 1", "x.jpg")))
    assert source.read_at(item, 2, 4) == b"2345"
    item = only(source := open_source(server.page("ranges cut 9", "x.jpg")))
    with pytest.raises(ConnectionError):
        source.read_at(item, 2, 4)


def test_an_item_that_was_out_of_reach(file: Path) -> None:
    """An item that was unreachable when it was listed has no version to check, so no range of it is read."""
    item = Item(str(file), 0, UNKNOWN, str(file))
    with pytest.raises(Changed, match="out of reach"):
        Listed("").read_at(item, 0, 4)
