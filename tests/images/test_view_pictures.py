"""What leaves the server of a page: pictures under the table's root, and nothing else; whatever is asked for."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest
from PIL import Image
from viewing import HOSTILE, Page, coloured, table_of, viewing

from fanfold.images.viewer.decoder import Helpers, Undecodable
from fanfold.images.viewer.thumbnails import Thumbnails, prune


def png_bomb() -> bytes:
    """A PNG of few bytes that says it has 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.fixture(name="page", scope="module")
def _page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a table with addresses that a stranger wrote into it."""
    folder = tmp_path_factory.mktemp("stranger")
    photos, outside = folder / "photos", folder / "outside"
    good = coloured(photos, 2)
    secret = next(iter(coloured(outside, 1).values()))
    (photos / "link.png").symlink_to(outside / "00.png")
    (photos / "inside.png").symlink_to(photos / "00.png")
    (photos / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (photos / "page.png").write_text("<!doctype html><script>alert(1)</script>")
    Image.new("RGB", (3000, 30), "red").save(photos / "wide.tif")
    os.mkfifo(photos / "pipe.png")
    uris = good | {
        HOSTILE: good["00.png"],
        "wide.tif": (photos / "wide.tif").as_uri(),
        "inside": (photos / "inside.png").as_uri(),
        "link": (photos / "link.png").as_uri(),
        "gone": (photos / "gone.png").as_uri(),
        "pipe": (photos / "pipe.png").as_uri(),
        "folder": photos.as_uri(),
        "drawing": (photos / "drawing.png").as_uri(),
        "page": (photos / "page.png").as_uri(),
        "outside": secret,
        "dots": f"{photos.as_uri()}/../outside/00.png",
        "coded dots": f"{photos.as_uri()}/%2e%2e/outside/00.png",
        "passwd": "file:///etc/passwd",
        "plain path": str(photos / "00.png"),
        "nul": f"{photos.as_uri()}/00.png%00",
        "web": "http://169.254.169.254/latest/meta-data/",
        "bucket": "s3://private/00.png",
        "nothing": "",
    }
    with viewing(table_of(folder / "db", str(photos), uris)) as page:
        yield page


@pytest.mark.parametrize("key", ["00.png", HOSTILE, "inside", "wide.tif"])
def test_pictures_under_the_root_are_shown(page: Page, key: str) -> None:
    """Thumbnails are JPEGs made here; a picture itself is sent as it is, or as a JPEG if browsers do not know it."""
    row = page.rows()[key]
    thumb = page.ask(f"/thumb/{row}")
    assert (thumb.status, thumb.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(thumb.body)).size == (256, 256)
    whole = page.ask(f"/picture/{row}")
    assert whole.headers["content-type"] == ("image/jpeg" if key == "wide.tif" else "image/png")
    assert max(Image.open(io.BytesIO(whole.body)).size) == (2048 if key == "wide.tif" else 40)
    assert Image.open(io.BytesIO(page.ask(f"/middle/{row}").body)).size == ((640, 6) if key == "wide.tif" else (40, 30))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        *(
            (key, "not under the table's source")
            for key in ("link", "outside", "dots", "coded dots", "passwd", "bucket")
        ),
        ("gone", "not there any more"),
        ("pipe", "not a file"),
        ("folder", "cannot be read"),
        ("plain path", "not one that can be shown"),
        ("nothing", "not one that can be shown"),
        ("nul", "cannot be read"),
        ("web", "--fetch"),
    ],
)
def test_nothing_else_is_read(page: Page, key: str, says: str) -> None:
    """An address that leads out of the root, by a link too, is refused with a reason; so is what is not a file."""
    row = page.rows()[key]
    for kind in ("thumb", "middle", "picture"):
        answer = page.ask(f"/{kind}/{row}")
        assert answer.status == 404
        assert says in answer.json["error"]


@pytest.mark.parametrize("key", ["drawing", "page"])
def test_only_pictures_leave(page: Page, key: str) -> None:
    """A file that is not a picture by its content is never sent, whatever it is called."""
    row = page.rows()[key]
    for kind in ("thumb", "middle", "picture"):
        answer = page.ask(f"/{kind}/{row}")
        assert answer.status == 404
        assert answer.json["error"].startswith("not a picture")
        assert b"alert" not in answer.body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/thumb/..%2fetc%2fpasswd", 404),
        ("/thumb/..%2f", 404),
        ("/static/..%2fapp.py", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/static/.", 404),
        ("/thumb/-1", 400),
        ("/thumb/1e9", 400),
        ("/thumb/x", 400),
        ("/thumb/%D9%A3", 400),
        ("/thumb/1000000000", 404),
        ("/thumb/99999999999999999999", 400),
        ("/thumb/0?v=1-00000000", 410),
        ("/thumb/0?v=x", 410),
        ("/thumb/0?v=99999999999999999999999-{stamp}", 410),
        ("/thumb/0?v=99-{stamp}", 410),
        ("/api/rows?v=99-{stamp}", 410),
        ("/api/rows?from=-1", 400),
        ("/api/rows?count=0", 400),
        ("/api/rows?count=501", 400),
        ("/api/rows?from=1000000", 200),
        ("/api/rows?find=", 400),
        ("/api/rows?find=%20%20", 400),
        (f"/api/rows?find={'a' * 10_000}", 400),
        ("/api/rows?find=%F0%9F%90%88", 200),
        ("/api/rows?find=%27%20OR%201%3D1", 200),
        ("/api/rows?find=%FF%00", 200),
        ("/api/near?row=0&k=0", 400),
        ("/api/near?row=0&k=1000000", 400),
        ("/api/near?row=0&k=-1", 400),
        ("/api/near?row=0&k=1.5", 400),
        ("/api/near", 400),
        ("/api/near?row=1000", 404),
        ("/api/near?key=none", 404),
        ("/api/row?row=1000", 404),
        ("/api/row?key=%27", 404),
        ("/api/duplicates?threshold=0", 400),
        ("/api/duplicates?threshold=nan", 400),
        ("/api/duplicates?threshold=2", 400),
        ("/api/failures?page=-1", 400),
        ("/api/failures?page=1000000000", 200),
        ("/api/failures?stage=%27", 200),
        ("/nothing", 404),
        ("/api", 404),
    ],
)
def test_bad_questions_have_plain_answers(page: Page, path: str, status: int) -> None:
    """Every bad question is answered with its status and a sentence, and the server goes on."""
    stamp = page.ask("/api/table").json["version"].partition("-")[2]
    answer = page.ask(path.format(stamp=stamp))
    assert answer.status == status, answer.body
    if status != 200:
        assert answer.json["error"]
        assert "Traceback" not in answer.body.decode()


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 415, "the file is empty"),
        (b"only text", 415, "the file is text"),
        (png_bomb(), 415, "40000 x 40000 pixels"),
        (b"\xff\xd8\xff" + b"\0" * 100, 415, "JPEG"),
        (bytes(33 << 20), 413, "33,554,432 bytes at most"),
    ],
    ids=["empty", "text", "bomb", "damaged", "33 MB"],
)
def test_bad_uploads(page: Page, data: bytes, status: int, says: str) -> None:
    """What is not a picture, or too large a one, is refused with the decoder's sentence."""
    answer = page.ask("/api/near", "POST", data)
    assert (answer.status, says in answer.json["error"]) == (status, True), answer.body
    assert page.ask("/api/table").status == 200


