"""Machines, network and job definitions: a container's resources, retries and limits, and what remains at rest."""

from typing import Any

import pytest
from emulator import ABSENT, IMAGE
from templates import Stacks, Synthesise, all_of, properties, text

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
KINDS = {"spot": "SPOT", "ec2": "EC2", "fargate": "FARGATE", "gpu": "SPOT"}


def compute_of(stacks: Stacks) -> str:
    """The choice of compute in these templates."""
    return str(properties(stacks.compute, "AWS::Batch::JobQueue")["JobQueueName"]).removeprefix("fanfold-")


def machines(stacks: Stacks) -> dict[str, Any]:
    """The compute environment's resources."""
    environment = properties(stacks.compute, "AWS::Batch::ComputeEnvironment")
    assert (environment["Type"], environment["State"]) == ("MANAGED", "ENABLED")
    resources: dict[str, Any] = environment["ComputeResources"]
    return resources


def containers(stacks: Stacks) -> dict[str, dict[str, Any]]:
    """The job definitions by name."""
    return {
        one["Properties"]["JobDefinitionName"].removeprefix("fanfold-"): one["Properties"]
        for one in all_of(stacks.compute, "AWS::Batch::JobDefinition").values()
    }


def test_machines_are_of_the_kind_chosen_and_none_is_there_at_rest(stacks: Stacks) -> None:
    """The compute environment scales from zero to the limit."""
    compute, found = compute_of(stacks), machines(stacks)
    assert (found["Type"], found["MaxvCpus"]) == (KINDS[compute], 32)
    assert found.get("MinvCpus", 0) == 0
    assert "DesiredvCpus" not in found
    assert "Ec2KeyPair" not in found
    if compute == "fargate":
        assert set(found) == {"Type", "MaxvCpus", "Subnets", "SecurityGroupIds"}
    else:
        strategy = "BEST_FIT_PROGRESSIVE" if compute == "ec2" else "SPOT_PRICE_CAPACITY_OPTIMIZED"
        assert found["AllocationStrategy"] == strategy
        assert found["Ec2Configuration"] == [{"ImageType": f"ECS_AL2023{'_NVIDIA' if compute == 'gpu' else ''}"}]
        assert (found["InstanceTypes"] == ["default_x86_64"]) is (compute != "gpu")


