"""The permissions: one role for each part, with a policy written by hand.

              S3 bucket                 DynamoDB tables     AWS Batch       else
    worker    list, read, write db/
    driver    the same, delete in db/   read, write, make   submit
    Lambda    list, read, write db/     read, write, make   submit          its log; if uploads start runs, also its
                                                                            queue, and then or with a workflow how jobs
                                                                            stand
    workflow                                                                the Lambda, its log
    machine                                                                 its ECS cluster, ECR, the containers' log

A Lambda that plans a run also commits what a dead one has left, so it writes to the DynamoDB table as a driver does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.storage import DATABASE


@dataclass(frozen=True)
class Permission:
    """Some actions on some resources."""

    actions: Sequence[str]
    resources: Sequence[str]
    because: str = ""
    """Why a resource ends in `*`, if one does."""


def role(scope: Construct, id: str, service: str, permissions: Sequence[Permission]) -> iam.Role:
    """A role for a service, with only these permissions."""
    made = iam.Role(scope, id, assumed_by=iam.ServicePrincipal(service))
    for permission in permissions:
        grant(made, permission)
    return made


def grant(to: iam.Role, permission: Permission) -> None:
    """Add permissions to a role, with reasons for cdk-nag where a resource is wide."""
    to.add_to_policy(iam.PolicyStatement(actions=[*permission.actions], resources=[*permission.resources]))
    for resource in permission.resources if permission.because else ():
        acknowledge(to, f"AwsSolutions-IAM5[Resource::{_flat(Stack.of(to).resolve(resource))}]", permission.because)


def acknowledge(scope: Construct, rule: str, reason: str) -> None:
    """Record why a rule of cdk-nag does not apply here."""
    Validations.of(scope).acknowledge(Acknowledgment(id=rule, reason=reason))


def _flat(resource: Any) -> str:
    """An ARN as cdk-nag names it: `arn:<AWS::Partition>:s3:::...`; what another stack exports, by that name."""
    if isinstance(resource, str):
        return resource
    ((function, value),) = resource.items()
    if function == "Fn::Join":
        return str(value[0]).join(map(_flat, value[1]))
    return f"<{value}>" if function == "Ref" else _flat(value)


def reading(bucket: s3.IBucket) -> list[Permission]:
    """List a bucket and read its objects. Without the listing, S3 answers "forbidden" for a missing object."""
    because = "Pictures may lie under any prefix of the bucket that was deployed for them."
    return [
        Permission(["s3:ListBucket"], [bucket.bucket_arn]),
        Permission(["s3:GetObject"], [bucket.arn_for_objects("*")], because),
    ]


def writing(bucket: s3.IBucket) -> list[Permission]:
    """Write below db/, in parts if needed."""
    return [_below_db(["s3:PutObject", "s3:AbortMultipartUpload"], bucket)]


def deleting(bucket: s3.IBucket) -> list[Permission]:
    """Delete below db/, as `fanfold optimize` does; the bucket keeps deleted objects for a while."""
    return [_below_db(["s3:DeleteObject"], bucket)]


def _below_db(actions: Sequence[str], bucket: s3.IBucket) -> Permission:
    because = "The database names its files itself; pictures, which are beside it, stay out of reach."
    return Permission(actions, [bucket.arn_for_objects(f"{DATABASE}/*")], because)


def mirroring(stack: Stack, table: dynamodb.ITable | None, deployment: str) -> list[Permission]:
    """What `fanfold.aws.dynamodb.table` does to bring a table in sync; Scan reads one item, to see its owner.

    The deployment comes with the DynamoDB table of one Lance table. Runs make those of the others.
    """
    if not table:
        return []
    actions = ("DescribeTable", "GetItem", "BatchGetItem", "Scan", "PutItem", "BatchWriteItem", "DeleteItem")
    items = [f"dynamodb:{action}" for action in actions]
    making = ["dynamodb:CreateTable", "dynamodb:UpdateContinuousBackups"]
    made = stack.format_arn(service="dynamodb", resource="table", resource_name=f"{deployment}.*")
    because = "A run makes the table of a model that has none yet. No other deployment's tables begin with this name."
    return [Permission(items, [table.table_arn]), Permission([*items, *making], [made], because)]


def submitting(stack: Stack, queue: str, definitions: Sequence[str]) -> list[Permission]:
    """Submit jobs of these definitions to the queue, with tags.

    A definition that is submitted by name alone is checked with its revision, says the AWS Batch user guide
    ("Restrict to job definition prefix"), and also without one, according to aws-sdk-js issue 4280.
    So both are allowed.
    """
    known = [stack.format_arn(service="batch", resource="job-definition", resource_name=name) for name in definitions]
    revisions = [f"{one}:*" for one in known]
    jobs = stack.format_arn(service="batch", resource="job", resource_name="*")
    return [
        Permission(["batch:SubmitJob"], [queue, *known]),
        Permission(["batch:SubmitJob"], revisions, "Every deployment makes a new revision."),
        Permission(["batch:TagResource"], [jobs], "A job is tagged as it is submitted, when it has no id yet."),
    ]


def watching() -> Permission:
    """Read the states of jobs."""
    return Permission(["batch:DescribeJobs"], ["*"], "AWS Batch knows no resource for it.")


def pulling(repository: ecr.IRepository) -> list[Permission]:
    """Pull one container image."""
    layers = ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage")
    return [
        Permission(["ecr:GetAuthorizationToken"], ["*"], "ECR's token is for no repository in particular."),
        Permission([f"ecr:{action}" for action in layers], [repository.repository_arn]),
    ]


def logging(group: logs.ILogGroup) -> list[Permission]:
    """Write to one log group."""
    return [Permission(["logs:CreateLogStream", "logs:PutLogEvents"], [group.log_group_arn])]


def invoking(function_arn: str) -> Permission:
    """Call one Lambda, by its newest version, which has no number."""
    return Permission(["lambda:InvokeFunction"], [function_arn])


def delivering() -> Permission:
    """Have CloudWatch deliver logs, as a state machine does.

    docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
    """
    verbs = ("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries")
    policies = ("PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups")
    because = "CloudWatch Logs knows no resource for log deliveries."
    return Permission([f"logs:{action}" for action in verbs + policies], ["*"], because)


def receiving(queue_arn: str) -> Permission:
    """Receive messages from an SQS queue."""
    actions = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    return Permission([f"sqs:{action}" for action in actions], [queue_arn])


def publishing(topic_arn: str, key_arn: str) -> list[Permission]:
    """Publish to a topic that is encrypted with a key."""
    return [
        Permission(["sns:Publish"], [topic_arn]),
        Permission(["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
    ]


def joining(stack: Stack) -> list[Permission]:
    """What the agent of ECS does to make a machine part of a cluster.

    docs.aws.amazon.com/AmazonECS/latest/developerguide/instance_IAM_role.html
    """
    registering = ("RegisterContainerInstance", "DeregisterContainerInstance", "UpdateContainerInstancesState")
    telling = ("SubmitContainerStateChange", "SubmitTaskStateChange", "SubmitAttachmentStateChanges")
    listening = ("Poll", "StartTelemetrySession")
    members = [
        stack.format_arn(service="ecs", resource=resource, resource_name="*")
        for resource in ("cluster", "container-instance")
    ]
    because = "AWS Batch makes the ECS cluster, and names it."
    return [
        Permission(["ecs:DiscoverPollEndpoint"], ["*"], "It asks for an address, of no resource."),
        Permission([f"ecs:{action}" for action in registering + telling + listening], members, because),
    ]
