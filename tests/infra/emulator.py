"""A test tool: the deployment on a server that speaks AWS's APIs (moto), by the CDK's own command line or without it.

    infra.app ──synth──▶ templates ──mended here, for moto──▶ cdk deploy, or CloudFormation at once ──▶ moto

moto runs no jobs and no Lambda, and drops some of what it is told (public access blocks, point-in-time recovery):
that is held by the tests of the templates. What is mended, and in the templates of tests only, is what moto cannot
take: it wants a service role for a compute environment, where AWS has one of its own, and knows an older name of the
machines that AWS chooses; it knows no tags of parameters and keys; it does not delete route tables with their stack, so
that the network must stay, too; and the CDK's own Lambda, which empties the network's default security group, is left
out.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).parent.parent.parent
CDK = ROOT / "tests" / "npm" / "node_modules" / ".bin" / "cdk"
NODE = shutil.which("node")
ABSENT = "" if NODE and CDK.exists() else "needs Node.js; install it, then: cd tests/npm && npm ci"
"""Why nothing can be deployed here, if nothing can."""

REGION = "us-east-1"
IMAGE = f"{'0' * 12}.dkr.ecr.{REGION}.amazonaws.com/fanfold:tests"
"""A container image that is said to be in ECR: building one takes docker."""
FLAGS: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
"""What the CDK's command line adds to every app of this project."""


@contextlib.contextmanager
def deployed(tmp_path: Path, **context: str) -> Iterator[dict[str, Any]]:
    """A moto server with the deployment on it, its S3 and all: {"endpoint": URL, "deployment": JSON object}.

    `context` is what `cdk deploy -c NAME=VALUE` would be given. The environment is left as it is; `environment` says
    what clients need in theirs.
    """
    with moto() as endpoint:
        folder = synthesised(tmp_path / "cdk.out", {"image": IMAGE, **context})
        mend(folder)
        create_stacks(folder, endpoint)
        name = context.get("name", "fanfold")
        yield {"endpoint": endpoint, "deployment": deployment(endpoint, name)}


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """A moto server of its own; its address. The CDK's command line takes `localhost` only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = shutil.which("moto_server", path=sysconfig.get_path("scripts")) or "moto_server"
    process = subprocess.Popen(
        [server, "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _ready(f"http://localhost:{port}")
    finally:
        process.kill()
        process.wait(timeout=30)


def _ready(endpoint: str) -> str:
    """Wait for the server, and tell it to do without docker."""
    told = json.dumps({"batch": {"use_docker": False}, "lambda": {"use_docker": False}}).encode()
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/config", data=told, timeout=5).close()
            return endpoint
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"no server came up at {endpoint}")


def environment(endpoint: str) -> dict[str, str]:
    """The variables by which AWS's clients find the server, and nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(service: str, endpoint: str) -> Any:
    """boto3's client of a service of the server."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def deployment(endpoint: str, name: str = "fanfold") -> dict[str, Any]:
    """What the deployment says of itself in SSM."""
    parameter = client("ssm", endpoint).get_parameter(Name=f"/fanfold/{name}")
    content: dict[str, Any] = json.loads(parameter["Parameter"]["Value"])
    return content


# -- the CDK's command line -----------------------------------------------------------------------------------------


def cdk(*arguments: str, endpoint: str = "", folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run the CDK's command line in the project's root, as a person does; what it says is kept."""
    quiet = {"CI": "1", "CDK_DISABLE_CLI_TELEMETRY": "true", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # `python` in cdk.json is this one
    where = environment(endpoint) if endpoint else {}
    return subprocess.run(
        [str(CDK), "--no-notices", "--no-version-reporting", *arguments],
        cwd=folder,
        env=os.environ | quiet | where | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def options(context: Mapping[str, str]) -> list[str]:
    """`-c NAME=VALUE` for each."""
    return [part for name, value in context.items() for part in ("-c", f"{name}={value}")]


# -- without it: a process that synthesises, and CloudFormation's API -----------------------------------------------


def synthesised(folder: Path, context: dict[str, str]) -> Path:
    """Write the templates into a folder, as `cdk synth` does."""
    subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=ROOT,
        env=os.environ
        | {"CDK_OUTDIR": str(folder), "CDK_CONTEXT_JSON": json.dumps(FLAGS | context)}
        | {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"},
        check=True,
        timeout=300,
    )
    return folder


def mend(folder: Path) -> None:
    """Make of AWS's templates what moto takes; the top of this file says what that is."""
    for file in folder.glob("*.template.json"):
        template = json.loads(file.read_text())
        resources = template.get("Resources", {})
        for id, resource in list(resources.items()):
            if "VpcRestrictDefaultSG" in resource["Type"] + id:
                del resources[id]
            if resource["Type"] == "AWS::Batch::ComputeEnvironment":
                resource["Properties"]["ComputeResources"]["InstanceTypes"] = ["optimal"]
                resource["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["ServiceRoleForMoto", "Arn"]}
                resources["ServiceRoleForMoto"] = _role("batch.amazonaws.com")
            if resource["Type"] in ("AWS::SSM::Parameter", "AWS::KMS::Key"):
                resource["Properties"].pop("Tags", None)
            if resource["Type"] == "AWS::EC2::VPC":
                resource["DeletionPolicy"] = "Retain"
        file.write_text(json.dumps(template))


def _role(service: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": policy}}


def create_stacks(folder: Path, endpoint: str) -> None:
    """Create the stacks of synthesised templates, that of the storage first."""
    formation = client("cloudformation", endpoint)
    files = sorted(folder.glob("*.template.json"), reverse=True)  # NAME-Storage, NAME-Compute
    for file in files:
        name = file.name.removesuffix(".template.json")
        formation.create_stack(StackName=name, TemplateBody=_without_rules(file), Capabilities=["CAPABILITY_NAMED_IAM"])
        status = formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        assert status == "CREATE_COMPLETE", f"{name}: {status}"


def _without_rules(file: Path) -> str:
    """A template without what asks whether the account was bootstrapped."""
    template = json.loads(file.read_text())
    for section, name in (("Parameters", "BootstrapVersion"), ("Rules", "CheckBootstrapVersion")):
        template.get(section, {}).pop(name, None)
    return json.dumps({key: value for key, value in template.items() if value})
