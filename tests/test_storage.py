"""Addresses, and the errors of the stores behind them."""

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import StorageError, UsageError
from fanfold.core.runs import RunDirectory
from fanfold.source.objects import read_url
from fanfold.storage import (
    RETRY_SECONDS,
    RETRY_VARIABLE,
    absolute,
    errors_of,
    exists,
    first_line,
    is_url,
    join,
    looking_ahead,
    open_store,
    split_url,
)
from faults import wait_for
from helpers import free_port, web_server


@pytest.mark.parametrize("address", ["s3://b/x", "gs://b", "az://c/x", "http://h/x", "https://h", "S3://b/x"])
def test_urls_are_known_by_their_scheme(address: str) -> None:
    """Object stores and web servers are URLs."""
    assert is_url(address)


@pytest.mark.parametrize("address", ["photos", "/data/s3", "s3:/b", "a s3://b", "file:///x", "ftp://h/x", ""])
def test_all_else_is_no_url(address: str) -> None:
    """Paths are not URLs, and neither are unknown schemes."""
    assert not is_url(address)


def test_one_spelling_for_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, `~`, `file://`, linked and slashed spellings of a folder give the same path."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = ["photos", "./photos/", "~/photos", f"file://{tmp_path}/photos", "link", "photos/../photos"]
    assert {absolute(spelling) for spelling in spellings} == {str((tmp_path / "photos").resolve())}


def test_urls_lose_their_closing_slash() -> None:
    """A URL with and without a closing slash is one address."""
    assert absolute("s3://bucket/photos/") == absolute("s3://bucket/photos") == "s3://bucket/photos"


def test_web_addresses_stay_as_they_are() -> None:
    """The closing slash of a page is part of its address."""
    assert absolute("https://host/iiif/full/") == "https://host/iiif/full/"


def test_file_addresses_are_percent_encoded(tmp_path: Path) -> None:
    """A file:// address is decoded, and its path must be an absolute path on this machine."""
    assert (
        absolute(f"file://{tmp_path}/a%20b%C3%A9") == absolute(f"FILE://localhost{tmp_path}/a bé") == f"{tmp_path}/a bé"
    )
    for address in ("file://", "file://host/x", "file://photos"):
        with pytest.raises(UsageError, match="file:///data/photos"):
            absolute(address)


def test_a_database_on_a_web_server_is_refused() -> None:
    """A web server has pages to read, and the message says so."""
    with pytest.raises(UsageError, match="cannot hold a database"):
        open_store("https://host/db")


def test_an_unknown_scheme_is_refused() -> None:
    """The message names the scheme and the supported ones."""
    with pytest.raises(UsageError, match=r"s3://, gs://, az://.*not ftp://"):
        absolute("ftp://host/photos")


def test_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A folder whose own name is not UTF-8 is refused, and the message can be printed."""
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        absolute(f"{tmp_path}/caf\udce9")
    str(caught.value).encode()


def test_join_puts_one_slash() -> None:
    """Closing slashes and empty parts do not cause double slashes."""
    assert join("s3://b/db/", "_runs", "", "x") == "s3://b/db/_runs/x"


@pytest.mark.parametrize(
    ("url", "store", "path"),
    [
        ("s3://bucket/a b/c#d?e%41.txt", "s3://bucket", "a b/c#d?e%41.txt"),
        ("s3://my.bucket", "s3://my.bucket", ""),
        ("s3://bucket//a//b/", "s3://bucket", "/a//b/"),
        ("http://host:80/a%20b?x", "http://host:80", "a%20b?x"),
        ("s3://bucket/new\nline", "s3://bucket", "new\nline"),
    ],
)
def test_urls_split_into_store_and_path(url: str, store: str, path: str) -> None:
    """Names in a bucket are literal, slashes included."""
    assert split_url(url) == (store, path)


@pytest.mark.parametrize("url", ["http://", "s3://", "s3:///x", "https:///x.jpg"])
def test_a_url_of_nothing_is_refused(url: str) -> None:
    """A URL without a bucket or host has no store."""
    with pytest.raises(ValueError, match="neither a bucket"):
        split_url(url)


def test_exists_on_disk(tmp_path: Path) -> None:
    """A folder exists once it is made."""
    assert not exists(str(tmp_path / "db"))
    (tmp_path / "db").mkdir()
    assert exists(str(tmp_path / "db"))


def test_exists_on_s3(bucket: str) -> None:
    """A prefix exists once something is below it, and a sibling with a longer name is not below it."""
    open_store(bucket).put("db2/x", b"1")
    assert not exists(f"{bucket}/db")
    assert exists(f"{bucket}/db2")


@pytest.mark.parametrize("name", ["with space", "per%41cent", "ha#sh", "quest?ion", "é😀", "br[ack]et"])
def test_prefixes_of_odd_names(bucket: str, name: str) -> None:
    """A store's root is exactly the prefix in its URL."""
    open_store(bucket).put(f"{name}/x", b"here")
    assert bytes(open_store(f"{bucket}/{name}").get("x").bytes()) == b"here"


