"""Sources: what they list, what they leave out and why, and what they read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanfold
from fanfold import Item, StorageError, UsageError
from fanfold.core.run import addressed
from fanfold.source import Changed, Folder, Listed, Several, TooLarge, by_stem, open_source, reader
from fanfold.source.names import as_name, as_text
from fanfold.source.web import Web
from fanfold.storage import open_store
from helpers import TXT, Here, changed, embed, failures, texts_of, web_server
from jobs import Scripted
from pages import site

LIMIT = 1 << 20


def listed(address: object, suffixes: frozenset[str] = TXT) -> tuple[list[str], dict[str, int]]:
    """The sorted keys at an address, and what was left out."""
    source = open_source(str(address))
    keys = sorted(item.key for item in source.list(suffixes))
    return keys, dict(source.left_out)


def contents(address: object, suffixes: frozenset[str] = TXT) -> dict[str, bytes | str]:
    """The content of every item at an address, or the type of the error from reading it."""
    source = open_source(str(address))
    found: dict[str, bytes | str] = {}
    for item in source.list(suffixes):
        try:
            found[item.key] = source.read(item, LIMIT)
        except OSError as error:
            found[item.key] = type(error).__name__
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    """A web server for the folder."""
    with web_server(folder) as address:
        yield address


# Folders


def test_a_folder_is_walked(texts: Path) -> None:
    """Keys are paths relative to the folder, with slashes."""
    keys, left_out = listed(texts)
    assert (len(keys), keys[0], keys[-1], left_out) == (40, "a/00.txt", "b/39.txt", {})


def test_everything_left_out_is_counted_by_reason(folder: Path) -> None:
    """In a folder with one of everything, one item is listed, and the rest is counted by reason."""
    (folder / "good.txt").write_text("x")
    (folder / ".hidden.txt").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "never seen.txt").write_text("x")
    (folder / "other.bin").write_text("x")
    (folder / "no suffix").write_text("x")
    (folder / "empty.txt").touch()
    (folder / "broken.txt").symlink_to("nowhere")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "link to folder.txt").symlink_to(".")
    (folder / "link to another").symlink_to("/usr")
    os.mkfifo(folder / "pipe.txt")
    (folder / "album.txt").mkdir()
    keys, left_out = listed(folder)
    assert keys == ["good.txt"]
    assert left_out == {
        "hidden": 2,
        "other type": 2,
        "empty": 1,
        "broken link": 2,
        "link to a folder": 2,
        "not a file": 1,
        "folder named like a file": 1,
    }


def test_a_folder_named_like_a_file_is_walked(folder: Path) -> None:
    """The files inside are listed."""
    (folder / "album.txt").mkdir()
    (folder / "album.txt" / "x.txt").write_text("x")
    assert listed(folder) == (["album.txt/x.txt"], {"folder named like a file": 1})


def test_links_to_files_are_followed(folder: Path, tmp_path: Path) -> None:
    """A link to a file is an item with the file's content."""
    (tmp_path / "elsewhere.txt").write_text("there")
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    assert contents(folder) == {"link.txt": b"there"}


def test_folders_that_link_to_each_other_end(folder: Path) -> None:
    """Links to folders are not followed, so a walk ends and finds every file once."""
    for name, other in (("a", "b"), ("b", "a")):
        (folder / name).mkdir()
        (folder / name / "x.txt").write_text("x")
        (folder / name / "to the other").symlink_to(folder / other)
    assert listed(folder) == (["a/x.txt", "b/x.txt"], {"link to a folder": 2})


def test_an_unreadable_folder_is_counted(public: Path) -> None:
    """A folder without read permission is left out with that reason, and the rest is listed."""
    (public / "good.txt").write_text("x")
    (public / "locked").mkdir()
    (public / "locked" / "x.txt").write_text("x")
    assert as_nobody(public, sealed=public / "locked") == [["good.txt"], {"unreadable folder": 1}]


def test_an_unreadable_source_is_an_error(public: Path) -> None:
    """A source without read permission is an error that names it, not an empty listing."""
    assert as_nobody(public, sealed=public) == f"StorageError: Cannot use {public}/: [Errno 13] Permission denied: "


def test_a_source_out_of_reach_is_an_error(public: Path) -> None:
    """So is a source in a folder that cannot be entered, when it is opened and when it is listed."""
    (public / "inner").mkdir()
    said = as_nobody(public / "inner", sealed=public)
    assert said == f"StorageError: Cannot use {public}/inner/: [Errno 13] Permission denied: "
    again = as_nobody(public / "inner", sealed=public, use="open_source(sys.argv[1])")
    assert again == f"StorageError: Cannot use {public}/inner: [Errno 13] Permission denied: "


LISTED = '[sorted(item.key for item in source.list(frozenset({".txt"}))), source.left_out]'


