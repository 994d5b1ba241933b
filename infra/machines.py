"""The machines of AWS Batch, which exist only while a run needs them, and the queue in front of them.

    queue NAME-COMPUTE ──▶ compute environment ──▶ machines, 0 to max_vcpus

A queue cannot go over from EC2 to Fargate or back, and neither can a compute environment. So both are named after what
they are of, and another choice of `compute` makes new ones before the old ones go.
"""

from typing import Any

from aws_cdk import CfnMapping, CfnRule, CfnRuleAssertion, Fn, Stack, Token
from aws_cdk import aws_batch as batch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.gpus import ABSENT, FAMILIES
from infra.network import Network
from infra.settings import Settings

# AWS Batch chooses among the x86-64 families that the region has: no family is in every region, and AWS Batch refuses a
# list with an absent family. It has no such choice for machines with GPUs, hence infra/gpus.py.
_CHOSEN_BY_AWS = ["default_x86_64"]
# The reasons that AWS Batch gives for a job without a machine, and the seconds after which it cancels it: the least
# that it allows for a mistake that stays, the most where other accounts have the machines.
# docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_time_limit_actions.html
_GIVEN_UP_AFTER = {
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": 600,
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": 600,
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": 86_400,
}
_DISK_GIB = {"spot": 40, "ec2": 40, "gpu": 100}  # CUDA's libraries make the container image large


class Machines(Construct):
    """A queue, and machines for its jobs."""

    def __init__(self, scope: Construct, settings: Settings, network: Network, machine: iam.Role | None) -> None:
        super().__init__(scope, f"Machines-{settings.compute}")
        environment = batch.CfnComputeEnvironment(
            self,
            "Environment",
            type="MANAGED",
            state="ENABLED",
            # Without a service role AWS Batch takes its own, service-linked one; then changes are made in place, too.
            replace_compute_environment=False,
            compute_resources=batch.CfnComputeEnvironment.ComputeResourcesProperty(
                type={"spot": "SPOT", "gpu": "SPOT", "ec2": "EC2", "fargate": "FARGATE"}[settings.compute],
                maxv_cpus=settings.max_vcpus,
                subnets=network.subnet_ids,
                security_group_ids=[network.security_group.security_group_id],
                **(self._on_ec2(settings, machine) if machine else {}),
            ),
        )
        self.name = f"{settings.name}-{settings.compute}"
        self.queue = batch.CfnJobQueue(
            self,
            "Queue",
            job_queue_name=self.name,
            priority=1,
            state="ENABLED",
            compute_environment_order=[
                batch.CfnJobQueue.ComputeEnvironmentOrderProperty(order=1, compute_environment=environment.ref)
            ],
            job_state_time_limit_actions=[
                batch.CfnJobQueue.JobStateTimeLimitActionProperty(
                    action="CANCEL", state="RUNNABLE", reason=reason, max_time_seconds=seconds
                )
                for reason, seconds in _GIVEN_UP_AFTER.items()
            ],
        )

    def _on_ec2(self, settings: Settings, machine: iam.Role) -> dict[str, Any]:
        profile = iam.CfnInstanceProfile(self, "Profile", roles=[machine.role_name])
        template = self._launch_template(_DISK_GIB[settings.compute])
        gpu, spot = settings.compute == "gpu", settings.compute != "ec2"
        return {
            "minv_cpus": 0,
            "allocation_strategy": "SPOT_PRICE_CAPACITY_OPTIMIZED" if spot else "BEST_FIT_PROGRESSIVE",
            "instance_types": self._with_gpus() if gpu else _CHOSEN_BY_AWS,
            "instance_role": profile.attr_arn,
            "ec2_configuration": [
                batch.CfnComputeEnvironment.Ec2ConfigurationObjectProperty(
                    image_type="ECS_AL2023_NVIDIA" if gpu else "ECS_AL2023"
                )
            ],
            "launch_template": batch.CfnComputeEnvironment.LaunchTemplateSpecificationProperty(
                launch_template_id=template.launch_template_id, version=template.latest_version_number
            ),
            "update_to_latest_image_version": True,
            "tags": {"Name": f"fanfold {settings.name}"},
        }

    def _with_gpus(self) -> list[str]:
        """The families of the region in which the template is deployed; where there are none, it is refused."""
        region = Stack.of(self).region
        CfnRule(
            self,
            "HasGpus",
            assertions=[
                CfnRuleAssertion(
                    assert_=Fn.condition_contains([*FAMILIES], region), assert_description=f"With compute=gpu, {ABSENT}"
                )
            ],
        )
        table = CfnMapping(self, "Gpus", mapping={region: {"families": there} for region, there in FAMILIES.items()})
        return Token.as_list(table.find_in_map(region, "families"))

    def _launch_template(self, disk: int) -> ec2.LaunchTemplate:
        """IMDSv2 over one hop. Containers have roles of their own, from ECS's agent at 169.254.170.2.

        AWS Batch gives containers the machine's own network, so they are no hop further, and what keeps them from
        being the machine is that they do not ask: its role may do little, for that reason.
        """
        return ec2.LaunchTemplate(
            self,
            "LaunchTemplate",
            http_tokens=ec2.LaunchTemplateHttpTokens.REQUIRED,
            http_put_response_hop_limit=1,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(disk, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3),
                )
            ],
        )
