"""The job `images` as the core uses it: options, schema, recipe."""

import json
import pickle
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from PIL import Image

from fanfold.errors import UsageError
from fanfold.images import Images
from fanfold.job import Job, load, spec


def test_it_is_a_job() -> None:
    """The job satisfies the contract of a job and can be sent to a worker."""
    job: Job = Images(fast=True, batch_size=3)
    assert isinstance(job, Job)
    told = json.loads(json.dumps(spec(job)))
    assert told["name"] == "images"
    assert load(told["name"], told["options"]) == job
    assert pickle.loads(pickle.dumps(job)) == job


def test_every_option_is_explained() -> None:
    """Each option has a sentence for the command line and the docs."""
    for option in fields(Images):
        assert option.metadata["help"].endswith("."), option.name


def test_schema() -> None:
    """The columns are those of the table's documentation; the key is declared for Lance, and neither it nor the
    version may be null.
    """
    schema = Images().schema()
    assert {field.name: str(field.type) for field in schema} == {
        "key": "string",
        "version": "string",
        "uri": "string",
        "vector": "fixed_size_list<item: float>[1280]",
        "width": "int32",
        "height": "int32",
        "bytes": "int64",
        "format": "string",
        "truncated": "bool",
        "created": "timestamp[us, tz=UTC]",
    }
    assert [field.name for field in schema if not field.nullable] == ["key", "version"]
    assert schema.field("key").metadata == {b"lance-schema:unenforced-primary-key": b"true"}


def test_metadata() -> None:
    """The schema records the model, its weights, its dimension and its recipe."""
    told = {key.decode(): value.decode() for key, value in Images().schema().metadata.items()}
    assert all(key.startswith("fanfold.") for key in told)
    assert told["fanfold.model"] == "efficientnet-lite0"
    assert told["fanfold.sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert told["fanfold.dimension"] == "1280"
    assert json.loads(told["fanfold.recipe"]) == Images().recipe()


def test_recipe() -> None:
    """The recipe has weights, preprocessing and output, and changes only with options that change vectors."""
    recipe = Images().recipe()
    assert recipe.keys() == {"model", "weights", "preprocessing", "output"}
    assert "(rgb - [127, 127, 127]) / [128, 128, 128]" in recipe["preprocessing"]
    same = Images(batch_size=7, max_pixels=5, max_bytes=5, truncated="fail")
    assert same.recipe() == recipe
    assert Images(fast=True).recipe() != recipe


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_pixels": 0}, "max_pixels must be at least 1"),
        ({"max_bytes": -1}, "max_bytes must be at least 1"),
        ({"truncated": "skip"}, "truncated must be one of embed, fail"),
        ({"provider": "gpu"}, "provider must be one of cpu, cuda"),
    ],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    """An option out of range is a usage error that names its range."""
    with pytest.raises(UsageError, match=said):
        load("images", options)


def test_suffixes() -> None:
    """Suffixes are lower-case with a dot, and include those that Pillow writes."""
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in Images.suffixes)
    Image.init()
    forms = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"}
    written = {suffix for suffix, form in Image.registered_extensions().items() if form in forms}
    assert written <= Images.suffixes


def test_embed_one(photos: dict[str, Path]) -> None:
    """A single picture's vector has the table's length and type."""
    vector = Images().embed_one(photos["coffee"].read_bytes())
    assert vector.shape == (1280,)
    assert vector.dtype == "float32"


# -- what is imported, and when -------------------------------------------------------------------------------------


def run(program: str) -> str:
    """The output of a program in a new Python process."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_imports_are_light() -> None:
    """Importing the job does not import ONNX Runtime, Pillow or the hub's client."""
    heavy = {"PIL", "onnx", "onnxruntime", "huggingface_hub"}
    assert run(f"import fanfold.images, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_a_worker_needs_less(work: object) -> None:  # noqa: ARG001 - the model is in the cache
    """A worker with a cached model does not import the library that made it or the hub's client."""
    program = "import fanfold.images, sys; fanfold.images.Images().open(); "
    assert run(program + "print(sorted({'onnx', 'huggingface_hub'} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("absent", ["PIL", "simplejpeg", "onnxruntime", "onnx", "huggingface_hub"])
def test_missing_extra(tmp_path: Path, absent: str) -> None:
    """Without one of the extra's packages, the error names the extra and how to install it."""
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name != absent:
            (tmp_path / entry.name).symlink_to(entry)
    program = f"""
import sys
sys.path[:] = [{str(tmp_path)!r} if path.endswith("site-packages") else path for path in sys.path]
from fanfold.errors import MissingExtra
from fanfold.job import load
try:
    load("images", {{}})
except MissingExtra as error:
    print(error)
"""
    assert run(program) == "The job 'images' needs the extra 'images'. Install it with: pip install 'fanfold[images]'"


def test_table_round_trip(tmp_path: Path) -> None:
    """Lance keeps the schema, its metadata and the declared key."""
    schema = Images().schema()
    lance.write_dataset(pa.Table.from_batches([], schema), str(tmp_path / "t.lance"))
    kept = lance.dataset(str(tmp_path / "t.lance")).schema
    assert kept.metadata == schema.metadata
    assert kept.field("key").metadata == schema.field("key").metadata