def as_nobody(folder: Path, sealed: Path, use: str = LISTED) -> object:
    """What a user without rights gets of a folder, after the part `sealed` is made unreadable."""
    program = f"""
import json, os, sys
from fanfold.errors import StorageError
from fanfold.source import open_source
source = open_source(sys.argv[1])
source.left_out  # all that is needed is imported: root's files are out of reach from here on
if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    print(json.dumps({use}))
except StorageError as error:
    print(json.dumps("StorageError: " + str(error).split("'")[0]))
"""
    modes = {path: path.stat().st_mode for path in (sealed, folder)}
    folder.chmod(0o755)
    sealed.chmod(0)
    try:
        done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    return json.loads(done.stdout)


def test_suffixes_are_matched_without_case(folder: Path) -> None:
    """X.TXT and x.TxT are texts, but x.txt.bak is not."""
    for name in ("X.TXT", "x.TxT", "x.txt.bak", "txt"):
        (folder / name).write_text("x")
    assert listed(folder) == (["X.TXT", "x.TxT"], {"other type": 2})


def test_no_suffixes_keep_all(folder: Path) -> None:
    """A job without suffixes gets every file that is not hidden or empty."""
    for name in ("x", "x.bin", ".hidden"):
        (folder / name).write_text("x")
    assert listed(folder, frozenset()) == (["x", "x.bin"], {"hidden": 1})


def test_the_database_is_not_listed(folder: Path) -> None:
    """A database inside the source is left out, but not a folder whose name begins with the same letters."""
    for name in ("db", "db2"):
        (folder / name).mkdir()
        (folder / name / "x.txt").write_text("x")
    source = Folder(str(folder), skip=str(folder / "db"))
    assert [item.key for item in source.list(TXT)] == ["db2/x.txt"]
    assert source.left_out == {"the database": 1}


def test_a_single_file(texts: Path) -> None:
    """A single file is a source of one item, with its own name as its key, whatever its suffix."""
    (texts / "a" / "photo.jpg").write_text("x")
    assert contents(texts / "a" / "photo.jpg") == {"photo.jpg": b"x"}


def test_listing_starts_at_once(folder: Path) -> None:
    """The first item comes before the rest is listed, so folders after it can still be filled."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "1.txt").write_text("x")
    items = open_source(str(folder)).list(TXT)
    first = next(items).key
    other = "b" if first.startswith("a") else "a"
    (folder / other / "2.txt").write_text("x")
    assert {item.key for item in items} == {f"{other}/1.txt", f"{other}/2.txt"}


def test_a_version_changes_with_time_and_size(folder: Path) -> None:
    """A file that is written again has another version, and an unchanged file the same."""
    file = folder / "x.txt"
    file.write_text("one")
    (first,) = open_source(str(folder)).list(TXT)
    assert list(open_source(str(folder)).list(TXT)) == [first]
    changed(file, "two")
    (second,) = open_source(str(folder)).list(TXT)
    assert (first.key, first.version) != (second.key, second.version)


# Names

ODD = [
    b"space in it.txt",
    b"[brackets].txt",
    b"new\nline.txt",
    b"not utf-8 \xff\xfe.txt",
    "emoji \U0001f600.txt".encode(),
    b"per%cent%41.txt",
    b"\\x41.txt",
    b"\\xff.txt",
    b"back\\slash.txt",
    b"'quote\".txt",
    b"#?&*;$(x).txt",
    b"v" * 251 + b".txt",
    "e\u0301.txt".encode(),
    "\u00e9.txt".encode(),
    b" .txt",
    b"-rf.txt",
]
PARTS = [
    b"\\",
    b"x",
    b"\\x",
    b"\\x5C",
    b"\\xFF",
    b"41",
    b"\xff",
    b"\xc3",
    b"\xa9",
    "é".encode(),
    b"%",
    b" ",
    b"\n",
    b"A",
]
names = st.one_of(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map(b"".join),
    st.binary(min_size=1, max_size=60).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
).map(lambda name: b"_" + name + b".txt")


@given(names)
def test_any_name_can_be_written_and_read_back(name: bytes) -> None:
    """A key is text and leads back to the exact bytes of the name, so no two names share a key."""
    key = as_text(os.fsdecode(name))
    key.encode()
    assert os.fsencode(as_name(key)) == name


@given(names, names)
def test_no_two_names_share_a_key(one: bytes, other: bytes) -> None:
    """Different bytes make different keys."""
    assert (as_text(os.fsdecode(one)) == as_text(os.fsdecode(other))) == (one == other)


@given(st.sets(names, min_size=1, max_size=8))
def test_files_of_any_name_are_listed_read_and_addressed(some: set[bytes]) -> None:
    """On a real disk, every file has its own key, which finds its content, and its URI leads to it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in some:
            with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123 - names are bytes
                file.write(name)
        source = open_source(folder)
        items = list(source.list(TXT))
        assert len({item.key for item in items}) == len(some)
        assert {source.read(item, LIMIT) for item in items} == some
        paths = [unquote_to_bytes(source.uri(item).removeprefix("file://")) for item in items]
        assert {os.path.basename(path) for path in paths} == some  # noqa: PTH119
        assert all(os.path.exists(path) for path in paths)  # noqa: PTH110


