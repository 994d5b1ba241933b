"""A test tool: the deployment on a server with AWS's APIs (moto), with or without the CDK's own command line.

    infra.app ──synth──▶ templates ──changed for moto──▶ cdk deploy, or CloudFormation directly ──▶ moto

moto runs no jobs and no Lambda, and drops some settings (public access blocks, point-in-time recovery): the tests of
the templates cover those. The templates are changed, for tests only, where moto cannot accept them:

- A compute environment needs a service role, where AWS has its own, and an older name of the machines that AWS chooses.
- Parameters and keys have no tags.
- The network must stay, because moto does not delete route tables with their stack.
- The CDK's own Lambda, which empties the network's default security group, is left out.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).parent.parent / "aws"))

import dynamo_servers

ROOT = Path(__file__).parent.parent.parent
CDK = ROOT / "tests" / "npm" / "node_modules" / ".bin" / "cdk"
NODE = shutil.which("node")
ABSENT = "" if NODE and CDK.exists() else "needs Node.js; install it, then: cd tests/npm && npm ci"
"""The reason why nothing can be deployed here, or an empty string."""

REGION = "us-east-1"
IMAGE = f"{'0' * 12}.dkr.ecr.{REGION}.amazonaws.com/fanfold:tests"
"""A container image that is assumed to be in ECR, since building one needs docker."""
FLAGS: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
"""The context that the CDK's command line adds to every app of this project."""


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[dict[str, Any]]:
    """A moto server with the whole deployment, S3 included: {"endpoint": URL, "deployment": JSON object}.

    `folder` has the templates of a deployment named fanfold, and they are changed there. The environment does not
    change; `environment` returns what clients need in theirs.
    """
    with moto() as endpoint:
        mend(folder)
        create_stacks(folder, endpoint)
        yield {"endpoint": endpoint, "deployment": deployment(endpoint)}


@contextlib.contextmanager
def moto(**variables: str) -> Iterator[str]:
    """A separate moto server without docker; its address. The CDK's command line accepts only `localhost`."""
    with dynamo_servers.moto(**variables) as address:
        endpoint = address.replace("127.0.0.1", "localhost")
        settings = json.dumps({"batch": {"use_docker": False}, "lambda": {"use_docker": False}}).encode()
        urllib.request.urlopen(f"{endpoint}/moto-api/config", data=settings, timeout=60).close()
        yield endpoint


def environment(endpoint: str) -> dict[str, str]:
    """The variables that point AWS clients at the server, and at nothing else."""
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
    """A boto3 client for a service of the server."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def deployment(endpoint: str, name: str = "fanfold") -> dict[str, Any]:
    """The deployment's settings in SSM."""
    parameter = client("ssm", endpoint).get_parameter(Name=f"/fanfold/{name}")
    content: dict[str, Any] = json.loads(parameter["Parameter"]["Value"])
    return content


# -- the CDK's command line -----------------------------------------------------------------------------------------


def cdk(*arguments: str, endpoint: str = "", folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run the CDK's command line in the project's root, as a user does, and capture its output."""
    quiet = {"CI": "1", "CDK_DISABLE_CLI_TELEMETRY": "true", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # makes `python` in cdk.json this one
    where = environment(endpoint) if endpoint else {}
    return subprocess.run(
        [str(CDK), "--no-notices", "--no-version-reporting", *arguments],
        cwd=folder,
        env=os.environ | quiet | where | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


def options(context: Mapping[str, str]) -> list[str]:
    """`-c NAME=VALUE` for each value."""
    return [part for name, value in context.items() for part in ("-c", f"{name}={value}")]


# -- without it: a process that synthesises, and CloudFormation's API -----------------------------------------------


def synthesised(folder: Path, context: dict[str, str]) -> Path:
    """Write the templates into a folder, as `cdk synth` does, but without its checks, which take most of the time."""
    subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=ROOT,
        env=os.environ
        | {"CDK_OUTDIR": str(folder), "CDK_CONTEXT_JSON": json.dumps(FLAGS | context)}
        | {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20", "CDK_VALIDATION": "false"},
        check=True,
        timeout=900,
    )
    return folder


def mend(folder: Path) -> None:
    """Change the templates so that moto accepts them; the top of this file says how."""
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
    """Create the stacks of synthesised templates, storage first."""
    formation = client("cloudformation", endpoint)
    files = sorted(folder.glob("*.template.json"), reverse=True)  # NAME-Storage, then NAME-Compute
    for file in files:
        name = file.name.removesuffix(".template.json")
        formation.create_stack(StackName=name, TemplateBody=_without_rules(file), Capabilities=["CAPABILITY_NAMED_IAM"])
        status = formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        assert status == "CREATE_COMPLETE", f"{name}: {status}"


def _without_rules(file: Path) -> str:
    """A template without the check for a bootstrapped account."""
    template = json.loads(file.read_text())
    for section, name in (("Parameters", "BootstrapVersion"), ("Rules", "CheckBootstrapVersion")):
        template.get(section, {}).pop(name, None)
    return json.dumps({key: value for key, value in template.items() if value})
