"""The settings of a deployment, and the errors for invalid ones."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
from emulator import IMAGE, ROOT

from fanfold.errors import UsageError

pytestmark = pytest.mark.usefixtures("synthesise")  # tests that need Node.js, in the process that has it loaded


def chosen(**context: Any) -> Any:
    """The settings of an app with this context."""
    from aws_cdk import App
    from infra.settings import Settings

    return Settings.of(App(context=context).node)


def test_defaults_are_spot_with_both_tables_in_a_new_bucket_that_stays() -> None:
    """All settings have defaults."""
    settings = chosen()
    assert (settings.name, settings.compute, settings.table, settings.bucket) == ("fanfold", "spot", "both", "")
    assert (settings.vcpus, settings.memory, settings.uploads, settings.retain) == (2, 3584, (), True)


def test_values_are_read_from_text_as_the_command_line_gives_them() -> None:
    """Numbers, lists and booleans are read from text and from cdk.json."""
    settings = chosen(vcpus="4", memory=8192, uploads="/images/, more/scans", retain="false", task_size="50")
    assert (settings.vcpus, settings.memory, settings.task_size) == (4, 8192, 50)
    assert settings.uploads == ("images", "more/scans")
    assert settings.retain is False


def test_memory_follows_from_compute_and_vcpus() -> None:
    """A worker gets its machine type's memory per vCPU."""
    sizes = {compute: (chosen(compute=compute).vcpus, chosen(compute=compute).memory) for compute in ("fargate", "gpu")}
    assert sizes == {"fargate": (2, 4096), "gpu": (4, 14336)}


def test_a_deployment_declares_its_job_and_options() -> None:
    """The job `images` has its model and its provider, any option may be set, and other jobs need a container image."""
    assert chosen().job_options == {"model": "efficientnet-lite0", "provider": "cpu"}
    gpu = chosen(compute="gpu", model="resnet18", options={"fast": True})
    assert gpu.job_options == {"model": "resnet18", "provider": "cuda", "fast": True}
    mine = chosen(job="mine:Job", options='{"size": 3}', image=IMAGE)
    assert (mine.job, mine.job_options) == ("mine:Job", {"size": 3})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("name", "My Pictures", "lower-case letters"),
        ("bucket", "s3://pictures", "a bucket's name"),
        ("compute", "lambda", "one of spot, ec2, fargate, gpu"),
        ("vcpus", "two", "a number from 1 up"),
        ("vcpus", "0", "a number from 1 up"),
        ("vcpus", "97", "from 1 to 96"),
        ("memory", "512", "at least 1024"),
        ("max_vcpus", "1", "at least a worker's vcpus"),
        ("model", "./mine.onnx", "fanfold images models"),
        ("job", "picturs", "one of images, evidence, tls, or module:Class together with -c image="),
        ("job", "mine:Job", "together with -c image="),
        ("options", "[1]", 'a JSON object such as {"model": "resnet18"}'),
        ("options", '{"modle": "resnet18"}', "has no option modle"),
        ("options", '{"provider": "cuda"}', "needs a GPU. Add: -c compute=gpu"),
        ("task_size", "-5", "a number from 1 up"),
        ("table", "dynamodb", "one of both, lance"),
        ("image", "docker.io/library/python", "dkr.ecr"),
        ("uploads", "images/*", "prefixes"),
        ("uploads", "db/images", "outside of db"),
        ("alarm_email", "me", "an e-mail address"),
        ("retain", "maybe", "true or false"),
        ("max_vcpu", "64", "Unknown setting 'max_vcpu'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(name: str, value: str, said: str) -> None:
    """The message names the setting, the value and the valid values."""
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        chosen(**{name: value})
    assert name.removesuffix("s") in str(error.value)
    assert "\n" not in str(error.value)


def test_fargate_takes_only_the_sizes_it_has() -> None:
    """Not every pair of vCPUs and memory is available."""
    with pytest.raises(UsageError, match="MiB for 3 vCPUs"):
        chosen(compute="fargate", vcpus="3")
    with pytest.raises(UsageError, match="does not have 9216 MiB for 1 vCPUs"):
        chosen(compute="fargate", vcpus="1", memory="9216")
    assert chosen(compute="fargate", vcpus="8", memory="20480").memory == 20480


def test_a_mistake_is_one_line_and_no_traceback() -> None:
    """A mistake in `cdk deploy -c compute=lambda` is one sentence; neither Ray nor a test tool was loaded for it."""
    program = """
import infra.app, sys
try:
    infra.app.main()
finally:
    print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"CDK_CONTEXT_JSON": '{"compute": "lambda"}'},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines() == ["fanfold: -c compute=lambda is not valid. Use one of spot, ec2, fargate, gpu."]
    loaded = set(done.stdout.split())
    assert {"aws_cdk", "cdk_nag"} <= loaded
    assert not loaded & {"ray", "moto", "pytest", "cfnlint", "lancedb", "onnxruntime", "PIL"}  # deploy.lock has none


def test_the_readme_tells_of_every_setting() -> None:
    """The README's table has exactly one row per setting."""
    from infra.settings import Settings

    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "infra" / "README.md").read_text(), re.MULTILINE)
    assert rows == [field.name for field in fields(Settings)]


def test_addresses_of_container_images_are_taken_apart() -> None:
    """An address has a tag, a digest, or neither."""
    from infra.settings import IMAGE as PATTERN

    base = IMAGE.rpartition(":")[0]
    for address, tag, digest in ((IMAGE, "tests", None), (base, None, None), (f"{base}@sha256:{'a' * 64}", None, True)):
        found = PATTERN.fullmatch(address)
        assert found is not None
        assert (found["name"], found["tag"], bool(found["digest"])) == ("fanfold", tag, bool(digest))