@pytest.mark.parametrize("name", ODD)
def test_odd_names(folder: Path, name: bytes) -> None:
    """Files and folders with odd names are listed and read."""
    inner = os.path.join(os.fsencode(folder), name)  # noqa: PTH118
    os.mkdir(inner)  # noqa: PTH102
    with open(os.path.join(inner, name), "wb") as file:  # noqa: PTH118, PTH123
        file.write(b"found")
    (text,) = contents(folder).values()
    assert text == b"found"


def test_plain_keys_are_plain(folder: Path) -> None:
    """Only bytes that are not valid text, and a backslash before an x, are escaped."""
    for name in (b"caf\xe9.txt", b"\\x41.txt", b"caf\xc3\xa9 %41\\.txt"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    assert listed(folder)[0] == sorted(["caf\\xE9.txt", "\\x5Cx41.txt", "café %41\\.txt"])


# Reading


def item_of(file: Path) -> tuple[Item, Folder]:
    """A file as a listed item, and its source."""
    source = Folder(str(file.parent), file.name)
    (item,) = source.list(TXT)
    return item, source


@pytest.mark.parametrize("text", ["", "shorter", "longer than it was when it was listed"])
def test_a_file_that_changes_its_size_is_not_read(folder: Path, text: str) -> None:
    """A file that shrank or grew after listing raises Changed, and no half of it is read."""
    (folder / "x.txt").write_text("as listed")
    item, source = item_of(folder / "x.txt")
    (folder / "x.txt").write_text(text)
    with pytest.raises(Changed, match="run again"):
        source.read(item, LIMIT)


def test_a_file_that_is_gone_is_not_found(folder: Path) -> None:
    """A file that vanished after listing is an OSError."""
    (folder / "x.txt").write_text("x")
    item, source = item_of(folder / "x.txt")
    (folder / "x.txt").unlink()
    with pytest.raises(FileNotFoundError):
        source.read(item, LIMIT)


def test_a_file_that_became_a_pipe_is_not_waited_for(folder: Path) -> None:
    """Reading a path that is no longer a file is an OSError, at once."""
    (folder / "x.txt").write_text("x")
    item, source = item_of(folder / "x.txt")
    (folder / "x.txt").unlink()
    os.mkfifo(folder / "x.txt")
    with pytest.raises(OSError, match="not a file"):
        source.read(item, LIMIT)


def test_a_file_over_the_limit_is_not_read(folder: Path) -> None:
    """The message has the file's size and the limit."""
    (folder / "x.txt").write_bytes(bytes(2000))
    item, source = item_of(folder / "x.txt")
    assert len(source.read(item, 2000)) == 2000
    with pytest.raises(TooLarge, match="2,000 bytes, over the limit of 1,999"):
        source.read(item, 1999)


# Roots


def test_a_subfolder_keeps_the_keys_of_its_root(texts: Path) -> None:
    """The items of a subfolder are the same items as those of the root."""
    inner = open_source(str(texts / "b")).within(str(texts))
    assert inner is not None
    items = list(inner.list(TXT))
    assert sorted(item.key for item in items)[0] == "b/20.txt"
    assert len(items) == 20
    assert inner.read(items[0], LIMIT) == (texts / items[0].path).read_bytes()


def test_a_file_keeps_the_key_of_its_root(texts: Path) -> None:
    """The same is true for a single file."""
    (texts / "b" / "20.txt").rename(texts / "b" / "20.jpg")
    inner = open_source(str(texts / "b" / "20.jpg")).within(str(texts))
    assert inner is not None
    assert [item.key for item in inner.list(TXT)] == ["b/20.jpg"]


def test_what_is_outside_is_not_within(texts: Path, tmp_path: Path) -> None:
    """A parent, a sibling whose name begins with the same letters, a URL and a list are not inside a folder."""
    (tmp_path / "texts2").mkdir()
    (tmp_path / "list.txt").write_text("x")
    for other in (tmp_path, tmp_path / "texts2", "s3://bucket/texts", tmp_path / "list.txt"):
        assert open_source(str(other)).within(str(texts)) is None
    assert open_source(str(texts)).within("") is None
    assert open_source(str(texts)).within("s3://bucket") is None


def test_a_prefix_is_within_a_prefix() -> None:
    """Prefixes are compared part by part, and buckets by their whole name."""
    inner = open_source("s3://bucket/photos/2024").within("s3://bucket")
    assert inner is not None
    assert (inner.root, inner.uri(Item("photos/2024/x", 1, "", "photos/2024/x"))) == (
        "s3://bucket",
        "s3://bucket/photos/2024/x",
    )
    assert open_source("s3://bucket/photos2").within("s3://bucket/photos") is None
    assert open_source("s3://bucket2").within("s3://bucket") is None
    assert open_source("s3://bucket").within("/bucket") is None


def test_hidden_folders_and_dotted_names_of_a_bucket(bucket: str) -> None:
    """Hidden folders are left out as on disk, unless one is the source itself; a date is not a suffix."""
    store = open_store(bucket)
    for path in ("2024.05.01/a.txt", "2024.05.01/.trash/b.txt", "2024.05.01/.c.txt"):
        store.put(path, b"x")
    assert listed(f"{bucket}/2024.05.01") == (["a.txt"], {"hidden": 2})
    assert listed(f"{bucket}/2024.05.01/.trash") == (["b.txt"], {})
    assert listed(bucket) == (["2024.05.01/a.txt"], {"hidden": 2})


def test_a_list_whose_addresses_are_out_of_reach(folder: Path, tmp_path: Path, database: str) -> None:
    """An unreachable item of a list keeps its row and is counted as left out. Without a row it fails, and a later run
    does it once it is reachable."""
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(name)
    file = tmp_path / "all.list"
    with web_server(folder) as address:
        file.write_text(f"{address}/a.txt\n{folder}/b.txt\n")
        assert embed(file, database).ok == 2
        (folder / "b.txt").unlink()
        file.write_text(f"{file.read_text()}{folder}/c.txt\n")
        told = embed(file, database)
    assert (told.listed, told.unchanged, told.failed, told.lost) == (2, 1, 1, 0)
    assert told.left_out == {"unreachable (their rows stay)": 1}
    told = embed(file, database)  # now the server is gone
    assert (told.listed, told.unchanged, told.failed, told.lost) == (1, 0, 1, 0)
    assert told.left_out == {"unreachable (their rows stay)": 2}
    assert sorted(texts_of(database).values()) == ["a", "b"]
    assert [failure["stage"] for failure in failures(database).values()] == ["read"]
    seen = fanfold.preview(Scripted(), source=str(file), database=database)
    assert (seen.todo, seen.unread, seen.failed_before, seen.left_out) == (1, 1, 0, told.left_out)
    for name in ("b", "c"):
        (folder / f"{name}.txt").write_text(name * 2)
    told = embed(file, database)
    assert (told.ok, told.failed, told.left_out) == (2, 0, {"unreachable (their rows stay)": 1})
    assert sorted(texts_of(database).values()) == ["a", "bb", "cc"]
    assert not failures(database)


def test_readers_read_what_sources_list(texts: Path, tmp_path: Path, bucket: str) -> None:
    """A worker that knows only the root reads every item that a source lists."""
    (tmp_path / "list.txt").write_text("texts/a/00.txt")
    open_store(bucket).put("a/00.txt", b"text 0")
    for address in (texts, tmp_path / "list.txt", bucket):
        source = open_source(str(address))
        item = next(iter(source.list(TXT)))
        assert reader(source.root).read(item, LIMIT).startswith(b"text ")


def test_nothing_there_is_a_mistake(tmp_path: Path) -> None:
    """A path without a file or folder is refused by name."""
    with pytest.raises(UsageError, match=r"no file or folder .*absent"):
        open_source(str(tmp_path / "absent"))


@pytest.mark.parametrize("address", ["s3://my.bucket", "s3://my.bucket/photos", "gs://a.b.c"])
def test_buckets_may_have_dots(address: str) -> None:
    """A dot in a bucket's name does not start a suffix."""
    assert open_source(address).root == address


# Stems


def item(path: str) -> Item:
    """An item at a path."""
    return Item(path, 1, "1", path)


def test_stems_are_names_without_folder_and_ending() -> None:
    """The key is the stem, and the path still leads to the item."""
    assert list(by_stem([item("a/cat.jpg"), item("b/dog.tar.gz")])) == [
        Item("cat", 1, "1", "a/cat.jpg"),
        Item("dog.tar", 1, "1", "b/dog.tar.gz"),
    ]


def test_shared_stems_are_refused_and_listed() -> None:
    """All colliding paths are named, and nothing is done."""
    items = [item("a/1.jpg"), item("b/1.jpg"), item("c/1.png"), item("d/2.jpg"), item("e/2.jpg"), item("f/3.jpg")]
    with pytest.raises(UsageError, match="2 stems are shared") as caught:
        next(by_stem(items))
    assert "1: a/1.jpg, b/1.jpg, c/1.png" in str(caught.value)
    assert "2: d/2.jpg, e/2.jpg" in str(caught.value)
    assert "--id key" in str(caught.value)
    assert "f/3.jpg" not in str(caught.value)


# Lists


def test_a_list_of_paths(texts: Path, tmp_path: Path) -> None:
    """Relative paths start at the list's folder, comments and blank lines are ignored, and any suffix is accepted."""
    (texts / "photo.jpg").write_text("jpg")
    lines = ["# a comment", "", "texts/a/00.txt", f"  {texts}/b/39.txt\r", "texts/photo.jpg", "\t"]
    (tmp_path / "some.list").write_text("\n".join(lines))
    assert contents(tmp_path / "some.list") == {
        f"{texts}/a/00.txt": b"text 0",
        f"{texts}/b/39.txt": b"text 39",
        f"{texts}/photo.jpg": b"jpg",
    }


def test_what_is_listed_twice_is_done_once(texts: Path, tmp_path: Path) -> None:
    """The same address in another spelling is the same item, and counted."""
    lines = ["texts/a/00.txt", "./texts/a/00.txt", "texts/b/../a/00.txt", f"{texts}/a/00.txt", "texts/a/01.txt"]
    (tmp_path / "some.txt").write_text("\n".join(lines))
    assert listed(tmp_path / "some.txt") == ([f"{texts}/a/00.txt", f"{texts}/a/01.txt"], {"listed twice": 3})


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    """Items are in the order of the lines, even beyond the 256 that are checked in parallel."""
    lines = [f"texts/{n}.none" for n in range(600, 0, -1)]
    (tmp_path / "some.txt").write_text("\n".join(lines))
    assert [item.key for item in open_source(str(tmp_path / "some.txt")).list(TXT)] == [
        f"{tmp_path}/{x}" for x in lines
    ]


def test_what_is_missing_fails_when_read(folder: Path, tmp_path: Path, web: str, bucket: str) -> None:
    """Every line is an item, and one that cannot be read is an OSError, never a crash or silently skipped."""
    os.mkfifo(tmp_path / "pipe")
    lines = ["absent.txt", folder.name, "pipe", "nul\0byte", "http://", "http://[bad/x.jpg", "s3://", "nul\udcff"]
    lines += [f"{web}/absent.txt", f"{bucket}/absent.txt", f"{web}/\udcff", "ftp://host/x", "v" * 5000]
    (tmp_path / "some.txt").write_bytes(os.fsencode("\n".join(lines)))
    found = contents(tmp_path / "some.txt")
    assert len(found) == len(lines)
    assert {value for value in found.values() if isinstance(value, bytes)} == set()
    assert found[f"{tmp_path}/absent.txt"] == found[f"{web}/absent.txt"] == "FileNotFoundError"


def test_a_list_that_is_no_list_fails_line_by_line(tmp_path: Path) -> None:
    """A list in UTF-16, or a picture named .txt, gives failed items."""
    (tmp_path / "utf-16.txt").write_text("a.jpg\nb.jpg\n", encoding="utf-16")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 4)
    for name in ("utf-16.txt", "noise.txt"):
        found = contents(tmp_path / name)
        assert found
        assert all(isinstance(value, str) for value in found.values())


