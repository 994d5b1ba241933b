"""What reaches a person and what does not: failed and waiting jobs, undelivered events, cancelled runs."""

import json
from typing import Any

import pytest
from emulator import ABSENT
from moto.events.models import EventPattern
from templates import Stacks, Synthesise, all_of, may, properties, text

from fanfold.aws.batch import CANCELLED

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
LIMIT = "Canceled by JobStateTimeLimit action due to reason: "


@pytest.fixture
def default(synthesise: Synthesise) -> Stacks:
    """A deployment with the default settings."""
    return synthesise(compute="spot")


@pytest.fixture(scope="module")
def full(synthesise: Synthesise) -> Stacks:
    """A deployment with uploads that start runs, a workflow, and an address for alarms."""
    return synthesise(uploads="images", alarm_email="me@my.org", workflow="true")


def rule(stacks: Stacks, named: str) -> dict[str, Any]:
    """The properties of the rule whose logical id begins like this."""
    return properties(stacks.compute, "AWS::Events::Rule", named)


def takes(stacks: Stacks, named: str, kind: str, **detail: Any) -> bool:
    """Whether a rule matches an event of AWS Batch about a job in the deployment's queue."""
    pattern = json.loads(json.dumps(rule(stacks, named)["EventPattern"]))
    pattern["detail"]["jobQueue"] = ["the-queue"]
    event = {"source": "aws.batch", "detail-type": kind, "detail": {"jobQueue": "the-queue", **detail}}
    return EventPattern(None, pattern).matches_event(event)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heard", "detail"),
    [
        (True, {"status": "FAILED", "statusReason": "Essential container in task exited"}),
        (True, {"status": "FAILED", "statusReason": "Dependent Job failed"}),
        (True, {"status": "FAILED", "statusReason": f"{LIMIT}CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"}),
        (True, {"status": "FAILED"}),
        (False, {"status": "FAILED", "statusReason": CANCELLED}),
        (False, {"status": "FAILED", "statusReason": "Dependent Job failed", "isTerminated": True}),
        (True, {"status": "FAILED", "statusReason": "Dependent Job failed", "isTerminated": False}),
        (False, {"status": "FAILED", "statusReason": "Array Child Job failed", "arrayProperties": {"size": 12}}),
        (False, {"status": "FAILED", "statusReason": "Host EC2", "arrayProperties": {"size": 12, "index": 3}}),
        (False, {"status": "SUCCEEDED"}),
        (False, {"status": "RUNNABLE", "statusReason": "UNDETERMINED"}),
    ],
)
def test_a_failed_job_is_told_of_once_and_a_cancelled_one_never(
    default: Stacks, heard: bool, detail: dict[str, Any]
) -> None:
    """Events of an array and its children are ignored: the job that depends on them fails with them, and counts."""
    assert takes(default, "TriggerFailedJobs", "Batch Job State Change", **detail) is heard


def test_the_lambda_hears_of_failed_jobs_of_this_queue(default: Stacks) -> None:
    """The rule calls the Lambda, and names the deployment's queue."""
    (queue,) = all_of(default.compute, "AWS::Batch::JobQueue")
    (function,) = [id for id in all_of(default.compute, "AWS::Lambda::Function") if id.startswith("Trigger")]
    found = rule(default, "TriggerFailedJobs")
    assert found["EventPattern"]["detail"]["jobQueue"] == [{"Ref": queue}]
    assert [target["Arn"] for target in found["Targets"]] == [{"Fn::GetAtt": [function, "Arn"]}]
    permission = properties(default.compute, "AWS::Lambda::Permission")
    assert permission["Principal"] == "events.amazonaws.com"


