"""The deployment in every region with AWS Batch, checked with cfn-lint's data about the regions."""

import json
from pathlib import Path
from typing import Any

import pytest
from emulator import ABSENT
from templates import Stacks, Synthesise, all_of, properties

from fanfold.errors import UsageError

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
ALL = {"uploads": "images", "alarm_email": "me@my.org", "workflow": "true"}
CHOSEN_BY_AWS = {"default_x86_64": {"m6i", "c6i", "r6i", "c7i"}}
"""The families that AWS Batch chooses from: docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html"""


def with_batch() -> list[str]:
    """The regions with AWS Batch."""
    data, regions = known()
    described = {region: data / "providers" / f"{region}.json" for region in regions}
    resources = {region: json.loads(file.read_text()) for region, file in described.items() if file.exists()}
    return [region for region in resources if "AWS::Batch::ComputeEnvironment" in resources[region]]


def families() -> dict[str, set[str]]:
    """The machine families of each region that cfn-lint knows."""
    data, regions = known()
    types = json.loads((data / "extensions" / "aws_ec2_instance" / "instancetype_enum.json").read_text())
    return {region: {one.partition(".")[0] for one in types[region]["enum"]} for region in regions if region in types}


def known() -> tuple[Path, list[str]]:
    """The folder of cfn-lint's data, and the regions that it knows."""
    import cfnlint.helpers  # late: cfn-lint takes a second

    return Path(str(cfnlint.__file__)).parent / "data" / "schemas", cfnlint.helpers.REGIONS


def mistakes(template: dict[str, Any], *accepted: str, **options: list[str]) -> list[str]:
    """What cfn-lint finds wrong with a template."""
    from cfnlint.api import lint

    found = lint(json.dumps(template), **options)
    # W3005: the CDK writes a dependency out even if a reference implies it.
    return [str(match) for match in found if match.rule.id not in ("W3005", *accepted)]


def asked_for(stacks: Stacks, region: str) -> list[str]:
    """The instance types that the compute environment names in a region."""
    types: Any = properties(stacks.compute, "AWS::Batch::ComputeEnvironment")["ComputeResources"]["InstanceTypes"]
    if isinstance(types, dict):
        table, _, column = types["Fn::FindInMap"]
        types = stacks.compute["Mappings"][table].get(region, {}).get(column, [])
    return list(types)


def test_the_regions_are_all_there_and_so_are_the_youngest() -> None:
    """A shorter list would weaken the other tests of this file without notice."""
    assert len(with_batch()) >= 40
    assert {"ca-west-1", "mx-central-1", "ap-southeast-7", "ap-east-2", "cn-north-1", "us-gov-west-1"} <= {
        *with_batch()
    }


def test_cfn_lint_finds_nothing_wrong_in_any_region(synthesise: Synthesise) -> None:
    """Every resource type and property of every choice of compute is available in every region with AWS Batch."""
    together = synthesise(compute="gpu", **ALL).compute.copy()  # with rules and mappings
    for compute in ("spot", "ec2", "fargate"):
        resources = synthesise(compute=compute, **ALL).compute["Resources"]
        changed = {id: one for id, one in resources.items() if one != together["Resources"].get(id, one)}
        others = {f"{id}{compute}": one for id, one in changed.items()}
        together["Resources"] = resources | together["Resources"] | others
    assert len({*all_of(together, "AWS::Batch::ComputeEnvironment")}) == 4
    assert mistakes(synthesise(**ALL).storage, regions=with_batch()) == []
    assert mistakes(together, "E3019", regions=with_batch()) == []  # the names are those of one choice


def test_cfn_lint_finds_nothing_wrong_where_all_that_can_be_left_out_is(synthesise: Synthesise) -> None:
    """With an existing bucket and no DynamoDB table, each stack still has a resource, which CloudFormation requires."""
    stacks = synthesise(bucket="my-pictures", table="lance")
    for template in (stacks.storage, stacks.compute):
        assert template["Resources"]
        assert mistakes(template) == []


@pytest.mark.parametrize("compute", ["spot", "ec2"])
def test_each_region_has_the_machines_that_are_asked_for(synthesise: Synthesise, compute: str) -> None:
    """AWS Batch refuses a list with a family that the region lacks, so it makes the choice itself."""
    stacks = synthesise(compute=compute, **ALL)
    for region, there in families().items():
        for family in asked_for(stacks, region):
            assert CHOSEN_BY_AWS.get(family, {family}) & there, f"{family} in {region}"


def test_with_gpus_each_region_is_asked_for_what_it_has_or_refused(synthesise: Synthesise) -> None:
    """A region has all GPU families that are named for it; a region without any is refused at once."""
    stacks = synthesise(compute="gpu", **ALL)
    (rule,) = [one for id, one in stacks.compute["Rules"].items() if id.startswith("Machines")]
    ((taken, asked),) = [one["Assert"]["Fn::Contains"] for one in rule["Assertions"]]
    assert asked == {"Ref": "AWS::Region"}
    for region, there in families().items():
        assert set(asked_for(stacks, region)) <= there
        assert (region in taken) == bool(asked_for(stacks, region)) == bool(there & {"g4dn", "g5", "g6"})
    assert "ca-west-1" not in taken


def test_the_table_of_gpus_is_that_of_the_data() -> None:
    """If the table differs, because cfn-lint has newer data: python -m infra.gpus."""
    from infra.gpus import FAMILIES, known_families

    assert known_families() == FAMILIES


def test_a_region_without_gpus_is_refused_in_one_line_where_it_is_known(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CDK's command line passes the region, so GPUs are refused early; other compute is accepted there."""
    monkeypatch.setenv("CDK_DEFAULT_REGION", "ca-west-1")
    image = f"{'0' * 12}.dkr.ecr.ca-west-1.amazonaws.com/fanfold"
    with pytest.raises(
        UsageError, match="-c compute=gpu is not possible in ca-west-1: the region has no machines"
    ) as no:
        synthesise(image=image, compute="gpu")
    assert "\n" not in str(no.value)
    synthesise(image=image, compute="fargate")