def test_a_list_of_odd_names(folder: Path, tmp_path: Path) -> None:
    """Names that are not valid text, or look like escapes, can be in a list (except with newlines)."""
    some = [name for name in ODD if b"\n" not in name]
    for name in some:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(name)
    (tmp_path / "some.txt").write_bytes(b"\n".join(os.fsencode(folder) + b"/" + name for name in some))
    assert set(contents(tmp_path / "some.txt").values()) == set(some)


def test_a_list_of_web_addresses(folder: Path, tmp_path: Path, web: str) -> None:
    """Web addresses are used as written, with escapes, letters or a query."""
    for name in ("plain", "a b", "p%41", "é", "x#y"):
        (folder / f"{name}.txt").write_text(name)
    spelled = {
        "plain": "plain",
        "a%20b": "a b",
        "a b": "a b",
        "p%2541": "p%41",
        "%C3%A9": "é",
        "é": "é",
        "x%23y": "x#y",
    }
    lines = {f"{web}/{address}.txt": name.encode() for address, name in spelled.items()}
    lines[f"{web}/plain.txt?size=3"] = b"plain"
    (tmp_path / "some.txt").write_text("\n".join(lines))
    assert contents(tmp_path / "some.txt") == lines


def test_a_list_of_pages_of_every_manner(tmp_path: Path, database: str) -> None:
    """Pages whose servers lack HEAD, a length or a stable ETag are done once."""
    manners = ["HEAD 405", "HEAD 404", "HEAD 403", "HEAD 501", "HEAD 200", "chunked", "unending", "etag", "plain"]
    with site(b"a page") as server:
        (tmp_path / "some.txt").write_text("\n".join(map(server.page, manners)))
        assert embed(tmp_path / "some.txt", database).ok == len(manners)
        assert texts_of(database) == {server.page(manner): "a page" for manner in manners}
        assert embed(tmp_path / "some.txt", database).unchanged == len(manners)


