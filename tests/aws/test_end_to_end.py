"""The article's whole system over HTTP: deployed, triggered, killed, read back, run again, taken down."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from batch_server import BatchServer
from PIL import Image

import fanfold
import nursery
from fanfold.core.report import Report
from fanfold.core.runs import RunDirectory
from fanfold.images import Images

sys.path.insert(0, str(Path(__file__).parent.parent / "infra"))

import emulator

STAMPS = Path("/usr/share/tuxpaint/stamps")
"""About 800 drawings and cut-out photos, in folders by kind."""

pytestmark = [
    pytest.mark.skipif(bool(emulator.ABSENT), reason=emulator.ABSENT),
    pytest.mark.skipif(not STAMPS.exists(), reason="needs pictures: apt-get install tuxpaint-stamps-default"),
]
PICTURES = 120
TASK_SIZE = "20"
BAD = {"images/odd/garbage.jpg", "more/odd/cut.jpg"}
ODD = {"images/odd/UPPER.JPG", "images/odd/four.jpeg", "more/odd/plain.jpg"}
LEFT_OUT = {"empty": 1, "other type": 1}

INVOKE = """
import json, sys
from fanfold.aws.trigger import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 900_000

print(json.dumps(handler(json.loads(sys.argv[1]), Context())))
"""


@dataclass
class System:
    """The deployed system and the uploaded files."""

    folder: Path
    deployment: dict[str, Any]
    endpoint: str
    batch: BatchServer

    def invoke(self, **event: Any) -> dict[str, Any]:
        """The Lambda's answer; its handler runs in a separate process."""
        command = [sys.executable, "-c", INVOKE, json.dumps(event)]
        done = nursery.run(command)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def upload(self, *files: Path) -> None:
        """Put files under their paths below the folder."""
        s3 = boto3.client("s3")
        for file in files:
            s3.upload_file(str(file), self.deployment["bucket"], str(file.relative_to(self.folder)))

    def report(self, run: str) -> Report:
        """The report of a finished run."""
        content = RunDirectory(self.deployment["database"], run).get("report.json")
        assert content
        assert content["ended"] == "complete"
        return Report.from_json(content)

    def items(self) -> dict[str, dict[str, Any]]:
        """Every item of the DynamoDB table, read with boto3 alone, with its vector as the article's reader gets it."""
        found: dict[str, dict[str, Any]] = {}
        table = boto3.resource("dynamodb").Table(self.deployment["mirror"].removeprefix("dynamodb://"))
        more: dict[str, Any] = {}
        while True:
            page = table.scan(**more)
            for item in page["Items"]:
                assert item["ImageId"] not in found
                vector = np.frombuffer(item["Vector"].value, dtype=item["DataType"])
                assert len(vector) == item["Dimension"]
                found[item["ImageId"]] = {**item, "Vector": vector}
            if "LastEvaluatedKey" not in page:
                return found
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def collection(folder: Path) -> None:
    """Two folders of real pictures with equal names, with bad files and odd suffixes among them."""
    stamps = sorted(STAMPS.rglob("*.png"))[:PICTURES]
    assert len(stamps) == PICTURES
    for number, stamp in enumerate(stamps):
        place = folder / ("images" if number % 2 else "more") / str(number // 2 % 7) / f"{number // 2:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stamp, place)
    for name in sorted(BAD | ODD):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.open(stamps[0]).convert("RGB").save(folder / name, "JPEG")
    (folder / "more/odd/cut.jpg").write_bytes((folder / "more/odd/cut.jpg").read_bytes()[:200])
    (folder / "images/odd/garbage.jpg").write_bytes(b"this is no picture")
    (folder / "images/odd/empty.png").touch()
    (folder / "more/odd/notes.txt").write_text("not a picture")


@pytest.fixture(name="system", scope="module")
def _system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The deployed system, with a full bucket."""
    folder = tmp_path_factory.mktemp("collection")
    collection(folder)
    context = {"image": emulator.IMAGE, "task_size": TASK_SIZE}
    with (
        emulator.deployed(emulator.synthesised(tmp_path_factory.mktemp("cdk"), context)) as made,
        BatchServer(forward_to=made["endpoint"]) as batch,
        pytest.MonkeyPatch.context() as patch,
    ):
        settings = emulator.environment(made["endpoint"]) | {"AWS_ENDPOINT_URL_BATCH": batch.url}
        for name, value in (settings | {"FANFOLD_DEPLOYMENT": json.dumps(made["deployment"])}).items():
            patch.setenv(name, value)
        system = System(folder, made["deployment"], made["endpoint"], batch)
        system.upload(*sorted(file for file in folder.rglob("*") if file.is_file()))
        yield system


@pytest.fixture(name="told", scope="module")
def _told(system: System) -> dict[str, Any]:
    """The Lambda's answer to the first run, which has finished although its jobs were killed."""
    system.batch.faults = {0: None, 1: signal.SIGTERM, 2: signal.SIGKILL}
    told = system.invoke(Paths=["images", "more"])
    assert system.batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED", system.batch.output(told["Jobs"]["commit"])
    system.batch.faults = {}
    return told


@pytest.fixture(name="local", scope="module")
def _local(system: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The vectors that a local run computes from the same files."""
    database = str(tmp_path_factory.mktemp("local") / "db")
    for _ in fanfold.run(Images(), source=str(system.folder), database=database):
        pass
    rows = fanfold.open_table(database).to_table(columns=["key", "vector"]).to_pylist()
    return {row["key"]: np.array(row["vector"], np.float32) for row in rows}


def test_the_lambda_counts_what_it_plans(told: dict[str, Any]) -> None:
    """Both paths are one run; other files are left out and counted."""
    counts = told["Counts"]
    assert (counts["listed"], counts["planned"]) == (PICTURES + len(BAD | ODD),) * 2
    assert counts["left_out"] == LEFT_OUT
    assert counts["tasks"] == 7


def test_children_were_killed_and_repeated(system: System, told: dict[str, Any]) -> None:
    """A lost host, a SIGTERM and a SIGKILL each cost one attempt."""
    work = told["Jobs"]["work"]
    told_by_batch = boto3.client("batch").describe_jobs(jobs=[f"{work}:{index}" for index in range(3)])["jobs"]
    assert [len(job["attempts"]) for job in told_by_batch] == [2, 2, 2]
    codes = [job["attempts"][0]["container"].get("exitCode") for job in told_by_batch]
    assert codes == [None, 128 + signal.SIGTERM, 128 + signal.SIGKILL]
    assert {job["status"] for job in told_by_batch} == {"SUCCEEDED"}
    assert system.batch.status(work) == "SUCCEEDED"


def test_every_item_is_accounted_for(system: System, told: dict[str, Any]) -> None:
    """The report's numbers match the tables, and bad pictures are rows with a reason."""
    report = system.report(told["Run"])
    assert (report.listed, report.ok, report.failed, report.lost) == (PICTURES + 5, PICTURES + 3, 2, 0)
    failures = fanfold.open_table(system.deployment["database"], "failures").to_table().to_pylist()
    assert {row["key"]: row["stage"] for row in failures} == dict.fromkeys(BAD, "decode")
    (taken,) = report.mirror.values()
    assert (taken["written"], taken["refused"]) == (PICTURES + 3, {})


def test_the_articles_reader_reads_what_a_laptop_computes(
    system: System, told: dict[str, Any], local: dict[str, np.ndarray]
) -> None:
    """Every vector is in DynamoDB once, under a unique key, and equal in every bit."""
    items = system.items()
    assert items.keys() == local.keys()
    assert len(items) == PICTURES + 3
    assert items.keys() >= ODD
    for key, vector in local.items():
        assert items[key]["Vector"].tobytes() == vector.tobytes()
    some = items["images/odd/UPPER.JPG"]
    assert (some["Model"], some["Uri"]) == (
        "efficientnet-lite0",
        f"s3://{system.deployment['bucket']}/images/odd/UPPER.JPG",
    )
    assert told["Database"] == system.deployment["database"]


def test_the_command_line_reads_them(system: System, told: dict[str, Any], local: dict[str, np.ndarray]) -> None:
    """`fanfold images vectors` gives the same from the mirror and from the Lance table; `report` gives the counts."""
    key = "images/odd/four.jpeg"
    for database in (system.deployment["mirror"], system.deployment["database"]):
        told_vector = json.loads(_cli("images", "vectors", database, key, "--json"))
        assert told_vector["key"] == key
        assert np.allclose(told_vector["vector"], local[key], atol=1e-6)
    report = json.loads(_cli("report", system.deployment["database"], told["Run"], "--json", code=3))
    assert (report["ok"], report["failed"]) == (PICTURES + 3, 2)


def _cli(*words: str, code: int = 0) -> str:
    done = nursery.run([sys.executable, "-m", "fanfold", *words])
    assert done.returncode == code, done.stderr
    return done.stdout


def test_article_7_what_the_lambda_may_do(system: System) -> None:
    """The Lambda may only submit jobs to its own queue, and no role has the AWSBatchFullAccess policy of AWS."""
    iam = emulator.client("iam", system.endpoint)
    allowed: dict[str, list[dict[str, Any]]] = {}
    for role in (one["RoleName"] for one in iam.list_roles()["Roles"]):
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            allowed.setdefault(role, []).extend(document["Statement"])
        managed = [one["PolicyName"] for one in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]]
        assert "AWSBatchFullAccess" not in managed
    (trigger,) = (statements for role, statements in allowed.items() if "Trigger" in role)
    of_batch = [one for one in trigger if any(action.startswith("batch:") for action in _listed(one["Action"]))]
    assert {action for one in of_batch for action in _listed(one["Action"])} <= {"batch:SubmitJob", "batch:TagResource"}
    assert all("*" not in _listed(one["Resource"]) for one in of_batch)
    submitting = [one for one in of_batch if "batch:SubmitJob" in _listed(one["Action"])]
    used = [system.deployment[name] for name in ("queue", "worker", "driver")]
    resources = [resource for one in submitting for resource in _listed(one["Resource"])]
    assert {name for resource in resources for name in used if name in resource} == set(used), resources
    assert all(any(name in resource for name in used) for resource in resources), resources


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def test_again_and_after_changes(system: System, told: dict[str, Any]) -> None:
    """A rerun has nothing to do; with one new and one changed picture it has two, and DynamoDB follows."""
    again = system.invoke(Paths=["images", "more"])
    assert (again["Counts"]["unchanged"], again["Counts"]["failed_before"]) == (PICTURES + 3, 2)
    assert (again["Counts"]["planned"], again["Jobs"]) == (0, {})
    added, changed = system.folder / "images/odd/added.png", system.folder / "more/odd/plain.jpg"
    shutil.copy(STAMPS.parent / "stamps" / sorted(STAMPS.rglob("*.png"))[-1], added)
    shutil.copy(system.folder / "images/1/001.png", changed)  # a PNG despite its name
    before = system.items()["more/odd/plain.jpg"]
    system.upload(added, changed)
    third = system.invoke(Paths=["images", "more"])
    assert third["Counts"]["planned"] == 2
    assert system.batch.wait(third["Jobs"]["commit"]) == "SUCCEEDED"
    items = system.items()
    assert len(items) == PICTURES + 4
    assert items["images/odd/added.png"]["Version"]
    after = items["more/odd/plain.jpg"]
    assert after["Version"] != before["Version"]
    assert after["Vector"].tobytes() == items["images/1/001.png"]["Vector"].tobytes()
    assert told["Run"] != third["Run"]


def test_taken_down_the_data_stays(system: System, told: dict[str, Any]) -> None:
    """Deleting the stacks leaves the bucket, with its content, and the table. (The last test of this file.)"""
    formation = emulator.client("cloudformation", system.endpoint)
    for stack in ("fanfold-Compute", "fanfold-Storage"):
        formation.delete_stack(StackName=stack)
    left = {stack["StackName"] for stack in formation.describe_stacks()["Stacks"]}
    assert not left & {"fanfold-Compute", "fanfold-Storage"}
    assert system.report(told["Run"]).ok == PICTURES + 3
    assert len(system.items()) == PICTURES + 4
    assert os.environ["AWS_ENDPOINT_URL"] == system.endpoint
