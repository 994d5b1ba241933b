"""The deployment with the CDK's own command line on a server with AWS's APIs, and what it leaves behind."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator import ABSENT, IMAGE, cdk, client, deployed, deployment, mend, moto, options
from templates import Synthesise

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A bootstrapped account with the deployment: the server's address and the folder of the templates."""
    folder = tmp_path_factory.mktemp("deploy") / "cdk.out"
    with moto(MOTO_IAM_LOAD_MANAGED_POLICIES="true") as endpoint:  # the bootstrap's roles have some
        account = client("sts", endpoint).get_caller_identity()["Account"]
        told = options({"image": IMAGE, "name": "trial", "uploads": "images"})
        done(cdk("synth", "--quiet", "--output", str(folder), *told))
        mend(folder)
        done(cdk("bootstrap", f"aws://{account}/us-east-1", "--app", str(folder), endpoint=endpoint))
        how = ("--method=direct", "--require-approval", "never")
        done(cdk("deploy", "--all", *how, "--app", str(folder), endpoint=endpoint))
        yield endpoint, folder


def done(command: Any) -> None:
    """Check that a command succeeded; if not, show its output."""
    assert command.returncode == 0, command.stdout


def test_cdk_deploy_makes_what_the_deployment_says_it_consists_of(live: tuple[str, Path]) -> None:
    """Bucket, table, queue and job definitions exist under the names in SSM."""
    endpoint, _ = live
    said = deployment(endpoint, "trial")
    buckets = [bucket["Name"] for bucket in client("s3", endpoint).list_buckets()["Buckets"]]
    assert said["bucket"] in buckets
    assert said["database"] == f"s3://{said['bucket']}/db"
    table = client("dynamodb", endpoint).describe_table(TableName=said["mirror"].removeprefix("dynamodb://"))["Table"]
    assert table["KeySchema"] == [{"AttributeName": "ImageId", "KeyType": "HASH"}]
    batch = client("batch", endpoint)
    assert batch.describe_job_queues(jobQueues=[said["queue"]])["jobQueues"][0]["state"] == "ENABLED"
    for definition in (said["worker"], said["driver"]):
        found = batch.describe_job_definitions(jobDefinitionName=definition, status="ACTIVE")["jobDefinitions"]
        assert [one["containerProperties"]["image"] for one in found] == [IMAGE]
    submitted = batch.submit_job(jobName="trial", jobQueue=said["queue"], jobDefinition=said["worker"])
    assert submitted["jobId"]


def test_the_deployed_processes_know_the_deployment(live: tuple[str, Path]) -> None:
    """The Lambda's environment has exactly the text in SSM."""
    endpoint, _ = live
    parameter = client("ssm", endpoint).get_parameter(Name="/fanfold/trial")["Parameter"]["Value"]
    (function,) = client("lambda", endpoint).list_functions()["Functions"]
    assert function["Environment"]["Variables"] == {"FANFOLD_DEPLOYMENT": parameter}
    definitions = client("batch", endpoint).describe_job_definitions()["jobDefinitions"]
    told = [
        {one["name"]: one["value"] for one in definition["containerProperties"]["environment"]}
        for definition in definitions
    ]
    assert told == [{"FANFOLD_DEPLOYMENT": parameter, "AWS_REGION": "us-east-1"}] * 2


def test_cdk_destroy_leaves_the_data(live: tuple[str, Path]) -> None:
    """After `cdk destroy` the Lambda is gone, and bucket and table are there with their content."""
    endpoint, folder = live
    said = deployment(endpoint, "trial")
    s3, table = client("s3", endpoint), said["mirror"].removeprefix("dynamodb://")
    s3.put_object(Bucket=said["bucket"], Key="images/cat.jpg", Body=b"a cat")
    client("dynamodb", endpoint).put_item(TableName=table, Item={"ImageId": {"S": "images/cat.jpg"}})
    done(cdk("destroy", "--all", "--force", "--app", str(folder), endpoint=endpoint))
    assert client("lambda", endpoint).list_functions()["Functions"] == []
    assert s3.get_object(Bucket=said["bucket"], Key="images/cat.jpg")["Body"].read() == b"a cat"
    assert client("dynamodb", endpoint).scan(TableName=table)["Count"] == 1


def test_the_quick_way_of_tests_deploys_the_same(synthesise: Synthesise, tmp_path: Path) -> None:
    """Without the CDK's command line the stacks are the same; with only the Lance table there is no mirror."""
    folder = shutil.copytree(synthesise(table="lance", task_size="50").folder, tmp_path / "cdk.out")
    with deployed(folder) as there:
        assert (there["deployment"]["mirror"], there["deployment"]["task_size"]) == ("", 50)
        assert there["deployment"] == deployment(there["endpoint"])
        assert client("dynamodb", there["endpoint"]).list_tables()["TableNames"] == []
        client("s3", there["endpoint"]).head_bucket(Bucket=there["deployment"]["bucket"])