def test_an_etag_that_never_lasts(tmp_path: Path, database: str) -> None:
    """A page that has only an ETag, which changes with every answer, is done again by every run."""
    with site(b"a page") as server:
        (tmp_path / "some.txt").write_text(server.page("etag alone"))
        for _ in range(2):
            report = embed(tmp_path / "some.txt", database)
            assert (report.ok, report.failed) == (1, 0)


def test_a_page_that_changes_is_done_again(tmp_path: Path, database: str) -> None:
    """A page with another length, time or ETag has another version, which replaces the row."""
    with site(b"first") as server:
        pages = [server.page("plain"), server.page("tagged a")]
        (tmp_path / "some.txt").write_text("\n".join(pages))
        assert embed(tmp_path / "some.txt", database).ok == 2
        server.text = b"second"
        assert embed(tmp_path / "some.txt", database).ok == 1
        assert texts_of(database) == {pages[0]: "second", pages[1]: "first"}


def test_a_page_that_came_back_while_the_run_went_on(tmp_path: Path) -> None:
    """A page that was unreachable when listed has no version, so a run gives it up and the next one does it."""
    with site() as server:
        (tmp_path / "some.txt").write_text(server.page("reset 3"))
        source = Listed(str(tmp_path / "some.txt"), web=Web(pause=0))
        (item,) = source.list(TXT)
        for _ in range(3):
            with pytest.raises(ConnectionError, match="reset by peer"):
                source.read(item, LIMIT)
        assert list(server.times.values()) == [3, 3]
        with pytest.raises(Changed, match="run again"):
            source.read(item, LIMIT)
        assert [source.read(item, LIMIT) for item in source.list(TXT)] == [b"text"]


