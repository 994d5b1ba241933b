"""The settings of a deployment on AWS, and the job that it runs.

`infra/` writes one JSON object: into the environment of the Lambda and of every container, and into the SSM parameter
`/fanfold/NAME`, where a laptop finds it.

A deployment declares its job, and the options of its runs. A job may have these, which a deployment uses:

    choices()   the values that options may have in a container image that was built for these options
    gpus        the number of GPUs that a worker needs; without it, those of the container
    label()     a name for the table of these options, if other options fill the job's own table
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fanfold.aws.client import aws_errors, connect
from fanfold.errors import UsageError, problem_of
from fanfold.job import JOBS, Job, load

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
    """The job definition of containers that do tasks."""
    driver: str
    """The job definition of containers that plan and commit."""
    mirror: str = ""
    """The DynamoDB table that mirrors the job's own table, `dynamodb://NAME`, if there is one."""
    job: str = next(iter(JOBS))
    """A name in `JOBS`, or module:Class. The default is the only job of older deployments."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The job's options that the container image was built for."""
    gpus: int = 0
    """GPUs of a worker's container."""
    task_size: int = 1000
    vcpus: float = 1
    """Cores of a worker's container: one worker process per core, or with a GPU one worker for all cores."""
    memory: int = 2048
    """Memory of a worker's container, in MiB."""
    uploads: tuple[str, ...] = ()
    """Prefixes of the bucket where an upload starts a run."""

    def new_job(self, options: Mapping[str, Any] | None = None) -> Job:
        """The job of a run, with the run's own options. Raises UsageError, MissingExtra."""
        return load(self.job, {**self.options, **(options or {})})

    def mirror_of(self, table: str) -> str:
        """The DynamoDB table that mirrors a Lance table; empty if the deployment has no DynamoDB tables.

        The mirror of the job's own table is part of the deployment. Runs make those of other tables.
        """
        return self.mirror if not self.mirror or table == self.new_job().name else f"{self.made}{table}"

    @property
    def made(self) -> str:
        """The prefix of the addresses of DynamoDB tables that runs make. No deployment's name has a dot."""
        return f"dynamodb://{self.name}."

    @classmethod
    def load(cls, name: str = "") -> "Deployment":
        """The deployment called `name` in this account and region. By default the one that this process belongs to,
        else the one called `fanfold`.

        Raises UsageError when it does not exist, StorageError when AWS does not answer, MissingExtra without boto3.
        """
        if (here := os.environ.get(VARIABLE)) and (found := cls._of(here, VARIABLE)).name == (name or found.name):
            return found
        parameter = f"/fanfold/{name or 'fanfold'}"
        return cls._of(_value(parameter), f"The SSM parameter {parameter}")

    @classmethod
    def _of(cls, text: str, where: str) -> "Deployment":
        try:
            content = json.loads(text)
            if isinstance(content, dict) and "options" not in content:  # older: the options stood among the settings
                known = {field.name for field in fields(cls)}
                content["options"] = {name: value for name, value in content.items() if name not in known}
            return TypeAdapter(cls).validate_python(content)
        except (ValidationError, ValueError) as error:
            wrong = problem_of(error) if isinstance(error, ValidationError) else f"{text[:200]!r} is not JSON"
            raise UsageError(f"{where} does not describe a deployment: {wrong}. Type: cdk deploy --all") from error


def _value(parameter: str) -> str:
    what = f"the SSM parameter {parameter}"
    ssm = connect("ssm", what)
    with aws_errors(what):
        try:
            return str(ssm.get_parameter(Name=parameter)["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            raise UsageError(
                f"No deployment found: the SSM parameter {parameter} does not exist in {ssm.meta.region_name}. "
                "Deploy one with `cdk deploy --all` (see infra/README.md), or choose another region with AWS_REGION."
            ) from None
