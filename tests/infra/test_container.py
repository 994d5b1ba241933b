"""The container image: its content, and the packages that fanfold needs in its locks."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from emulator import ABSENT, ROOT
from templates import Stacks, Synthesise, properties, text

from fanfold.images.models.registry import MODELS

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture(scope="module")
def built(synthesise: Synthesise) -> Stacks:
    """A deployment that builds its container image here, for GPUs."""
    return synthesise(image="", compute="gpu", model="resnet18")


def test_cdk_deploy_builds_it_for_the_machines_with_the_model_asked_for(built: Stacks) -> None:
    """The image is built from the Dockerfile here, for x86-64 on any machine, with ONNX Runtime for GPUs if needed."""
    assets = json.loads((built.folder / "fanfold-Compute.assets.json").read_text())
    (image,) = assets["dockerImages"].values()
    assert image["source"]["dockerFile"] == "infra/Dockerfile"
    assert image["source"]["platform"] == "linux/amd64"
    arguments = image["source"]["dockerBuildArgs"]
    assert (arguments["JOB"], arguments["PROCESSOR"]) == ("images", "gpu")
    assert json.loads(arguments["OPTIONS"]) == {"model": "resnet18", "provider": "cuda"}


def test_the_lambda_and_the_containers_are_one_container_image(built: Stacks) -> None:
    """The Lambda and the containers name the same image."""
    function = text(properties(built.compute, "AWS::Lambda::Function", "Trigger")["Code"]["ImageUri"])
    worker = properties(built.compute, "AWS::Batch::JobDefinition", "Worker")["ContainerProperties"]["Image"]
    assert function.rpartition(":")[2] == text(worker.get("Fn::Sub", worker)).rpartition(":")[2]


def test_only_what_the_dockerfile_copies_goes_to_the_builder(built: Stacks) -> None:
    """The builder gets the code, the locks and the licence: no environment, picture, test or cache."""
    (folder,) = (path for path in built.folder.glob("asset.*") if (path / "infra").is_dir())
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    code = {str(file.relative_to(ROOT)) for file in (ROOT / "src").rglob("*") if "__pycache__" not in file.parts}
    kept = {file for file in files if file not in code}
    assert kept == {"requirements/worker.lock", "infra/gpu.lock", "infra/Dockerfile", "LICENSE", ".dockerignore"}
    assert {"src/fanfold/__main__.py", "src/fanfold/aws/trigger.py"} <= files
    copied = re.findall(r"^COPY (\S+) ", (ROOT / "infra" / "Dockerfile").read_text(), re.MULTILINE)
    assert len(copied) == 4
    for path in copied:
        assert (folder / path).exists()


def test_the_base_is_named_by_its_digest_and_can_be_chosen() -> None:
    """The base is pinned by digest, since a tag can change, and can be replaced by another image."""
    text = (ROOT / "infra" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:3\.13-slim@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["${BASE}", "packages-cpu", "packages-${PROCESSOR}"]


def test_the_locks_hold_what_fanfold_needs_with_hashes_and_no_addresses() -> None:
    """The locks have every package of the container image's extras, and Lambda's client; and every model's weights."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [re.split(r"[\[<>=~ ]", one)[0] for one in project["dependencies"] + extras["images"] + extras["aws"]]
    locked = _locked(ROOT / "requirements" / "worker.lock")
    assert {*needed, "awslambdaric"} <= set(locked)
    weights = {model.source for model in MODELS if not model.needs_download}
    assert weights <= set(locked)
    assert weights <= set(_locked(ROOT / "requirements" / "deploy.lock"))  # where a run begins, its recipe is made
    gpu = _locked(ROOT / "infra" / "gpu.lock")
    assert "onnxruntime-gpu" in gpu
    for name, hashes in (locked | gpu).items():
        assert hashes > 0, name
    for file in ("requirements/worker.lock", "infra/gpu.lock"):
        assert "://" not in (ROOT / file).read_text()


def _locked(file: Path) -> dict[str, int]:
    """The packages of a lock with their numbers of hashes."""
    found: dict[str, int] = {}
    for line in file.read_text().splitlines():
        if name := re.match(r"([\w.-]+)==", line):
            found.setdefault(name[1], 0)
        elif "--hash=sha256:" in line:
            found[next(reversed(found))] += 1
    return found


def test_it_ends_as_nobody_with_fanfold_as_its_command() -> None:
    """The image runs as an unprivileged user, and no step uses a shell: each is a list of arguments for docker."""
    text = (ROOT / "infra" / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[-4:] == [
        "USER 10001:10001",
        "WORKDIR /tmp",
        'ENTRYPOINT ["python", "-m", "fanfold"]',
        'CMD ["--help"]',
    ]
    steps = [json.loads(line.removeprefix("RUN ")) for line in lines if line.startswith("RUN ")]
    assert len(steps) == 7
    for step in steps:
        assert step[0] in ("pip", "python", "chmod")
        if step[:2] == ["python", "-c"]:
            compile(step[2], "Dockerfile", "exec")
