"""What a deployment on AWS consists of, as its parts tell each other.

`infra/` writes one JSON object: into the environment of the Lambda and of every container, and into the SSM parameter
`/fanfold/NAME`, where a laptop finds it.
"""

import json
import os
from dataclasses import dataclass, fields
from typing import Any

from fanfold.aws.client import connect, errors_of
from fanfold.errors import UsageError

VARIABLE = "FANFOLD_DEPLOYMENT"


@dataclass(frozen=True)
class Deployment:
    """One deployment of `infra/`."""

    name: str
    bucket: str
    database: str
    """`s3://BUCKET/db`."""
    queue: str
    """AWS Batch's job queue, by name or ARN."""
    worker: str
    """The job definition of containers that perform tasks."""
    driver: str
    """The job definition of containers that plan and commit."""
    mirror: str = ""
    """The DynamoDB table that is kept in step with the table `images`, `dynamodb://NAME`, if there is one."""
    model: str = "efficientnet-lite0"
    """The model baked into the container image."""
    provider: str = "cpu"
    """What runs it: `cuda` on machines with a GPU."""
    task_size: int = 1000
    vcpus: float = 1
    """Of a worker's container; it has as many worker processes, or with a GPU one of as many cores."""
    memory: int = 2048
    """Of a worker's container, in MiB."""
    uploads: tuple[str, ...] = ()
    """Prefixes of the bucket to which an upload starts a run by itself."""

    def mirror_of(self, table: str) -> str:
        """The DynamoDB table that is kept in step with a Lance table; nothing if the deployment has none at all.

        The deployment comes with that of `images`. Runs make those of other tables.
        """
        return self.mirror if table == "images" or not self.mirror else f"{self.made}{table}"

    @property
    def made(self) -> str:
        """What the addresses of DynamoDB tables that runs make begin with: no deployment's name has a dot."""
        return f"dynamodb://{self.name}."

    @classmethod
    def load(cls, name: str = "") -> "Deployment":
        """The deployment called `name` in this account and region; by default the one this process belongs to, else
        the one called `fanfold`.

        Raises UsageError when there is none, StorageError when AWS cannot be asked, MissingExtra without boto3.
        """
        if (here := os.environ.get(VARIABLE)) and (found := cls._of(here)).name == (name or found.name):
            return found
        return cls._of(_parameter(f"/fanfold/{name or 'fanfold'}"))

    @classmethod
    def _of(cls, text: str) -> "Deployment":
        try:
            content: dict[str, Any] = json.loads(text)
            known = {field.name for field in fields(cls)}
            return cls(**{key: _tuple(value) for key, value in content.items() if key in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{text[:200]!r} describes no deployment: {error}") from error


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parameter(name: str) -> str:
    what = f"the SSM parameter {name}"
    ssm = connect("ssm", what)
    with errors_of(what):
        try:
            return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            raise UsageError(
                f"There is no deployment here: SSM has no parameter {name} in region {ssm.meta.region_name}. "
                "Deploy one with `cdk deploy --all` (see infra/README.md), or choose its region with AWS_REGION."
            ) from None
