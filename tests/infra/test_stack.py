"""Properties of the templates for every choice of compute: one deployment known to all parts, few permissions."""

import json
import re
import subprocess
from typing import Any

import pytest
from emulator import ABSENT, IMAGE, ROOT
from templates import Stacks, Synthesise, all_of, may, properties, text

from fanfold.aws.deployment import Deployment

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
BUCKET = "arn:<AWS::Partition>:s3:::<fanfold-Storage-Bucket>"
TABLES = "arn:<AWS::Partition>:dynamodb:<AWS::Region>:<AWS::AccountId>:table"
BATCH = "arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:"


def environments(stacks: Stacks) -> dict[str, dict[str, str]]:
    """The environment of each job definition by its name, and of the Lambda, with references as text."""
    found = {}
    for definition in all_of(stacks.compute, "AWS::Batch::JobDefinition").values():
        pairs = definition["Properties"]["ContainerProperties"]["Environment"]
        found[definition["Properties"]["JobDefinitionName"]] = {pair["Name"]: text(pair["Value"]) for pair in pairs}
    function = properties(stacks.compute, "AWS::Lambda::Function", "Trigger")
    found["Lambda"] = {name: text(value) for name, value in function["Environment"]["Variables"].items()}
    return found


def test_the_lambda_the_containers_and_ssm_know_the_same_deployment(stacks: Stacks) -> None:
    """The same JSON text is in all four places."""
    parameter = properties(stacks.compute, "AWS::SSM::Parameter")
    assert parameter["Name"] == "/fanfold/fanfold"
    known = {name: values["FANFOLD_DEPLOYMENT"] for name, values in environments(stacks).items()}
    assert set(known) == {"fanfold-worker", "fanfold-driver", "Lambda"}
    assert set(known.values()) == {text(parameter["Value"])}


