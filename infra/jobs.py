"""Job definitions: the settings of a container on AWS Batch, and what happens when a container fails.

A job says what it is to do when it is submitted; the definition says where, as whom, and with what.
"""

from dataclasses import dataclass
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_batch as batch
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.settings import Settings

USER = "10001"
"""The user that the Dockerfile makes."""
_TMP_MIB = 256  # for the workers' output, and little else

_Definition = batch.CfnJobDefinition
_RULES = [
    _Definition.EvaluateOnExitProperty(action="EXIT", on_exit_code="2"),  # a bad option stays bad
    _Definition.EvaluateOnExitProperty(action="RETRY", on_status_reason="Host EC2*"),  # Spot took it, or it was lost
    _Definition.EvaluateOnExitProperty(action="RETRY", on_exit_code="*"),
]
"""The first that fits decides; if none does, AWS Batch tries again.

docs.aws.amazon.com/batch/latest/userguide/job_retries.html
"""


@dataclass(frozen=True)
class Needs:
    """What a container needs."""

    vcpus: int
    memory: int
    """MiB."""
    hours: int
    """Time limit of an attempt."""
    gpus: int = 0

    def resources(self) -> list[batch.CfnJobDefinition.ResourceRequirementProperty]:
        """The same in the form of AWS Batch."""
        amounts = {"VCPU": self.vcpus, "MEMORY": self.memory} | ({"GPU": self.gpus} if self.gpus else {})
        return [
            batch.CfnJobDefinition.ResourceRequirementProperty(type=kind, value=str(amount))
            for kind, amount in amounts.items()
        ]


@dataclass(frozen=True)
class Container:
    """What the containers of a deployment have in common."""

    settings: Settings
    uri: str
    execution_role: iam.Role
    log_group: str
    environment: dict[str, str]

    def define(self, scope: Construct, name: str, role: iam.Role, needs: Needs) -> batch.CfnJobDefinition:
        """The job definition called DEPLOYMENT-NAME."""
        return batch.CfnJobDefinition(
            scope,
            f"{name.capitalize()}Job",
            type="container",
            job_definition_name=f"{self.settings.name}-{name}",
            platform_capabilities=["FARGATE" if self._on_fargate else "EC2"],
            container_properties=self._properties(scope, name, role, needs),
            propagate_tags=True,
            retry_strategy=_Definition.RetryStrategyProperty(attempts=5, evaluate_on_exit=_RULES),
            timeout=_Definition.TimeoutProperty(attempt_duration_seconds=needs.hours * 3600),
        )

    @property
    def _on_fargate(self) -> bool:
        return self.settings.compute == "fargate"

    def _properties(
        self, scope: Construct, name: str, role: iam.Role, needs: Needs
    ) -> batch.CfnJobDefinition.ContainerPropertiesProperty:
        log = {
            "awslogs-group": self.log_group,
            "awslogs-region": Stack.of(scope).region,
            "awslogs-stream-prefix": name,
        }
        return _Definition.ContainerPropertiesProperty(
            image=self.uri,
            command=["--help"],
            job_role_arn=role.role_arn,
            execution_role_arn=self.execution_role.role_arn,
            resource_requirements=needs.resources(),
            environment=[
                _Definition.EnvironmentProperty(name=name, value=value) for name, value in self.environment.items()
            ],
            user=USER,
            privileged=False,
            log_configuration=_Definition.LogConfigurationProperty(log_driver="awslogs", options=log),
            **(_fargate() if self._on_fargate else _ec2()),
        )


# The init is process 1: it passes SIGTERM on, and reaps the processes that crashed workers leave.


def _ec2() -> dict[str, Any]:
    """Nothing in the container can be written but /tmp, which is memory."""
    tmp = _Definition.TmpfsProperty(
        container_path="/tmp", size=_TMP_MIB, mount_options=["rw", "noexec", "nosuid", "nodev"]
    )
    return {
        "readonly_root_filesystem": True,
        "linux_parameters": _Definition.LinuxParametersProperty(init_process_enabled=True, tmpfs=[tmp]),
    }


def _fargate() -> dict[str, Any]:
    """Fargate has no tmpfs, so the root stays writable; but each job has its own machine, used once."""
    return {
        "readonly_root_filesystem": False,
        "linux_parameters": _Definition.LinuxParametersProperty(init_process_enabled=True),
        "fargate_platform_configuration": _Definition.FargatePlatformConfigurationProperty(platform_version="LATEST"),
        "network_configuration": _Definition.NetworkConfigurationProperty(assign_public_ip="ENABLED"),
    }