def test_a_crash_of_a_decoder_costs_one_picture(photos: dict[str, Path]) -> None:
    """A helper that dies is replaced: the picture that it had has a reason, the next is decoded."""
    helpers = Helpers(1)
    request, data = {"what": "thumb", "size": 32, "max_pixels": 1 << 24}, photos["chelsea"].read_bytes()
    try:
        assert helpers.ask(request, data).startswith(b"\xff\xd8")
        process = helpers._all[0]._process
        assert process
        process.kill()
        process.wait()
        with pytest.raises(Undecodable, match="decoder crashed"):
            helpers.ask(request, data)
        assert helpers.ask(request, data).startswith(b"\xff\xd8")
    finally:
        helpers.close()
    with pytest.raises(Undecodable):
        helpers.ask(request, data)


def test_thumbnails_are_kept(tmp_path: Path, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A thumbnail is made once, then read from memory, or from the disk by another server; a torn one is made again."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path))
    helpers, data, reads = Helpers(1), photos["chelsea"].read_bytes(), []

    def read(_: str) -> bytes:
        reads.append(1)
        return data

    try:
        first, second = Thumbnails(helpers, 1 << 24, read), Thumbnails(helpers, 1 << 24, read)
        made = first.get("file:///x", "1")
        assert first.get("file:///x", "1") == second.get("file:///x", "1") == made
        assert len(reads) == 1
        first.get("file:///x", "2")
        assert len(reads) == 2
        for file in (tmp_path / "thumbs").glob("*/*.jpg"):
            file.write_bytes(made[:100])
        assert first.get("file:///x", "1") == made
        assert Thumbnails(helpers, 1 << 24, read).get("file:///x", "1") == made
        assert len(reads) == 3
    finally:
        helpers.close()


def test_the_oldest_thumbnails_go(tmp_path: Path) -> None:
    """Above the limit, those that were used longest ago are deleted, and no other file."""
    for number in range(10):
        file = tmp_path / "ab" / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(100))
        os.utime(file, (number, number))
    (tmp_path / "ab" / "other.txt").write_bytes(bytes(5000))
    prune(tmp_path, 1000)
    assert len(list(tmp_path.glob("*/*.jpg"))) == 10
    prune(tmp_path, 500)
    assert sorted(file.name for file in tmp_path.glob("*/*")) == ["6.jpg", "7.jpg", "8.jpg", "9.jpg", "other.txt"]


def test_a_list_needs_fetch(tmp_path: Path) -> None:
    """A table of a list has no root: its addresses may lead anywhere, and are read with --fetch only."""
    database = table_of(tmp_path / "db", "", coloured(tmp_path / "photos", 1))
    with viewing(database) as page:
        assert "--fetch" in page.ask("/thumb/0").json["error"]
    with viewing(database, fetch=True) as page:
        assert page.ask("/thumb/0").status == 200