def test_fanfold_reads_the_deployment_as_it_was_deployed(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    """fanfold finds bucket, queue, job definitions and table by the names in the templates."""
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", environments(stacks)["Lambda"]["FANFOLD_DEPLOYMENT"])
    there = Deployment.load()
    assert (there.name, there.bucket) == ("fanfold", "<fanfold-Storage-Bucket>")
    assert (there.database, there.mirror) == (f"s3://{there.bucket}/db", "dynamodb://<fanfold-Storage-Table>")
    assert there.queue == properties(stacks.compute, "AWS::Batch::JobQueue")["JobQueueName"]
    definitions = {
        one["Properties"]["JobDefinitionName"]: one["Properties"]["ContainerProperties"]["ResourceRequirements"]
        for one in all_of(stacks.compute, "AWS::Batch::JobDefinition").values()
    }
    assert set(definitions) == {there.worker, there.driver}
    needs = {need["Type"]: need["Value"] for need in definitions[there.worker]}
    assert (float(needs["VCPU"]), int(needs["MEMORY"])) == (there.vcpus, there.memory)
    gpus = int(needs.get("GPU", 0))
    assert there.job == "images"
    assert there.options == {"model": "efficientnet-lite0", "provider": "cuda" if gpus else "cpu"}
    assert (there.gpus, there.task_size, there.uploads) == (gpus, 1000, ())


def test_what_other_stacks_use_is_exported_and_nothing_comes_back(stacks: Stacks) -> None:
    """Compute imports two names from Storage and Storage imports none, so they can be destroyed one after the other."""
    exports = {one["Export"]["Name"] for one in stacks.storage["Outputs"].values() if "Export" in one}
    imports = set(re.findall(r'"Fn::ImportValue": "([^"]+)"', json.dumps(stacks.compute)))
    assert imports == exports == {"fanfold-Storage-Bucket", "fanfold-Storage-Table"}
    assert "Fn::ImportValue" not in json.dumps(stacks.storage)


def test_the_lambda_runs_the_container_image_for_as_long_as_a_lambda_may(stacks: Stacks) -> None:
    """The Lambda runs the workers' container image with Lambda's own entry point."""
    function = properties(stacks.compute, "AWS::Lambda::Function", "Trigger")
    assert function["PackageType"] == "Image"
    assert text(function["Code"]["ImageUri"]).endswith("/fanfold:tests")
    assert function["ImageConfig"] == {
        "EntryPoint": ["python", "-m", "awslambdaric"],
        "Command": ["fanfold.aws.trigger.handler"],
    }
    assert (function["Timeout"], function["MemorySize"]) == (900, 3008)


def test_the_worker_reads_the_bucket_and_writes_the_database_and_that_is_all(stacks: Stacks) -> None:
    """The worker deletes nothing, submits nothing and has no access to DynamoDB."""
    assert may(stacks.compute, "Worker") == {
        "s3:ListBucket": {BUCKET},
        "s3:GetObject": {f"{BUCKET}/*"},
        "s3:PutObject": {f"{BUCKET}/db/*"},
        "s3:AbortMultipartUpload": {f"{BUCKET}/db/*"},
    }


def test_the_driver_may_also_delete_in_the_database_write_the_table_and_submit(stacks: Stacks) -> None:
    """The driver may use its table, tables named NAME.*, which belong to no other deployment, and one queue."""
    added = may(stacks.compute, "Driver")
    for action, resources in may(stacks.compute, "Worker").items():
        assert added.pop(action) == resources
    assert added.pop("s3:DeleteObject") == {f"{BUCKET}/db/*"}
    assert _submitting(added)
    made = f"{TABLES}/fanfold.*"
    on_items = {f"dynamodb:{action}": {f"{TABLES}/<fanfold-Storage-Table>", made} for action in _ON_ITEMS}
    assert added == on_items | {f"dynamodb:{action}": {made} for action in ("CreateTable", "UpdateContinuousBackups")}


def test_the_lambda_may_what_a_driver_may_but_delete_objects(stacks: Stacks) -> None:
    """The Lambda may also write its own log."""
    driver, trigger = may(stacks.compute, "Driver"), may(stacks.compute, "TriggerRole")
    del driver["s3:DeleteObject"]
    log = {trigger.pop("logs:CreateLogStream").pop(), trigger.pop("logs:PutLogEvents").pop()}
    assert len(log) == 1
    assert log.pop().startswith("<TriggerLog")
    assert trigger == driver


_ON_ITEMS = ("DescribeTable", "GetItem", "BatchGetItem", "Scan", "PutItem", "BatchWriteItem", "DeleteItem")


def _submitting(allowed: dict[str, set[str]]) -> bool:
    """Remove the permissions to submit jobs, and check that they are for this deployment's."""
    queues = {one for one in allowed["batch:SubmitJob"] if one.startswith("<Machines")}
    definitions = allowed.pop("batch:SubmitJob") - queues
    assert len(queues) == 1
    revisions = ("", ":*")
    names = [f"fanfold-{name}{revision}" for name in ("worker", "driver") for revision in revisions]
    assert definitions == {f"{BATCH}job-definition/{name}" for name in names}
    return allowed.pop("batch:TagResource") == {f"{BATCH}job/*"}


def test_containers_and_machines_pull_one_container_image_and_write_one_log(stacks: Stacks) -> None:
    """ECS does this for a container, and so do the machines, where there are any."""
    roles = ["Execution"] if "fargate" in _queue(stacks) else ["Execution", "Machine"]
    for role in roles:
        allowed = may(stacks.compute, role)
        assert {one.rpartition("/")[2] for one in allowed["ecr:BatchGetImage"]} == {"fanfold"}
        assert allowed["ecr:GetAuthorizationToken"] == {"*"}
        assert all(one.startswith("<ContainerLog") for one in allowed["logs:PutLogEvents"])
        others = {action for action in allowed if not action.startswith(("ecr:", "logs:", "ecs:"))}
        assert others == set()
    assert set(roles) == {id for id in ("Execution", "Machine") if _has_role(stacks, id)}


def _queue(stacks: Stacks) -> str:
    return str(properties(stacks.compute, "AWS::Batch::JobQueue")["JobQueueName"])


def _has_role(stacks: Stacks, name: str) -> bool:
    return any(re.fullmatch(rf"{name}[0-9A-F]{{8}}", id) for id in all_of(stacks.compute, "AWS::IAM::Role"))


def test_no_role_has_a_managed_policy_and_no_policy_a_wide_action(stacks: Stacks) -> None:
    """Every permission is written out here; the only two actions on everything support no resource."""
    for template in (stacks.storage, stacks.compute):
        roles = all_of(template, "AWS::IAM::Role").items()
        managed = [id for id, role in roles if "ManagedPolicyArns" in role["Properties"]]
        assert all(id.startswith("CustomVpcRestrictDefaultSG") for id in managed)  # the CDK's own, as the CDK has it
        for policy in all_of(template, "AWS::IAM::Policy").values():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                assert not any("*" in action for action in actions)
                if statement["Resource"] == "*":
                    assert set(actions) <= {"ecr:GetAuthorizationToken", "ecs:DiscoverPollEndpoint"}


def test_every_log_is_kept_for_a_while_only(stacks: Stacks) -> None:
    """Logs expire, and are deleted with the stack."""
    groups = all_of(stacks.compute, "AWS::Logs::LogGroup").values()
    assert sorted(group["Properties"]["RetentionInDays"] for group in groups) == [14, 30, 30]
    assert {group["DeletionPolicy"] for group in groups} == {"Delete"}


def test_no_template_and_no_file_names_an_account_or_a_key(synthesise: Synthesise) -> None:
    """Twelve digits may be an account's number, unless a GUID or a serial number has them; AKIA starts a key."""
    built = synthesise(image="", compute="gpu", model="resnet18")
    texts = [json.dumps(built.storage), json.dumps(built.compute)]
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in names.split("\0") if name]
    texts += [file.read_text() for file in files if file.suffix not in (".lock", ".png", ".xz") and file.is_file()]
    assert len(texts) > 150
    for content in texts:
        assert not re.search(r"(?<![0-9A-Fa-f-])\d{12}(?![0-9A-Fa-f])", content)
        assert not re.search(r"A(KIA|SIA)[0-9A-Z]{16}", content)


def test_cdk_nag_would_have_complained(tmp_path: Any) -> None:
    """The rules that the templates pass refuse an unprotected bucket, so passing them means something."""
    from aws_cdk import App, aws_s3
    from infra.app import build

    app = App(outdir=str(tmp_path), context={"image": IMAGE})
    storage, _ = build(app)
    aws_s3.Bucket(storage, "Open")
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"][0]
    named = {where["constructPath"] for one in report["violations"] for where in one["violatingConstructs"]}
    assert named == {"fanfold-Storage/Open/Resource"}
