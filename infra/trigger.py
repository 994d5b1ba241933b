"""The Lambda that starts runs, and its callers.

a person ──────────────────────────────────▶ Lambda ──▶ AWS Batch
AWS Batch: a job has failed ──▶ rule ──────▶   ▲
S3: an upload ──▶ rule ──▶ queue ──5 min───────┘          only with -c uploads=...
                   └─────────┴──▶ dead letters            what could not be delivered, or was given up; from all rules
"""

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from fanfold.aws.batch import CANCELLED
from infra.container import ContainerImage
from infra.permissions import Permission, acknowledge, logging, role

TIMEOUT = Duration.minutes(15)
KEPT = Duration.days(14)
"""The time that a message may wait, and a dead letter is kept: the longest that SQS has."""


class Trigger(Construct):
    """The Lambda, and the rule that invokes it for failed jobs."""

    def __init__(
        self,
        scope: Construct,
        *,
        image: ContainerImage,
        environment: dict[str, str],
        queue: str,
        permissions: list[Permission],
    ) -> None:
        super().__init__(scope, "Trigger")
        group = logs.LogGroup(self, "Log", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY)
        self.role = role(self, "Role", "lambda.amazonaws.com", [*logging(group), *permissions])
        self.function = lambda_.DockerImageFunction(
            self,
            "Function",
            description="fanfold: begins runs",
            code=lambda_.DockerImageCode.from_ecr(
                image.repository,
                tag_or_digest=image.tag,
                entrypoint=["python", "-m", "awslambdaric"],
                cmd=["fanfold.aws.trigger.handler"],
            ),
            role=self.role,
            log_group=group,
            environment=environment,
            timeout=TIMEOUT,
            memory_size=3008,  # MB: what a new account may have; CPU comes in proportion, here 1.7 cores
        )
        self.lost = sqs.Queue(self, "DeadLetters", retention_period=KEPT, enforce_ssl=True)
        acknowledge(self.lost, "AwsSolutions-SQS3", "It is the dead-letter queue itself; an alarm watches it.")
        self.failed_jobs = self._on_failed_jobs(queue)
        CfnOutput(
            Stack.of(self),
            "FunctionName",
            value=self.function.function_name,
            description="""aws lambda invoke --function-name ... --payload '{"Paths": ["images"]}'""",
        )

    def _on_failed_jobs(self, queue: str) -> events.Rule:
        """The rule skips arrays and their children, which may fail by the thousand; the job that waits for one counts.

        AWS Batch fails it with the array. A person who cancels a run knows of it, and needs no alarm. The reason that
        they gave may get lost on a job that waits for another one, but that it was terminated is kept beside it.
        """
        return events.Rule(
            self,
            "FailedJobs",
            description="fanfold: an AWS Batch job has failed for good",
            event_pattern=events.EventPattern(
                source=["aws.batch"],
                detail_type=["Batch Job State Change"],
                detail={
                    "status": ["FAILED"],
                    "jobQueue": [queue],
                    "statusReason": [{"anything-but": [CANCELLED]}, {"exists": False}],
                    "isTerminated": [False, {"exists": False}],
                    "arrayProperties": {"size": [{"exists": False}], "index": [{"exists": False}]},
                },
            ),
            targets=[targets.LambdaFunction(self.function, retry_attempts=2, dead_letter_queue=self.lost)],
        )
