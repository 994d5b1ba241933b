"""Clients of AWS's services, and what goes wrong with them, said in one line with what to type."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.job import required_extra
from fanfold.storage import first_line

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ChecksumError,
        ConnectionError,
        CredentialRetrievalError,
        HTTPClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
        SSOError,
        SSOTokenLoadError,
        TokenRetrievalError,
    )
    from botocore.exceptions import ClientError as ClientError  # for the modules beside this one, too
    from botocore.loaders import create_loader
    from botocore.parsers import ResponseParserError
    from botocore.session import get_session
except ModuleNotFoundError as error:
    raise required_extra(error, "aws", ("boto3", "botocore"), "AWS") from error

CONNECT_TIMEOUT = 5.0
"""Seconds."""
READ_TIMEOUT = 20.0
"""Seconds; what is asked here is answered within milliseconds or not at all."""

_DESCRIPTIONS = create_loader()  # of AWS's APIs: a tenth of a second to parse, so once only
UNANSWERED = (ConnectionError, HTTPClientError, ChecksumError, ResponseParserError)
"""Errors of calls that got no answer, or none that can be read."""
FAILED = (BotoCoreError, ClientError, ResponseParserError)
"""Every error of a call."""
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, CredentialRetrievalError)
_NO_LOGIN = (SSOError, SSOTokenLoadError, TokenRetrievalError)


def connect(service: str, what: str, tries: int = 8, endpoint: str | None = None, **config: Any) -> Any:
    """boto3's client of a service. It finds credentials itself, and an `endpoint` (AWS_ENDPOINT_URL_BATCH, ...).

    Raises UsageError, which names `what` is to be reached, when the region or the profile is not known.
    """
    chosen = Config(
        retries={"total_max_attempts": tries, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        **config,
    )
    # A session of its own: boto3's default one is not for several threads. What takes its time is shared.
    session = get_session()
    session.register_component("data_loader", _DESCRIPTIONS)
    # AWS_REGION is what AWS's other kits read, and Lance; boto3 knows only AWS_DEFAULT_REGION and its own files.
    region = os.environ.get("AWS_REGION") or None
    with errors_of(what):
        try:
            made = boto3.session.Session(botocore_session=session, region_name=region)
            return made.client(service, config=chosen, endpoint_url=endpoint)  # type: ignore[call-overload]
        except ValueError as error:  # an endpoint or a region that is none
            said = f"Cannot reach {what}: {first_line(error)}. Check AWS_ENDPOINT_URL and AWS_REGION."
            raise UsageError(said) from error


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors."""
    try:
        yield
    except FAILED as error:
        raise _unusable(what, error) from error


def _unusable(what: str, error: Exception) -> FanfoldError:
    if isinstance(error, NoRegionError):
        return UsageError(f"Which region is {what} in? Type: export AWS_REGION=us-east-1")
    if isinstance(error, _NO_CREDENTIALS):
        return UsageError(f"No credentials for {what}: {first_line(error)}. Type: aws configure")
    if isinstance(error, _NO_LOGIN):
        return UsageError(f"No login for {what}: {first_line(error)}. Type: aws sso login")
    return StorageError(f"Cannot use {what}: {said(error)}")


def code_of(error: Exception) -> str:
    """AWS's name for an error, or nothing if it is not AWS's."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def message_of(error: ClientError) -> str:
    """What AWS says of an error, in one line."""
    return " ".join(error.response["Error"].get("Message", "").split()) or code_of(error)


def said(error: Exception) -> str:
    """An error in one line, without boto3's count of its own retries."""
    return f"{code_of(error)}: {message_of(error)}" if isinstance(error, ClientError) else first_line(error)