def test_a_fragment_is_not_part_of_an_address(tmp_path: Path) -> None:
    """Addresses that differ only in their fragment are one page, and counted."""
    with site() as server:
        page = server.page("plain")
        (tmp_path / "some.txt").write_text(f"{page}\n{page}#top\n{page}#?x\n{page}?x#\n")
        assert listed(tmp_path / "some.txt") == ([page, f"{page}?x"], {"listed twice": 2})


def test_lines_of_a_list_that_are_files(folder: Path) -> None:
    """file:// addresses are decoded; a line that looks like a comment or a scheme is a file if one has that name."""
    for name in ("a b.txt", "#1.txt", "data:1.txt", "é.txt"):
        (folder / name).write_text(name)
    lines = [f"file://{folder}/a%20b.txt", f"FILE://localhost{folder}/%C3%A9.txt", "#1.txt", "data:1.txt", "#2.txt"]
    (folder / "some.list").write_text("\r\n".join([*lines, "#", "é.txt"]))
    found = {f"{folder}/{name}": name.encode() for name in ("a b.txt", "#1.txt", "data:1.txt", "é.txt")}
    assert contents(folder / "some.list") == found
    assert listed(folder / "some.list")[1] == {"listed twice": 1}


@pytest.mark.parametrize(
    "line",
    ["ftp://host/x.txt", "data:text/plain,x", "s3a://bucket/x", "gopher://x", "file://host/x.txt", "SFTP://host/x"],
)
def test_a_scheme_that_cannot_be_read_fails_by_name(folder: Path, database: str, line: str) -> None:
    """An address with another scheme is one failed item that says so, even if a path has that name."""
    (folder / "ftp:" / "host").mkdir(parents=True)
    (folder / "ftp:" / "host" / "x.txt").write_text("x")
    (folder / "x.txt").write_text("x")
    (folder / "some.list").write_text(f"{line}\nx.txt\n")
    report = embed(folder / "some.list", database)
    assert (report.ok, report.failed) == (1, 1)
    (failure,) = failures(database).values()
    assert failure["key"] == line
    assert line.partition(":")[0].lower() + ":" in failure["message"]


def test_a_list_elsewhere_does_not_name_files_of_this_machine(folder: Path, web: str, bucket: str) -> None:
    """file:// in a list at a URL is a failed item that says so."""
    (folder / "secret").write_text("secret")
    (folder / "some.list").write_text(f"file://{folder}/secret\n")
    open_store(bucket).put("some.list", f"file://{folder}/secret\n".encode())
    for address in (web, bucket):
        source = open_source(f"{address}/some.list")
        (item,) = source.list(TXT)
        with pytest.raises(OSError, match="in a list on this machine"):
            source.read(item, LIMIT)


def test_lines_of_a_list_on_the_web_are_relative_to_it() -> None:
    """A line of a list at a web address may be relative to it, to its server, or on another server."""
    with site() as server, site() as other:
        server.text = "\n".join(
            ["x.jpg", "a:b.jpg", "/top.jpg", f"//{other.address[7:]}/y.jpg", "a//b.jpg", "../up.jpg", "#c"]
        ).encode()
        source = open_source(f"{server.address}/a//sub/some.list?x=/y")
        assert isinstance(source, Listed)
        source = Listed(f"{server.address}/a//sub/some.list")
        found = [item.key.removeprefix(server.address) for item in source.list(TXT)]
        assert found == [
            *("/a//sub/x.jpg", "/a//sub/a:b.jpg", "/top.jpg", f"{other.address}/y.jpg", "/a//sub/a//b.jpg"),
            "/a//sub/../up.jpg",
        ]
        assert "HEAD /a//up.jpg" in server.asked


def test_a_list_on_the_web(folder: Path, web: str) -> None:
    """A list may be a URL itself, and its relative lines start beside it."""
    (folder / "sub").mkdir()
    (folder / "sub" / "x.jpg").write_text("x")
    (folder / "sub" / "some.list").write_text(f"x.jpg\n{web}/sub/x.jpg\n")
    assert contents(f"{web}/sub/some.list") == {f"{web}/sub/x.jpg": b"x"}
    assert listed(f"{web}/sub/some.list")[1] == {"listed twice": 1}


