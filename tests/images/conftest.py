"""Shared fixtures of the tests of the job `images`: real pictures, and a folder as a source."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from fanfold.images import Images
from fanfold.images.work import Embedding
from fanfold.job import Item

# Real weights come from the Hugging Face hub, 5 GB of them.
collect_ignore = [] if os.environ.get("FANFOLD_HUB") else ["test_real_encoders.py"]


@pytest.fixture(name="photos", scope="session")
def _photos() -> dict[str, Path]:
    """The pictures inside scikit-image, by name (found without importing it, which would need SciPy)."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data"
    files = sorted(file for file in data.iterdir() if file.suffix in {".png", ".jpg", ".jpeg", ".gif"})
    return {file.stem: file for file in files}


@pytest.fixture(name="work", scope="session")
def _work() -> Embedding:
    """A worker's instance of the default model."""
    return Images().open()


@pytest.fixture(name="picture", scope="session")
def _picture(photos: dict[str, Path]) -> Image.Image:
    """A real picture of 450 x 300 pixels that every rotation or reflection changes."""
    return Image.open(photos["chelsea"]).convert("RGB").resize((450, 300))


class Folder:
    """A folder as an `Opener`, with only what the job needs of a source."""

    parallel_reads = 2

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, item: Item, limit: int) -> bytes:
        if item.size > limit:
            raise OSError(f"{item.size} bytes are more than {limit}")
        return (self.root / item.path).read_bytes()

    def uri(self, item: Item) -> str:
        return (self.root / item.path).as_uri()

    def items(self) -> list[Item]:
        files = sorted(file for file in self.root.rglob("*") if file.is_file())
        names = [str(file.relative_to(self.root)) for file in files]
        return [Item(name, (self.root / name).stat().st_size, "1", name) for name in names]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Callable[..., Folder]:
    """Make a folder of the given files."""

    def make(**files: bytes) -> Folder:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return Folder(tmp_path)

    return make