def test_every_alarm_reaches_a_person(full: Stacks) -> None:
    """Failed jobs are counted by their rule's invocations; the topic gets all alarms and mails them."""
    (counted,) = [id for id in all_of(full.compute, "AWS::Events::Rule") if id.startswith("TriggerFailedJobs")]
    alarm = properties(full.compute, "AWS::CloudWatch::Alarm", "WatchFailedJobs")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Events", "Invocations")
    assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": {"Ref": counted}}]
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "notBreaching")
    (topic,) = all_of(full.compute, "AWS::SNS::Topic")
    alarms = all_of(full.compute, "AWS::CloudWatch::Alarm").values()
    assert [one["Properties"]["AlarmActions"] for one in alarms] == [[{"Ref": topic}]] * 3
    statements = properties(full.compute, "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    allowed = [one["Principal"] for one in statements if one["Effect"] == "Allow"]
    assert allowed == [{"Service": "cloudwatch.amazonaws.com"}]
    subscription = properties(full.compute, "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "me@my.org")


def test_the_topic_is_encrypted_with_a_key_that_alarms_can_use(default: Stacks) -> None:
    """SNS's own key would silently keep CloudWatch out; ours admits it, for this account alone."""
    (key,) = all_of(default.compute, "AWS::KMS::Key")
    assert properties(default.compute, "AWS::SNS::Topic")["KmsMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
    found = properties(default.compute, "AWS::KMS::Key")
    assert found["EnableKeyRotation"] is True
    (alarms,) = [one for one in found["KeyPolicy"]["Statement"] if "Service" in one["Principal"]]
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert set(alarms["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert alarms["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_jobs_that_wait_in_vain_are_told_of_with_the_reason(default: Stacks) -> None:
    """The message has the job and AWS Batch's reason, and the sending role may do nothing else."""
    assert takes(default, "WatchWaiting", "Batch Job Queue Blocked", status="RUNNABLE")
    assert not takes(default, "WatchWaiting", "Batch Job State Change", status="FAILED")
    (target,) = rule(default, "WatchWaiting")["Targets"]
    (topic,) = all_of(default.compute, "AWS::SNS::Topic")
    assert target["Arn"] == {"Ref": topic}
    paths = target["InputTransformer"]["InputPathsMap"]
    assert set(paths.values()) == {"$.detail.jobName", "$.detail.statusReason"}
    assert all(f"<{name}>" in target["InputTransformer"]["InputTemplate"] for name in paths)
    assert "'Jobs that wait' in infra/README.md" in target["InputTransformer"]["InputTemplate"]
    (key,) = all_of(default.compute, "AWS::KMS::Key")
    allowed = may(default.compute, "WatchSender")
    assert allowed.pop("sns:Publish") == {f"<{topic}>"}
    assert allowed == {"kms:Decrypt": {f"<{key}.Arn>"}, "kms:GenerateDataKey": {f"<{key}.Arn>"}}


def test_a_job_that_no_machine_comes_for_is_cancelled_after_a_while(stacks: Stacks) -> None:
    """A misconfigured job is cancelled soon, and a job without capacity after a day, the maximum of AWS Batch."""
    limits = properties(stacks.compute, "AWS::Batch::JobQueue")["JobStateTimeLimitActions"]
    assert {(limit["Action"], limit["State"]) for limit in limits} == {("CANCEL", "RUNNABLE")}
    assert {limit["Reason"]: limit["MaxTimeSeconds"] for limit in limits} == {
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": 600,
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": 600,
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": 86400,
    }


def test_what_cannot_be_delivered_becomes_a_dead_letter_that_somebody_hears_of(full: Stacks) -> None:
    """Every rule's target has the same dead-letter queue; the rules may write to it, and an alarm watches it."""
    (lost,) = [id for id in all_of(full.compute, "AWS::SQS::Queue") if id.startswith("TriggerDeadLetters")]
    rules = all_of(full.compute, "AWS::Events::Rule")
    assert len(rules) == 3
    for one in rules.values():
        for target in one["Properties"]["Targets"]:
            assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [lost, "Arn"]}}
    statements = properties(full.compute, "AWS::SQS::QueuePolicy", "TriggerDeadLetters")["PolicyDocument"]["Statement"]
    writers = {text(one["Condition"]["ArnEquals"]["aws:SourceArn"]) for one in statements if one["Effect"] == "Allow"}
    assert writers == {f"<{id}.Arn>" for id in rules}
    alarm = properties(full.compute, "AWS::CloudWatch::Alarm", "WatchDeadLetters")
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [lost, "QueueName"]}}]
    assert properties(full.compute, "AWS::SQS::Queue", "TriggerDeadLetters")["MessageRetentionPeriod"] == 14 * 86400


OF_THE_ACCOUNT = {
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::S3::Bucket": "BucketName",
}
"""Names that must be unique in an account, or worldwide, across all regions."""


def test_two_regions_of_an_account_can_have_a_deployment_of_the_same_name(full: Stacks) -> None:
    """A name that is not per region contains the region, or is generated by CloudFormation."""
    given = [
        text(one["Properties"][OF_THE_ACCOUNT[type]])
        for template in (full.storage, full.compute)
        for type in OF_THE_ACCOUNT
        for one in all_of(template, type).values()
        if OF_THE_ACCOUNT[type] in one.get("Properties", {})
    ]
    assert given == ["fanfold-<AWS::Region>"]
    here, there = ({name.replace("<AWS::Region>", region) for name in given} for region in ("us-east-1", "eu-west-1"))
    assert here.isdisjoint(there)