def test_a_list_that_cannot_be_read_is_an_error(web: str) -> None:
    """A list that is missing is an error that names it."""
    with pytest.raises(StorageError, match=r"none\.list"):
        listed(f"{web}/none.list")


def test_one_web_address(folder: Path, web: str) -> None:
    """A single web address is an item whose key is the address."""
    (folder / "x.jpg").write_text("x")
    assert contents(f"{web}/x.jpg") == {f"{web}/x.jpg": b"x"}
    assert contents(f"{web}/x.jpg?y") == {f"{web}/x.jpg?y": b"x"}
    assert contents(f"{web}/none.jpg") == {f"{web}/none.jpg": "FileNotFoundError"}


@pytest.mark.parametrize("address", ["https://host", "https://host/"])
def test_a_whole_web_server_is_refused(address: str) -> None:
    """A web server has no listing, so the message says what to name instead."""
    with pytest.raises(UsageError, match="Name one file"):
        open_source(address)


# Object stores


def test_a_prefix_is_listed(bucket: str) -> None:
    """Keys are relative to the prefix, which ends at a slash, and reasons are counted as on a disk."""
    store = open_store(bucket)
    for name in ("in/x.txt", "in/sub/Y.TXT", "in/.hidden.txt", "in/z.bin", "in2/x.txt"):
        store.put(name, b"here")
    store.put("in/empty.txt", b"")
    assert listed(f"{bucket}/in") == (["sub/Y.TXT", "x.txt"], {"hidden": 1, "other type": 1, "empty": 1})
    assert contents(f"{bucket}/in/") == {"x.txt": b"here", "sub/Y.TXT": b"here"}


def test_a_single_object(bucket: str) -> None:
    """An object is a source of one item, and keeps its key relative to a root."""
    open_store(bucket).put("in/x.jpg", b"here")
    assert contents(f"{bucket}/in/x.jpg") == {"x.jpg": b"here"}
    inner = open_source(f"{bucket}/in/x.jpg").within(bucket)
    assert inner is not None
    (item,) = inner.list(TXT)
    assert (item.key, inner.read(item, LIMIT)) == ("in/x.jpg", b"here")


def test_a_prefix_below_the_root_keeps_its_keys(bucket: str) -> None:
    """Listing a part of a bucket finds the same items as listing the whole, versions included."""
    for name in ("a/x.txt", "b/x.txt"):
        open_store(bucket).put(name, name.encode())
    inner = open_source(f"{bucket}/b").within(bucket)
    assert inner is not None
    assert [*inner.list(TXT)] == [item for item in open_source(bucket).list(TXT) if item.key == "b/x.txt"]


@pytest.mark.parametrize("address", ["nothing", "nothing.txt"])
def test_an_empty_prefix_is_an_error(bucket: str, address: str) -> None:
    """A prefix without objects is most likely a mistake, and the error says so."""
    with pytest.raises(StorageError, match="nothing"):
        listed(f"{bucket}/{address}")


def test_objects_of_odd_names(bucket: str) -> None:
    """Objects are read by the exact name of the listing, and by a list of their addresses."""
    some = ["a b.txt", "p%41.txt", "[1].txt", "é\U0001f600.txt", "x#y.txt", "w?z.txt", "st*r~.txt", "+&;.txt"]
    for name in some:
        open_store(bucket).put(name, name.encode())
    assert contents(bucket) == {name: name.encode() for name in some}


def test_a_list_of_objects(bucket: str, tmp_path: Path) -> None:
    """Names in a bucket are literal, even in a list: nothing is read as an escape or a query."""
    some = ["a b.txt", "p%41.txt", "x#y.txt", "w?z.txt", "w"]
    for name in some:
        open_store(bucket).put(name, name.encode())
    (tmp_path / "some.txt").write_text("\n".join(f"{bucket}/{name}" for name in some))
    assert contents(tmp_path / "some.txt") == {f"{bucket}/{name}": name.encode() for name in some}


def test_an_object_that_changes_is_not_read(bucket: str) -> None:
    """An object that was replaced or deleted after listing is an OSError."""
    store = open_store(bucket)
    store.put("x.txt", b"one")
    source = open_source(bucket)
    (item,) = source.list(TXT)
    with pytest.raises(TooLarge):
        source.read(item, 2)
    store.put("x.txt", b"two")
    with pytest.raises(Changed, match="run again"):
        source.read(item, LIMIT)
    store.delete("x.txt")
    with pytest.raises(FileNotFoundError):
        source.read(item, LIMIT)


def test_an_etag_is_a_version(bucket: str) -> None:
    """The same content has the same version, and other content another."""
    versions = []
    for content in (b"one", b"one", b"two"):
        open_store(bucket).put("x.txt", content)
        versions += [item.version for item in open_source(bucket).list(TXT)]
    assert versions[0] == versions[1] != versions[2]


# Several


def several(*addresses: object) -> Several:
    """These sources as one source."""
    source = Several.of([open_source(str(address)) for address in addresses])
    assert isinstance(source, Several)
    return source