def test_a_missing_bucket_is_named(bucket: str) -> None:
    """An unreachable store is a StorageError that names the address."""
    with pytest.raises(StorageError, match="s3://no-such-bucket"):
        exists(f"s3://no-such-bucket/{bucket[-8:]}")


def test_how_long_a_store_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """FANFOLD_RETRY_SECONDS sets how long a request is retried; an invalid number of seconds is refused."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("ALLOW_HTTP", "true")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv(RETRY_VARIABLE, "0.2")
    began = time.monotonic()
    with pytest.raises(StorageError, match="s3://bucket"):
        exists("s3://bucket/x")
    assert time.monotonic() - began < RETRY_SECONDS / 3
    for wrong in ("soon", "-1", "nan"):
        monkeypatch.setenv(RETRY_VARIABLE, wrong)
        with pytest.raises(UsageError, match=f"must be a number of seconds, not '{wrong}'"):
            exists("s3://bucket/x")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A database below a file cannot be created, and the message has the path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/db"):
        open_store(f"{tmp_path}/file/db", create=True)


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_only_the_first_creates(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Create-if-absent keeps the first content, on disk and on S3."""
    run = RunDirectory(str(tmp_path) if where == "disk" else request.getfixturevalue("bucket"), "run")
    assert run.put("receipt", {"by": 1}, create=True)
    assert not run.put("receipt", {"by": 2}, create=True)
    assert run.get("receipt") == {"by": 1}


def test_read_url(tmp_path: Path, bucket: str) -> None:
    """Web pages and objects are read in the same way; a missing one is a FileNotFoundError."""
    (tmp_path / "a b.txt").write_text("web")
    open_store(bucket).put("a b.txt", b"object")
    with web_server(tmp_path) as web:
        assert read_url(f"{web}/a%20b.txt") == b"web"
        assert read_url(f"{web}/a%20b.txt?x=1") == b"web"
        assert read_url(f"{bucket}/a b.txt") == b"object"
        for missing in (f"{web}/none.txt", f"{bucket}/none.txt"):
            with pytest.raises(FileNotFoundError, match="not found"):
                read_url(missing)


def test_errors_of_names_the_address() -> None:
    """An error from the operating system becomes an error that names the address."""
    with pytest.raises(StorageError, match=r"Cannot use /here: .*disk is full"), errors_of("/here"):
        raise OSError(28, "the disk is full")


@given(st.text())
def test_first_line_is_one_short_line(text: str) -> None:
    """For any error, one line of its text is left, never an empty one."""
    line = first_line(ValueError(text))
    assert "\n" not in line
    assert 0 < len(line) <= 600


def test_first_line_drops_the_dump() -> None:
    """The storage library's debug dump is removed."""
    assert first_line(OSError('it broke\n\nDebug source:\nError { inner: "..." }')) == "it broke"


def test_a_slow_question_holds_up_no_others() -> None:
    """Answers keep the order of the questions, and a slow one only keeps its own thread busy."""
    last = threading.Event()

    def look(number: int) -> int:
        if number == 0:
            assert last.wait(60)
        if number == 300:
            last.set()
        return number

    assert list(looking_ahead(look, range(500), 4, 400)) == [*range(500)]


def test_no_more_questions_than_needed_are_asked() -> None:
    """Whoever stops early leaves no thread behind, and the questions were taken as they were needed."""
    taken = []
    before = set(threading.enumerate())  # some of which may end meanwhile
    answers = looking_ahead(abs, (taken.append(number) or number for number in range(1000)), 4, 10)
    assert next(answers) == 0
    answers.close()
    assert len(taken) == 11
    wait_for(lambda: set(threading.enumerate()) <= before)
