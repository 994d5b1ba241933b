"""The Lambda that begins runs, and what calls it.

somebody ──────────────────────────────────▶ Lambda ──▶ AWS Batch
AWS Batch: a job has failed ──▶ rule ──────▶   ▲
S3: an upload ──▶ rule ──▶ queue ──5 min───────┘          only with -c uploads=...
                             └──▶ dead letters
"""

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.container import ContainerImage
from infra.permissions import Permission, logging, role

TIMEOUT = Duration.minutes(15)


class Trigger(Construct):
    """The Lambda, and the rule that tells it of failed jobs."""

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
            description="fanfold: begins runs over the bucket's pictures",
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
        self.failed_jobs = self._on_failed_jobs(queue)
        CfnOutput(
            Stack.of(self),
            "FunctionName",
            value=self.function.function_name,
            description="""aws lambda invoke --function-name ... --payload '{"Paths": ["images"]}'""",
        )

    def _on_failed_jobs(self, queue: str) -> events.Rule:
        """Of an array, whose children may fail by the thousand, the parent alone is told."""
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
                    "arrayProperties": {"index": [{"exists": False}]},
                },
            ),
            targets=[targets.LambdaFunction(self.function, retry_attempts=2)],
        )
