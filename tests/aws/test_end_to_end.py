"""The article's whole system, over HTTP: deployed, triggered, killed, read back, run again, taken down."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from PIL import Image

import fanfold

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "infra"))

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Some 800 drawings and cut-out photos, in folders by kind."""
PICTURES = 150
"""Under either prefix."""

INVOKE = """
import json, sys
from fanfold.aws.trigger import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 900_000

print(json.dumps(handler(json.loads(sys.argv[1]), Context())))
"""


def invoke(event: dict[str, Any]) -> dict[str, Any]:
    """The Lambda's handler in a process of its own, as AWS has it."""
    done = subprocess.run(
        [sys.executable, "-c", INVOKE, json.dumps(event)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def collection(folder: Path) -> None:
    """Two folders of real pictures whose names collide, with bad files and odd endings among them."""
    stamps = sorted(STAMPS.rglob("*.png"))[: 2 * PICTURES]
    assert len(stamps) == 2 * PICTURES
    for number, stamp in enumerate(stamps):
        place = folder / ("images" if number % 2 else "more") / f"{number // 2 % 7}" / f"{number // 2:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stamp, place)
    photo = Image.open(stamps[0]).convert("RGB")
    for name in ("images/odd/UPPER.JPG", "images/odd/four.jpeg", "more/odd/plain.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo.save(folder / name, "JPEG")
    whole = (folder / "images/odd/four.jpeg").read_bytes()
    (folder / "images/odd/garbage.jpg").write_bytes(b"this is no picture")
    (folder / "more/odd/cut.jpg").write_bytes(whole[:200])
    (folder / "images/odd/empty.png").touch()
    (folder / "more/odd/notes.txt").write_text("not a picture")


BAD = {"images/odd/garbage.jpg", "more/odd/cut.jpg"}
LEFT_OUT = {"empty": 1, "other type": 1}


def upload(folder: Path, bucket: str) -> None:
    """Put every file under its path."""
    s3 = boto3.client("s3")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            s3.upload_file(str(file), bucket, str(file.relative_to(folder)))


def local_vectors(folder: Path, database: Path) -> dict[str, bytes]:
    """What a run on this machine makes of the same files."""
    run = fanfold.run(fanfold_images(), source=str(folder), database=str(database))
    for _ in run:
        pass
    rows = fanfold.open_table(str(database)).to_table(columns=["key", "vector"]).to_pylist()
    return {row["key"]: np.array(row["vector"], "<f4").tobytes() for row in rows}


def fanfold_images() -> Any:
    """The job, imported late: it is slow to import."""
    from fanfold.images import Images

    return Images()


def article_reader(table: str) -> dict[str, np.ndarray]:
    """Every vector, read by boto3 alone as the article's reader reads it."""
    found: dict[str, np.ndarray] = {}
    more: dict[str, Any] = {}
    while True:
        page = boto3.resource("dynamodb").Table(table).scan(**more)
        for item in page["Items"]:
            vector = np.frombuffer(item["Vector"].value, dtype=item["DataType"])
            assert len(vector) == item["Dimension"]
            assert item["ImageId"] not in found
            found[item["ImageId"]] = vector
        if "LastEvaluatedKey" not in page:
            return found
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def until(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait for something; what it is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
