"""Clients of AWS's services, and their errors in one line, with what to type."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fanfold.errors import StorageError, UsageError
from fanfold.job import required_extra

try:
    import boto3
    from botocore import exceptions as faults
    from botocore.config import Config
    from botocore.exceptions import ClientError as ClientError  # for the modules beside this one, too
    from botocore.loaders import create_loader
    from botocore.parsers import ResponseParserError
    from botocore.session import get_session
except ModuleNotFoundError as error:
    raise required_extra(error, "aws", ("boto3", "botocore"), "AWS") from error

CONNECT_TIMEOUT = 5.0
"""Seconds."""
READ_TIMEOUT = 20.0
"""Seconds. These calls are answered within milliseconds, or not at all."""

_DESCRIPTIONS = create_loader()  # of AWS's APIs: a tenth of a second to parse, so once only
UNANSWERED = (faults.ConnectionError, faults.HTTPClientError, faults.ChecksumError, ResponseParserError)
"""Errors of calls that got no answer, or none that can be read."""
FAILED = (faults.BotoCoreError, ClientError, ResponseParserError)
"""Every error of a call."""
_NO_CREDENTIALS = (
    *(faults.NoCredentialsError, faults.PartialCredentialsError),
    *(faults.ProfileNotFound, faults.CredentialRetrievalError),
)
_NO_LOGIN = (faults.SSOError, faults.SSOTokenLoadError, faults.TokenRetrievalError)


def connect(service: str, what: str, tries: int = 8, endpoint: str | None = None, **config: Any) -> Any:
    """boto3's client of a service. It finds credentials itself, and an `endpoint` (AWS_ENDPOINT_URL_BATCH, ...).

    Raises UsageError, which names `what`, when the region or the profile is not known.
    """
    chosen = Config(
        retries={"total_max_attempts": tries, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        **config,
    )
    # A separate session: boto3's default one is not for several threads. The slow part is shared.
    session = get_session()
    session.register_component("data_loader", _DESCRIPTIONS)
    # AWS's other SDKs and Lance read AWS_REGION; boto3 reads only AWS_DEFAULT_REGION and its own files.
    region = os.environ.get("AWS_REGION") or None
    with aws_errors(what):
        try:
            made = boto3.session.Session(botocore_session=session, region_name=region)
            return made.client(service, config=chosen, endpoint_url=endpoint)  # type: ignore[call-overload]
        except ValueError as error:  # the endpoint or the region is not valid
            raise UsageError(
                f"Cannot reach {what}: {text_of(error)}. Check AWS_ENDPOINT_URL and AWS_REGION."
            ) from error


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors."""
    try:
        yield
    except faults.NoRegionError as error:
        raise UsageError(f"The region of {what} is not set. Type: export AWS_REGION=us-east-1") from error
    except _NO_CREDENTIALS as error:
        raise UsageError(f"No credentials for {what}: {text_of(error)}. Type: aws configure") from error
    except _NO_LOGIN as error:
        raise UsageError(f"No login for {what}: {text_of(error)}. Type: aws sso login") from error
    except FAILED as error:
        raise StorageError(f"Cannot use {what}: {text_of(error)}") from error


def code_of(error: Exception) -> str:
    """AWS's name for an error; empty if the error is not from AWS."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def message_of(error: Exception) -> str:
    """The message of an error, in one line."""
    text = error.response["Error"].get("Message", "") if isinstance(error, ClientError) else str(error)
    return " ".join(text.split())[:600] or code_of(error) or type(error).__name__


def text_of(error: Exception) -> str:
    """An error in one line, without boto3's count of its own retries."""
    return f"{code_of(error)}: {message_of(error)}" if isinstance(error, ClientError) else message_of(error)
