"""Lists of addresses that name disk images by their first files."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scans import STAGES, rows, scan
from test_disk_scan import GONE, LIVE, by_origin

from commands import fanfold as command
from disk_images import ewf, mbr, windows_volume, write_ewf


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The files of an image: four."""
    return write_ewf(tmp_path / "images" / "mesa.E01", ewf(mbr(windows_volume()), per_segment=40))


def listed(tmp_path: Path, *lines: object) -> Path:
    """A list of addresses."""
    file = tmp_path / "disks.txt"
    file.write_text("\n".join(map(str, lines)))
    return file


@pytest.mark.parametrize("named", [[0], [0, 1, 2, 3], [2, 0], [3, 1, 0, 2]])
def test_a_list_that_names_an_image(named: list[int], files: list[Path], tmp_path: Path, database: str) -> None:
    """The files beside the first one belong to it, whichever of them the list names too, and in whatever order."""
    scan(listed(tmp_path, *(files[number] for number in named)), database, ["live"])
    (container,) = rows(database, "containers")
    assert [one["uri"].rpartition("/")[2] for one in container["segments"]] == [file.name for file in files]
    assert by_origin(database) == LIVE


def test_a_list_of_raw_images(tmp_path: Path, database: str) -> None:
    """Raw images in several files are found in the same way, and files of other names stay what they are."""
    data = mbr(windows_volume())
    for number, at in enumerate(range(0, len(data), 1_500_000), 1):
        (tmp_path / f"stick.{number:03}").write_bytes(data[at : at + 1_500_000])
    (tmp_path / "notes.log").write_text("nothing")
    scan(listed(tmp_path, "stick.001", "notes.log"), database, *STAGES)
    assert sorted(row["kind"] for row in rows(database, "containers")) == ["other", "raw"]
    assert by_origin(database) == LIVE | GONE


@pytest.mark.parametrize(
    ("missing", "says"), [(1, "Put mesa.E02 beside mesa.E01"), (3, "Put mesa.E04 beside mesa.E01")]
)
def test_a_file_that_is_not_there_is_named(missing: int, says: str, files: list[Path], tmp_path: Path) -> None:
    """A scan says which file of an image is missing, and where to put it."""
    files[missing].unlink()
    done = command("evidence", "scan", listed(tmp_path, files[0]), tmp_path / "db")
    assert done.returncode == 3
    assert f"{says}, and scan again." in done.stderr


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files in ranges, and a page of words for what is not there."""

    folder = Path()

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        """Answer with a file, or a part of it."""
        file = self.folder / self.path.rpartition("/")[2]
        data = file.read_bytes() if file.is_file() else b"Welcome to our pages, whatever it was that you asked for."
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", '"1"')
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.end_headers()
        if with_body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address(files: list[Path]) -> Iterator[str]:
    """The address of a server that has these files."""
    Ranges.folder = files[0].parent
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/images"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("by_list", [True, False])
def test_an_image_on_a_server(by_list: bool, address: str, tmp_path: Path, database: str) -> None:
    """The files of an image on a web server are found by their names; a page of words is not one of them."""
    first = f"{address}/mesa.E01"
    scan(listed(tmp_path, first) if by_list else first, database, ["live"])
    (container,) = rows(database, "containers")
    assert (len(container["segments"]), container["problems"]) == (4, [])
    assert by_origin(database) == LIVE


def test_a_list_of_images_in_a_bucket(bucket: str, files: list[Path], tmp_path: Path, database: str) -> None:
    """The files of an image in an object store are found, too."""
    from obstore.store import from_url

    store = from_url(bucket.rpartition("/")[0], client_options={"allow_http": True})
    for file in files:
        store.put(f"{bucket.rpartition('/')[2]}/{file.name}", file.read_bytes())
    scan(listed(tmp_path, f"{bucket}/mesa.E01"), database, *STAGES)
    assert len(rows(database, "containers")[0]["segments"]) == 4
    assert by_origin(database) == LIVE | GONE
