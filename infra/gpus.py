"""Which machines with an NVIDIA GPU each region has. AWS Batch refuses a list in which one family is absent.

`python -m infra.gpus` writes gpus.json, from the data of cfn-lint (a dependency of the tests), which follows AWS's.
"""

import json
from pathlib import Path

from fanfold.errors import UsageError

TABLE = Path(__file__).parent / "gpus.json"
_WANTED = ("g4dn", "g5", "g6")
"""One GPU on the smallest machine, and CUDA 13 knows it. No region has only others."""

FAMILIES: dict[str, list[str]] = json.loads(TABLE.read_text())
"""The families of each region that has any, the cheapest first."""


def check_region(region: str) -> None:
    """Raise UsageError if a region has none of them. An empty name stands for a region that is not known yet."""
    if region and region not in FAMILIES:
        raise UsageError(f"-c compute=gpu is not possible in {region}: {ABSENT}")


ABSENT = (
    f"the region has no machines of the families {', '.join(_WANTED)}. Deploy in another region (infra/gpus.json lists "
    "those that have some), or leave compute=gpu out."
)


def known_families() -> dict[str, list[str]]:
    """What cfn-lint knows today."""
    import cfnlint

    schemas = Path(str(cfnlint.__file__)).parent / "data" / "schemas" / "extensions"
    regions = json.loads((schemas / "aws_ec2_instance" / "instancetype_enum.json").read_text())
    found = {
        region: [family for family in _WANTED if any(one.startswith(f"{family}.") for one in types["enum"])]
        for region, types in sorted(regions.items())
        if isinstance(types, dict) and "enum" in types
    }
    return {region: families for region, families in found.items() if families}


if __name__ == "__main__":
    lines = [f"  {json.dumps(region)}: {json.dumps(families)}" for region, families in known_families().items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
