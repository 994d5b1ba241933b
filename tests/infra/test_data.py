"""The data that stays: the bucket, the DynamoDB table, and their settings."""

import pytest
from emulator import ABSENT
from templates import Stacks, Synthesise, all_of, may, properties, text

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture
def default(synthesise: Synthesise) -> Stacks:
    """A deployment with the default settings."""
    return synthesise(compute="spot")


@pytest.fixture(scope="module")
def other(synthesise: Synthesise) -> Stacks:
    """A deployment with a different value for each setting about data."""
    chosen = {"table": "lance", "bucket": "my-pictures", "uploads": "images,more/scans", "alarm_email": "me@my.org"}
    return synthesise(name="other", **chosen)


def test_the_bucket_is_private_encrypted_and_versioned(default: Stacks) -> None:
    """The bucket is private, encrypted and versioned, and answers only over TLS."""
    bucket = properties(default.storage, "AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "NotificationConfiguration" not in bucket
    statements = properties(default.storage, "AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in [one["Condition"] for one in statements]
    assert {one["Effect"] for one in statements} == {"Deny"}


def test_what_is_of_passing_use_goes_by_itself(default: Stacks) -> None:
    """Old versions go after two weeks and broken uploads after two days; nothing else expires, whatever its name."""
    rules = properties(default.storage, "AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    found = {rule["Id"]: rule for rule in rules}
    assert found["old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 14}
    assert found["broken-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    assert [rule["Id"] for rule in rules if "ExpirationInDays" in rule] == []


def test_the_table_is_keyed_by_image_id_billed_by_use_and_can_be_restored(default: Stacks) -> None:
    """The table cannot be deleted by mistake."""
    table = properties(default.storage, "AWS::DynamoDB::Table")
    assert table["KeySchema"] == [{"AttributeName": "ImageId", "KeyType": "HASH"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": "ImageId", "AttributeType": "S"}]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] is True


def test_data_stays_when_the_stack_goes_and_the_stack_says_so(default: Stacks) -> None:
    """Data also stays if a change would replace it, and the stack's output says how to remove it."""
    for type in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):
        (resource,) = all_of(default.storage, type).values()
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert "leaves the bucket with all versions" in default.storage["Outputs"]["Teardown"]["Value"]
    assert "infra/README.md" in default.storage["Outputs"]["Teardown"]["Value"]


def test_data_goes_with_the_stack_only_if_that_was_asked(synthesise: Synthesise) -> None:
    """With retain=false CloudFormation deletes the table, and the bucket if it is empty."""
    storage = synthesise(retain="false").storage
    for type in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):
        (resource,) = all_of(storage, type).values()
        assert resource["DeletionPolicy"] == "Delete"
    assert properties(storage, "AWS::DynamoDB::Table")["DeletionProtectionEnabled"] is False


def test_an_existing_bucket_is_left_as_it_is(other: Stacks) -> None:
    """The stack has no bucket, and no bucket policy, rule or notification."""
    assert all_of(other.storage, "AWS::S3::Bucket") == {}
    assert all_of(other.storage, "AWS::S3::BucketPolicy") == {}
    assert other.storage["Outputs"]["BucketName"]["Value"] == "my-pictures"
    assert may(other.compute, "Worker")["s3:PutObject"] == {"arn:<AWS::Partition>:s3:::my-pictures/db/*"}


def test_without_a_dynamodb_table_nobody_may_touch_one(other: Stacks) -> None:
    """With table=lance there is no table, no mirror and no permission for them."""
    assert all_of(other.storage, "AWS::DynamoDB::Table") == {}
    assert '"mirror":""' in text(properties(other.compute, "AWS::SSM::Parameter")["Value"])
    for role in ("Worker", "Driver", "TriggerRole"):
        assert not any(action.startswith("dynamodb:") for action in may(other.compute, role))


def test_uploads_begin_nothing_unless_asked(default: Stacks) -> None:
    """Without uploads the only queue is for dead letters, and the only rules are for failed and waiting jobs."""
    assert len(all_of(default.compute, "AWS::SQS::Queue")) == 1
    assert all_of(default.compute, "AWS::Lambda::EventSourceMapping") == {}
    assert len(all_of(default.compute, "AWS::Events::Rule")) == 2


def test_a_new_bucket_tells_of_uploads_if_asked(synthesise: Synthesise) -> None:
    """CloudFormation itself turns notifications on, without a Lambda of the CDK."""
    stacks = synthesise(uploads="images")
    bucket = properties(stacks.storage, "AWS::S3::Bucket")
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert all_of(stacks.storage, "AWS::Lambda::Function") == {}


def test_uploads_gather_in_a_queue_before_they_reach_the_lambda(other: Stacks) -> None:
    """Uploads are batched for five minutes, hidden while in progress, and kept as dead letters after many tries."""
    rule = properties(other.compute, "AWS::Events::Rule", "Uploads")
    assert rule["EventPattern"]["detail"] == {
        "bucket": {"name": ["my-pictures"]},
        "object": {"key": [{"prefix": "images/"}, {"prefix": "more/scans/"}]},
    }
    queue = properties(other.compute, "AWS::SQS::Queue", "UploadsQueue")
    assert queue["VisibilityTimeout"] >= 6 * properties(other.compute, "AWS::Lambda::Function", "Trigger")["Timeout"]
    assert "TriggerDeadLetters" in str(queue["RedrivePolicy"]["deadLetterTargetArn"])
    feed = properties(other.compute, "AWS::Lambda::EventSourceMapping")
    assert (feed["BatchSize"], feed["MaximumBatchingWindowInSeconds"]) == (10_000, 300)
    assert feed["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    allowed = may(other.compute, "TriggerRole")
    received = {action for action in allowed if action.startswith("sqs:")}
    assert received == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    assert allowed["batch:DescribeJobs"] == {"*"}


def test_a_dashboard_shows_runs_trouble_and_what_containers_said(default: Stacks, other: Stacks) -> None:
    """The dashboard also shows DynamoDB's usage, if there is a table."""
    shown = {name: text(properties(stacks.compute, "AWS::CloudWatch::Dashboard")["DashboardBody"])
             for name, stacks in (("default", default), ("other", other))}  # fmt: skip
    for body in shown.values():
        assert "Latest output of containers" in body
        assert '"failed jobs"' in body
    assert "ConsumedWriteCapacityUnits" in shown["default"]
    assert "ConsumedWriteCapacityUnits" not in shown["other"]


def test_another_model_changes_nothing_that_holds_data(synthesise: Synthesise) -> None:
    """Deploying another model, and the first one again, keeps the bucket and the DynamoDB table."""
    first, other = (synthesise(model=model) for model in ("efficientnet-lite0", "resnet18"))
    assert first.storage == other.storage
    described = [text(properties(stacks.compute, "AWS::SSM::Parameter")["Value"]) for stacks in (first, other)]
    assert described[1] == described[0].replace('"model":"efficientnet-lite0"', '"model":"resnet18"')