def test_machines_answer_imds_version_2_to_themselves_alone_on_encrypted_disks(stacks: Stacks) -> None:
    """A request that a picture makes a decoder send has no token, and anything one hop further gets no answer."""
    if compute_of(stacks) == "fargate":
        assert all_of(stacks.compute, "AWS::EC2::LaunchTemplate") == {}
        return
    template = properties(stacks.compute, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    assert template["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    (disk,) = template["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"]) == (True, "gp3")
    assert disk["Ebs"]["VolumeSize"] >= 30
    assert "LaunchTemplateId" in machines(stacks)["LaunchTemplate"]


def test_the_network_lets_nothing_in_and_costs_nothing_at_rest(stacks: Stacks) -> None:
    """There are two zones, free endpoints, no NAT gateway and no reserved address; only TLS goes out."""
    template = stacks.compute
    assert len(all_of(template, "AWS::EC2::Subnet")) == len(machines(stacks)["Subnets"]) == 2
    for subnet in all_of(template, "AWS::EC2::Subnet").values():
        assert subnet["Properties"]["MapPublicIpOnLaunch"] is True
    endpoints = [one["Properties"] for one in all_of(template, "AWS::EC2::VPCEndpoint").values()]
    assert [endpoint["VpcEndpointType"] for endpoint in endpoints] == ["Gateway", "Gateway"]
    services = sorted(endpoint["ServiceName"]["Fn::Join"][1][-1] for endpoint in endpoints)
    assert services == [".dynamodb", ".s3"]
    for absent in ("NatGateway", "EIP", "SecurityGroupIngress"):
        assert all_of(template, f"AWS::EC2::{absent}") == {}
    group = properties(template, "AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group
    (out,) = group["SecurityGroupEgress"]
    assert (out["IpProtocol"], out["FromPort"], out["ToPort"], out["CidrIp"]) == ("tcp", 443, 443, "0.0.0.0/0")
    assert properties(template, "AWS::EC2::FlowLog")["TrafficType"] == "REJECT"
    assert len(all_of(template, "Custom::VpcRestrictDefaultSG")) == 1


def test_through_the_endpoints_nothing_is_written_but_to_what_is_ours(stacks: Stacks) -> None:
    """Writes go only to the bucket and to the account's tables; reads of other objects are left to roles and owners."""
    found = {}
    for endpoint in all_of(stacks.compute, "AWS::EC2::VPCEndpoint").values():
        for statement in endpoint["Properties"]["PolicyDocument"]["Statement"]:
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            found[statement["Action"]] = {text(one) for one in resources}
    bucket = "arn:<AWS::Partition>:s3:::<fanfold-Storage-Bucket>"
    assert found == {
        "s3:*": {bucket, f"{bucket}/*"},
        "s3:GetObject": {"*"},
        "dynamodb:*": {"arn:<AWS::Partition>:dynamodb:<AWS::Region>:<AWS::AccountId>:table/*"},
    }


def test_a_container_that_fails_is_tried_again_unless_that_is_no_use(stacks: Stacks) -> None:
    """A bad option and a missing container image are final; a lost host and anything else are retried, five times."""
    assert set(containers(stacks)) == {"worker", "driver"}
    for definition in containers(stacks).values():
        assert definition["RetryStrategy"] == {
            "Attempts": 5,
            "EvaluateOnExit": [
                {"Action": "EXIT", "OnExitCode": "2"},
                {"Action": "RETRY", "OnStatusReason": "Host EC2*"},
                {"Action": "RETRY", "OnExitCode": "*"},
            ],
        }
        assert 3600 <= definition["Timeout"]["AttemptDurationSeconds"] <= 48 * 3600


def test_a_container_is_nobody_and_can_write_nothing_but_tmp(stacks: Stacks) -> None:
    """Containers run as an unprivileged user; only on Fargate, which has no tmpfs, can they write to the root."""
    fargate = compute_of(stacks) == "fargate"
    for definition in containers(stacks).values():
        container = definition["ContainerProperties"]
        assert (container["User"], container["Privileged"]) == ("10001", False)
        assert container["ReadonlyRootFilesystem"] is not fargate
        assert container["LinuxParameters"]["InitProcessEnabled"] is True
        tmpfs = container["LinuxParameters"].get("Tmpfs", [])
        assert [mount["ContainerPath"] for mount in tmpfs] == ([] if fargate else ["/tmp"])
        assert (container["Image"], container["Command"]) == (IMAGE, ["--help"])


def test_a_container_gets_what_its_platform_wants(stacks: Stacks) -> None:
    """Fargate needs a public address, and only workers get a GPU; each has a log, a region and an execution role."""
    compute = compute_of(stacks)
    for name, definition in containers(stacks).items():
        container = definition["ContainerProperties"]
        assert definition["PlatformCapabilities"] == ["FARGATE" if compute == "fargate" else "EC2"]
        needs = {need["Type"]: need["Value"] for need in container["ResourceRequirements"]}
        assert needs.get("GPU") == ("1" if (compute, name) == ("gpu", "worker") else None)
        assert ("NetworkConfiguration" in container) == (compute == "fargate")
        assert "Fn::GetAtt" in container["ExecutionRoleArn"]
        assert container["LogConfiguration"]["Options"]["awslogs-stream-prefix"] == name
        assert {"Name": "AWS_REGION", "Value": {"Ref": "AWS::Region"}} in container["Environment"]


def test_each_choice_of_compute_has_a_queue_of_its_own(synthesise: Synthesise) -> None:
    """AWS Batch cannot turn a queue of EC2 into one of Fargate, so each choice has another name and queue."""
    ids = set()
    for compute in KINDS:
        template = synthesise(compute=compute).compute
        ids |= {*all_of(template, "AWS::Batch::JobQueue"), *all_of(template, "AWS::Batch::ComputeEnvironment")}
    assert len(ids) == 2 * len(KINDS)
