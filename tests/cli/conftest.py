"""Fixtures: photos, a database of them, and one of another job."""

import shutil
from pathlib import Path

import pytest

from commands import fanfold
from image_files import make_photos, picture

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A new folder of photos for each test."""
    return make_photos(tmp_path / "photos")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """More pictures than INT8 needs."""
    for number in range(20):
        picture(tmp_path / "crops" / f"{number:02d}.jpg", (10 * number, 200 - 10 * number, 100), number)
    return tmp_path / "crops"


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared folder of photos that tests only read."""
    return make_photos(tmp_path_factory.mktemp("shared") / "photos")


@pytest.fixture(scope="session")
def _pristine(shared_photos: Path) -> Path:
    """A database of those photos."""
    database = shared_photos.parent / "pristine"
    assert fanfold("images", "embed", shared_photos, database).returncode == 0
    return database


@pytest.fixture(scope="module")
def embedded(_pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy of that database for the tests of one file."""
    return str(shutil.copytree(_pristine, tmp_path_factory.mktemp("embedded") / "db"))


@pytest.fixture(scope="session")
def sums(shared_photos: Path) -> str:
    """A database of another job: the example's checksums, without vectors."""
    database = str(shared_photos.parent / "sums")
    job = "checksums:Checksums"
    assert fanfold("run", job, shared_photos, database, "--workers", 1, cwd=EXAMPLES).returncode == 0
    done = fanfold("run", job, shared_photos, database, "--workers", 1, "--table", "images", cwd=EXAMPLES)
    assert done.returncode == 0
    return database