def test_several_folders_are_one_source(texts: Path) -> None:
    """Keys are relative to the folders' common root, and items left out are counted together."""
    for folder in ("a", "b"):
        (texts / folder / "empty.txt").touch()
    source = several(texts / "a", texts / "b")
    items = {item.key: item for item in source.list(TXT)}
    assert set(items) == {f"{'a' if number < 20 else 'b'}/{number:02d}.txt" for number in range(40)}
    assert source.left_out == {"empty": 2}
    assert source.root == str(texts)
    assert source.read(items["b/20.txt"], LIMIT) == b"text 20"
    assert source.uri(items["a/00.txt"]) == f"file://{texts}/a/00.txt"
    assert several(*source.addresses) == several(texts / "a", texts / "b")


TREE = ["", "a", "a/x", "a/x/1.md", "a/2.md", "ab", "ab/3.md", "b/4.md"]


@given(st.lists(st.sampled_from(TREE), min_size=1, max_size=5))
def test_what_lies_inside_another_is_listed_once(chosen: list[str]) -> None:
    """Folders and files in any order, nested, similar in name or repeated: each file is listed once."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for file in (path for path in TREE if path.endswith(".md")):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
        sources = [open_source(str(root / path)) for path in chosen]
        expected = {source.uri(item) for source in sources for item in source.list(frozenset({".md"}))}
        together = Several.of([open_source(str(root / path)) for path in chosen])
        assert sorted(together.uri(item) for item in together.list(frozenset({".md"}))) == sorted(expected)


def test_several_sources_are_within_their_root(texts: Path, tmp_path: Path) -> None:
    """Relative to a parent they are the same items; they are not inside another place or one of their folders."""
    source = several(texts / "a", texts / "b")
    outer = source.within(str(tmp_path))
    assert outer is not None
    assert min(item.key for item in outer.list(TXT)) == "texts/a/00.txt"
    assert source.within(str(texts / "a")) is None
    assert source.within("s3://bucket") is None


@pytest.mark.parametrize(
    "addresses",
    [
        ("list.txt", "."),
        ("list.txt", "other.txt"),
        (".", "s3://bucket/x"),
        ("s3://bucket/x", "s3://other/x"),
        ("https://host/a.jpg", "https://host/b.jpg"),
    ],
)
def test_what_cannot_be_one_source(addresses: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, and places without a common root, are refused together, by name, because their keys could collide."""
    monkeypatch.chdir(tmp_path)
    for name in ("list.txt", "other.txt"):
        (tmp_path / name).write_text("x.jpg")
    with pytest.raises(UsageError, match="cannot be one source") as refusal:
        several(*addresses)
    assert all(address.strip(".") in str(refusal.value) for address in addresses)


def test_no_source_is_a_mistake() -> None:
    """An empty list of sources is refused."""
    with pytest.raises(UsageError, match="There is no source"):
        Several.of([])


def test_several_prefixes_of_a_bucket(bucket: str) -> None:
    """Prefixes of one bucket are one source with keys from the top; a prefix with a similar name is not in it."""
    for path in ("cats/1.txt", "cats/old/2.txt", "cats2/3.txt", "dogs/1.txt"):
        open_store(bucket).put(path, path.encode())
    source = several(f"{bucket}/cats/old", f"{bucket}/cats", f"{bucket}/dogs/1.txt".replace("/1.txt", ""))
    root, _, prefix = bucket.removeprefix("s3://").partition("/")
    assert source.root == f"s3://{root}"
    items = {item.key: item for item in source.list(TXT)}
    assert set(items) == {f"{prefix}/{path}" for path in ("cats/1.txt", "cats/old/2.txt", "dogs/1.txt")}
    assert source.read(items[f"{prefix}/dogs/1.txt"], LIMIT) == b"dogs/1.txt"
    assert sorted(source.addresses) == [f"{bucket}/cats", f"{bucket}/dogs"]


def test_a_prefix_that_is_not_there_among_several(bucket: str) -> None:
    """A mistyped prefix ends the listing with an error that names it."""
    open_store(bucket).put("cats/1.txt", b"1")
    with pytest.raises(StorageError, match="dgos"):
        list(several(f"{bucket}/cats", f"{bucket}/dgos").list(TXT))


def test_a_run_over_several_folders(texts: Path) -> None:
    """A run does the items of all folders, without the database inside; a run over one folder then does none again."""
    database = str(texts / "a" / "db")
    for sources, unchanged in (([texts / "a", texts / "b"], 0), ([texts / "b"], 20), ([texts / "b", texts / "a"], 40)):
        collection, _, _ = addressed(Scripted(), [str(source) for source in sources], database, "scripted")
        list(collection.list(Scripted.suffixes))
        assert collection.left_out["the database"] == (unchanged in (40,))
        run = fanfold.run(
            Scripted(), source=[str(source) for source in sources], database=database, executor=Here(), table="scripted"
        )
        list(run)
        assert (run.report.unchanged, run.report.lost) == (unchanged, 0)
    assert len(texts_of(database)) == 40
