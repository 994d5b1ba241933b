"""Clients of AWS's control services (AWS Batch, Systems Manager), and what goes wrong with them, said in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fanfold.errors import StorageError, UsageError
from fanfold.job import required_extra
from fanfold.storage import first_line

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
except ModuleNotFoundError as error:
    raise required_extra(error, "aws", ("boto3", "botocore"), "AWS Batch") from error

_CONFIG = Config(retries={"total_max_attempts": 8, "mode": "standard"}, connect_timeout=5, read_timeout=30)


def client(service: str) -> Any:
    """boto3's client of a service; endpoints (AWS_ENDPOINT_URL_BATCH), region and credentials as boto3 finds them.

    Raises UsageError when the region is not known.
    """
    with errors_of(service):
        # AWS_REGION is what AWS's other kits read, and Lance; boto3 knows only AWS_DEFAULT_REGION and its own files.
        return boto3.client(service, region_name=os.environ.get("AWS_REGION") or None, config=_CONFIG)  # type: ignore[call-overload]


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors."""
    try:
        yield
    except NoRegionError as error:
        raise UsageError(f"Which region is {what} in? Type: export AWS_REGION=us-east-1") from error
    except NoCredentialsError as error:
        raise UsageError(f"There are no credentials for {what}. Type: aws configure") from error
    except ClientError as error:
        said = error.response["Error"]
        raise StorageError(f"Cannot use {what}: {said.get('Code', '')}: {said.get('Message', '')}") from error
    except BotoCoreError as error:
        raise StorageError(f"Cannot use {what}: {first_line(error)}") from error