def test_a_table_that_goes_and_comes_back(tmp_path: Path) -> None:
    """A database that is gone is an error with a sentence; one that is made again in its place is another table."""
    database = table_of(tmp_path / "db", str(tmp_path / "photos"), coloured(tmp_path / "photos", 2))
    with viewing(database) as page:
        before = page.ask("/api/table").json["version"]
        shutil.move(database, tmp_path / "away")
        gone = page.ask("/api/table")
        assert gone.status == 503
        assert "not in" in gone.json["error"]
        table_of(tmp_path / "db", str(tmp_path / "photos"), coloured(tmp_path / "photos", 2))
        assert page.ask("/api/table").json["version"] != before
        assert page.ask(f"/thumb/0?v={before}").status == 410
        assert page.ask("/thumb/0").status == 200


def test_versions(tmp_path: Path) -> None:
    """A page goes on with its version of the table while that grows; once it is removed, the answer is 410."""
    database = table_of(tmp_path / "db", str(tmp_path / "photos"), coloured(tmp_path / "photos", 3))
    with viewing(database) as page:
        old = page.ask("/api/table").json
        dataset = lance.dataset(str(database / "images.lance"))
        dataset.delete("key = '00.png'")
        new = page.ask("/api/table").json
        assert (old["rows"], new["rows"]) == (3, 2)
        assert page.ask(f"/api/rows?v={old['version']}").json["total"] == 3
        assert [row["key"] for row in page.ask("/api/rows").json["rows"]] == ["01.png", "02.png"]
    with viewing(database) as page:
        name = page.ask("/api/table").json["version"]
        lance.dataset(str(database / "images.lance")).cleanup_old_versions(older_than=timedelta(0))
        number, _, stamp = name.partition("-")
        assert page.ask(f"/api/rows?v={int(number) - 1}-{stamp}").status == 410


@pytest.mark.parametrize("rows", [0, 1, 59])
def test_tables_of_few_rows(tmp_path: Path, rows: int) -> None:
    """A table of no rows, of one and of 59 answers every question."""
    uris = coloured(tmp_path / "photos", rows)
    with viewing(table_of(tmp_path / "db", str(tmp_path / "photos"), uris)) as page:
        assert page.ask("/api/rows?count=500").json["total"] == rows
        assert len(page.ask("/api/rows?from=50").json["rows"]) == max(0, rows - 50)
        assert page.ask("/api/failures").json["total"] == 0
        if rows:
            near = page.ask("/api/near?row=0&k=500").json["rows"]
            assert len(near) == rows - 1
            assert sorted((hit["score"] for hit in near), reverse=True) == [hit["score"] for hit in near]
        else:
            assert page.ask("/api/near?row=0").status == 404
            assert page.ask("/thumb/0").status == 404


def test_names_are_found_by_any_part(page: Page) -> None:
    """A search by name takes capitals for small letters, and no character as a pattern."""
    assert page.ask("/api/rows?find=WIDE").json["rows"][0]["key"] == "wide.tif"
    assert page.ask("/api/rows?find=%25").json["total"] == 0
    assert page.ask("/api/rows?find=%3Cimg%20src").json["rows"][0]["key"] == HOSTILE


def test_a_vector_of_another_model_is_refused(page: Page) -> None:
    """A table that `images` did not make cannot be searched by a picture, and says so."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)).save(data, "PNG")
    answer = page.ask("/api/near", "POST", data.getvalue())
    assert answer.status == 415
    assert "KeyError" not in answer.json["error"]


def test_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    """A table in a bucket, of pictures in a bucket: only those of its prefix are read."""
    from fanfold.storage import open_store

    store = open_store(bucket)
    for name, file in (("photos/a.png", "a"), ("photos/b.png", "b"), ("other/c.png", "c")):
        picture = tmp_path / f"{file}.png"
        Image.new("RGB", (20, 20), {"a": "red", "b": "green", "c": "blue"}[file]).save(picture)
        store.put(name, picture.read_bytes())
    uris = {name: f"{bucket}/{name}" for name in ("photos/a.png", "photos/b.png", "other/c.png", "photos/no.png")}
    uris["dots"] = f"{bucket}/photos/../other/c.png"
    database = table_of(tmp_path / "local", f"{bucket}/photos", uris)
    for file in (file for file in database.rglob("*") if file.is_file()):
        store.put(f"db/{file.relative_to(database)}", file.read_bytes())
    with viewing(f"{bucket}/db") as page:
        rows = page.rows()
        assert page.ask(f"/thumb/{rows['photos/a.png']}").headers["content-type"] == "image/jpeg"
        assert page.ask(f"/picture/{rows['photos/b.png']}").headers["content-type"] == "image/png"
        for key in ("other/c.png", "dots"):
            assert "not under the table's source" in page.ask(f"/thumb/{rows[key]}").json["error"]
        assert page.ask(f"/thumb/{rows['photos/no.png']}").status == 404
        assert len(page.ask("/api/near?row=0&k=10").json["rows"]) == 4
