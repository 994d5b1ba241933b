"""The one container image, in which everything runs: workers, drivers, and the Lambda."""

import json
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as assets
from constructs import Construct

from infra.settings import IMAGE, Settings

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class ContainerImage:
    """Where the container image is."""

    repository: ecr.IRepository
    tag: str
    """Or its digest, sha256:..."""
    uri: str


def container_image(scope: Construct, settings: Settings) -> ContainerImage:
    """The container image that was given, or one that `cdk deploy` builds from the Dockerfile."""
    return _given(scope, settings.image) if settings.image else _built(scope, settings)


def _built(scope: Construct, settings: Settings) -> ContainerImage:
    asset = assets.DockerImageAsset(
        scope,
        "ContainerImage",
        directory=str(ROOT),
        file="infra/Dockerfile",
        platform=assets.Platform.LINUX_AMD64,  # the machines' platform, not the one of the machine that builds
        build_args={
            "JOB": settings.job,
            "OPTIONS": json.dumps(settings.job_options),
            "PROCESSOR": "gpu" if settings.compute == "gpu" else "cpu",
        },
    )
    return ContainerImage(asset.repository, asset.image_tag, asset.image_uri)


def _given(scope: Construct, uri: str) -> ContainerImage:
    found = IMAGE.fullmatch(uri)
    assert found is not None  # Settings has checked it
    partition = "aws-cn" if found["region"].startswith("cn-") else "aws"
    repository = ecr.Repository.from_repository_attributes(
        scope,
        "Repository",
        repository_name=found["name"],
        repository_arn=f"arn:{partition}:ecr:{found['region']}:{found['account']}:repository/{found['name']}",
    )
    return ContainerImage(repository, found["digest"] or found["tag"] or "latest", uri)
