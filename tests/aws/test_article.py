"""What the article's code loses and fanfold keeps: one test per point of docs/article.md; the 7th is end to end."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np
import pytest
from batch_server import BatchServer
from PIL import Image

import fanfold
from fanfold.aws.deployment import Deployment
from fanfold.aws.dynamodb.table import DynamoTable
from fanfold.aws.trigger import handler
from fanfold.core.runs import RunDirectory

TASK_SIZE = 4


class Context:
    """The part of AWS's context that our handler uses."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def photo(suffix: str, seed: int, orientation: int = 1) -> bytes:
    """A picture of noise as a file, rotated as its EXIF orientation says."""
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    upright = Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: the camera was turned, so the stored picture must be rotated 90 degrees clockwise
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright
    file = io.BytesIO()
    stored.save(file, "PNG" if suffix == "png" else "JPEG", quality=98, exif=exif)
    return file.getvalue()


def trap() -> dict[str, bytes]:
    """A bucket in which the article's code loses something at every step."""
    files = {f"images/cats/{n:03d}.jpg": photo("jpg", n) for n in range(6)}
    files |= {f"more/dogs/{n:03d}.jpg": photo("jpg", 100 + n) for n in range(6)}
    files |= {"images/a.jpeg": photo("jpg", 200), "images/b.JPG": photo("jpg", 201), "images/c.png": photo("png", 202)}
    files |= {"images/cats/bad.jpg": b"no picture", "images/readme.txt": b"text"}
    return files | {"more/upright.jpg": photo("jpg", 300), "more/turned.jpg": photo("jpg", 300, orientation=6)}


@dataclass
class Done:
    """A run over the trap, and its results."""

    told: dict[str, Any]
    deployment: Deployment
    batch: BatchServer

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """The DynamoDB table by `ImageId`."""
        found = list(DynamoTable.open(self.deployment.mirror).scan())
        assert len({item["ImageId"] for item in found}) == len(found)
        return {item["ImageId"]: item for item in found}


@pytest.fixture(name="done", scope="module")
def _done(deployed: Callable[[str], AbstractContextManager[BatchServer]]) -> Iterator[Done]:
    """The Lambda was asked for both paths, and AWS Batch has finished."""
    mirror = "dynamodb://article"
    DynamoTable.create(mirror)
    with deployed(mirror) as batch:
        deployment = Deployment.load()
        for key, content in trap().items():
            boto3.client("s3").put_object(Bucket=deployment.bucket, Key=key, Body=content)
        told = handler({"Paths": ["images", "more"], "TaskSize": TASK_SIZE}, Context())
        assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED", batch.output(told["Jobs"]["commit"])
        yield Done(told, deployment, batch)


def test_article_1_two_paths(done: Done) -> None:
    """Two paths do not overwrite each other's lists: every picture of both is there."""
    for path, name in (("images/cats", "cats"), ("more/dogs", "dogs")):
        keys = {key for key in done.items if f"/{name}/" in key}
        assert keys == {f"{path}/{n:03d}.jpg" for n in range(6)}


def test_article_2_equal_names(done: Done) -> None:
    """Pictures of the same name in two folders are two rows with their own vectors; as stems they are refused."""
    items = done.items
    one, two = items["images/cats/001.jpg"], items["more/dogs/001.jpg"]
    assert not np.array_equal(one["Vector"], two["Vector"])
    with pytest.raises(fanfold.UsageError, match=r"6 stems are shared.*\n  000: .*000\.jpg, .*000\.jpg"):
        _listed_by_stem(done.deployment)


def _listed_by_stem(deployment: Deployment) -> None:
    from fanfold.images import Images
    from fanfold.source import by_stem, open_source

    assert not list(by_stem(open_source(f"s3://{deployment.bucket}").list(Images.suffixes)))


def test_article_3_a_bad_picture(done: Done) -> None:
    """A picture that cannot be decoded fails alone, once; its task's others are done, and no child is repeated."""
    failures = fanfold.open_table(done.deployment.database, "failures").to_table().to_pylist()
    assert [(row["key"], row["stage"]) for row in failures] == [("images/cats/bad.jpg", "decode")]
    assert len(done.items) == len(trap()) - 2
    (work,) = boto3.client("batch").describe_jobs(jobs=[done.told["Jobs"]["work"]])["jobs"]
    children = [f"{work['jobId']}:{index}" for index in range(work["arrayProperties"]["size"])]
    assert [len(job["attempts"]) for job in boto3.client("batch").describe_jobs(jobs=children)["jobs"]] == [1] * 5


def test_article_4_what_became_of_them(done: Done) -> None:
    """The report counts what was written, not what was requested."""
    report = RunDirectory(done.deployment.database, done.told["Run"]).get("report.json")
    assert report
    pictures = len(trap()) - 1
    assert (report["listed"], report["ok"], report["failed"], report["lost"]) == (pictures, pictures - 1, 1, 0)
    assert fanfold.Report.from_json(report).exit_code == 3


def test_article_5_endings(done: Done) -> None:
    """Pictures are recognised by any of their suffixes, and other files are counted."""
    assert done.items.keys() >= {"images/a.jpeg", "images/b.JPG", "images/c.png"}
    assert done.told["Counts"]["left_out"] == {"other type": 1}


def test_article_6_the_recipe(done: Done) -> None:
    """The crop is square, pictures are turned upright, and every row names its model and recipe."""
    items = done.items
    upright, turned = items["more/upright.jpg"], items["more/turned.jpg"]
    cosine = upright["Vector"] @ turned["Vector"]
    cosine /= np.linalg.norm(upright["Vector"]) * np.linalg.norm(turned["Vector"])
    assert cosine > 0.98
    assert [(item["Width"], item["Height"]) for item in (upright, turned)] == [(320, 240)] * 2
    assert {(item["Model"], len(item["Recipe"])) for item in items.values()} == {("efficientnet-lite0", 16)}
    metadata = fanfold.open_table(done.deployment.database).schema.metadata or {}
    assert "to 224 px" in json.loads(metadata[b"fanfold.recipe"])["preprocessing"]
