"""The stack of everything that runs. Each process reads the settings from one JSON object, which a laptop finds in SSM.

                     ┌─ FANFOLD_DEPLOYMENT of the Lambda
    the deployment ──┼─ FANFOLD_DEPLOYMENT of every container       the same text in all of them
                     └─ SSM parameter /fanfold/NAME

It names the queue and the job definitions, so that a definition can hold its own name without a cycle.
"""

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra import permissions as may
from infra.container import ContainerImage, container_image
from infra.jobs import Container, Needs
from infra.machines import Machines
from infra.network import Network
from infra.settings import Settings
from infra.storage import DATABASE, Storage
from infra.trigger import Trigger
from infra.uploads import Uploads
from infra.watch import Watch
from infra.workflow import Workflow

_DRIVER_HOURS = 24
_WORKER_HOURS = 48  # for jobs submitted by hand; a run sets the limit of its own workers


class Compute(Stack):
    """Network, machines, job definitions, trigger, alarms."""

    def __init__(self, scope: Construct, settings: Settings, storage: Storage) -> None:
        super().__init__(scope, f"{settings.name}-Compute", description="fanfold: AWS Batch and the Lambda")
        self.add_stack_dependency(storage)
        self.settings = settings
        self.bucket = s3.Bucket.from_bucket_name(self, "Bucket", settings.bucket or storage.bucket)
        self.table = dynamodb.Table.from_table_name(self, "Vectors", storage.table) if storage.table else None
        self.image = container_image(self, settings)
        self.log = logs.LogGroup(
            self, "ContainerLog", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        self.machines = Machines(self, settings, Network(self, self.bucket), self._machine_role(self.image))
        self.deployment = self.to_json_string(self._described())
        ssm.StringParameter(
            self,
            "Parameter",
            parameter_name=f"/fanfold/{settings.name}",
            string_value=self.deployment,
            description="fanfold: the settings of the deployment",
        )
        self._define_jobs()
        self.trigger = Trigger(
            self,
            image=self.image,
            environment={"FANFOLD_DEPLOYMENT": self.deployment},
            queue=self.machines.queue.ref,
            permissions=[*may.reading(self.bucket), *may.writing(self.bucket), *self._driving(), *self._watching()],
        )
        if settings.uploads:
            Uploads(self, settings.uploads, self.bucket, self.trigger)
        if settings.workflow:
            Workflow(self, settings.name, self.trigger.function)
        Watch(self, settings, self.table, self.trigger, self.log, self.machines.queue.ref)

    def _described(self) -> dict[str, object]:
        """See `fanfold.aws.deployment.Deployment`."""
        settings, bucket = self.settings, self.bucket.bucket_name
        return {
            "name": settings.name,
            "bucket": bucket,
            "database": f"s3://{bucket}/{DATABASE}",
            "mirror": f"dynamodb://{self.table.table_name}" if self.table else "",
            "queue": self.machines.name,
            "worker": f"{settings.name}-worker",
            "driver": f"{settings.name}-driver",
            "job": settings.job,
            "options": settings.job_options,
            "gpus": self._gpus,
            "task_size": settings.task_size,
            "vcpus": settings.vcpus,
            "memory": settings.memory,
            "uploads": list(settings.uploads),
        }

    @property
    def _gpus(self) -> int:
        """GPUs of a worker's container."""
        return int(self.settings.compute == "gpu")

    def _define_jobs(self) -> None:
        bucket, settings = self.bucket, self.settings
        pulling, logging = may.pulling(self.image.repository), may.logging(self.log)
        container = Container(
            settings,
            uri=self.image.uri,
            execution_role=self._role("Execution", [*pulling, *logging]),
            log_group=self.log.log_group_name,
            # AWS sets the region for a Lambda, and for a container on Fargate, but not on EC2.
            environment={"FANFOLD_DEPLOYMENT": self.deployment, "AWS_REGION": self.region},
        )
        working = [*may.reading(bucket), *may.writing(bucket)]
        worker = self._role("Worker", working)
        driver = self._role("Driver", [*working, *may.deleting(bucket), *self._driving()])
        container.define(
            self,
            "worker",
            worker,
            Needs(settings.vcpus, settings.memory, gpus=self._gpus, hours=_WORKER_HOURS),
        )
        container.define(
            self, "driver", driver, Needs(1, 4096 if settings.compute == "fargate" else 3584, hours=_DRIVER_HOURS)
        )

    def _driving(self) -> list[may.Permission]:
        """Permissions to plan and commit, beside those to read and write the bucket."""
        name = self.settings.name
        submitting = may.submitting(self, self.machines.queue.ref, [f"{name}-worker", f"{name}-driver"])
        return [*may.mirroring(self, self.table, name), *submitting]

    def _watching(self) -> list[may.Permission]:
        """Permissions of the Lambda to report the state of a run."""
        return [may.watching()] if self.settings.uploads or self.settings.workflow else []

    def _role(self, id: str, permissions: list[may.Permission]) -> iam.Role:
        return may.role(self, id, "ecs-tasks.amazonaws.com", permissions)

    def _machine_role(self, image: ContainerImage) -> iam.Role | None:
        """The role of the machines themselves, which Fargate does not show."""
        if self.settings.compute == "fargate":
            return None
        permissions = [*may.joining(self), *may.pulling(image.repository), *may.logging(self.log)]
        return may.role(self, "Machine", "ec2.amazonaws.com", permissions)
