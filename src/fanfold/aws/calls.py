"""Calls to DynamoDB: one client, one layer of retries, and an account of what the calls took.

The retries are all here, and boto3's are off. Its standard mode has a budget of retries that the threads of a client
share, so under a throttle that lasts it soon passes errors on at once; and it does not tell how often it was
throttled. Here a call that may yet succeed is made again until nothing has got anywhere for a while (`patience.py`).
"""

import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fanfold.aws.patience import Patience
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
    )
    from botocore.exceptions import ClientError as ClientError  # for the modules beside this one, too
    from botocore.loaders import create_loader
    from botocore.parsers import ResponseParserError
    from botocore.session import get_session
except ModuleNotFoundError as error:
    raise required_extra(error, "aws", ("boto3", "botocore"), "DynamoDB") from error

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECT_TIMEOUT = 5.0
"""Seconds."""
READ_TIMEOUT = 20.0
"""Seconds; DynamoDB answers within milliseconds or not at all."""
CONNECTIONS = 32

_DESCRIPTIONS = create_loader()  # of AWS's APIs: a tenth of a second to parse, so once only
_THROTTLES = frozenset({"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"})
_PASSING = frozenset({"LimitExceededException", "RequestTimeout", "RequestTimeoutException"})


class Calls:
    """One table's calls, by any number of threads."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.spent: dict[str, float] = {"written": 0, "write_units": 0, "read_units": 0, "throttled": 0}
        self._client = _connect(table)
        self._lock = threading.Lock()

    def count(self, what: str, number: float) -> None:
        """Add to the account."""
        with self._lock:
            self.spent[what] += number

    def __call__(
        self, operation: str, patience: Patience, again: Collection[str] = (), units: str = "", **request: Any
    ) -> Mapping[str, Any]:
        """Make a call until it succeeds; the units it consumed are added to `units` of the account.

        Raises ClientError if DynamoDB declines, other than by one of the codes `again`, and StorageError.
        """
        if units:
            request["ReturnConsumedCapacity"] = "TOTAL"
        attempt = 0
        while True:
            try:
                answer: Mapping[str, Any] = getattr(self._client, operation)(**request)
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                if not _may_pass(error) and code_of(error) not in again:
                    raise
                throttled = code_of(error) in _THROTTLES
                self.count("throttled", throttled)
                patience.pause(attempt, _said(error), throttled)
                attempt += 1
            else:
                self._account(units, answer.get("ConsumedCapacity", ()))
                return answer

    def _account(self, units: str, consumed: Any) -> None:
        """Batch calls tell it by table, others at once."""
        for one in consumed if isinstance(consumed, list) else [consumed] if consumed else []:
            self.count(units, one["CapacityUnits"])


def code_of(error: Exception) -> str:
    """DynamoDB's name for an error, or nothing if it is not DynamoDB's."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def message_of(error: ClientError) -> str:
    """What DynamoDB says of an error, in one line."""
    return " ".join(error.response["Error"].get("Message", "").split()) or code_of(error)


def _said(error: Exception) -> str:
    """An error in one line, without boto3's count of its own retries."""
    return f"{code_of(error)}: {message_of(error)}" if isinstance(error, ClientError) else first_line(error)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code_of(error) in _THROTTLES | _PASSING
    return isinstance(error, (ConnectionError, HTTPClientError, ChecksumError, ResponseParserError))


def _connect(table: str) -> "DynamoDBClient":
    """The client; boto3 itself reads AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_DYNAMODB and the credentials."""
    config = Config(
        parameter_validation=False,  # a quarter of a large put's CPU time; the items are made by our own code
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        tcp_keepalive=True,
    )
    # A session of its own: boto3's default one is not for several threads. What takes its time is shared.
    session = get_session()
    session.register_component("data_loader", _DESCRIPTIONS)
    # AWS_REGION is what AWS's other kits read, and Lance; boto3 knows only AWS_DEFAULT_REGION and its own files.
    region = os.environ.get("AWS_REGION") or None
    try:
        return boto3.session.Session(botocore_session=session, region_name=region).client("dynamodb", config=config)
    except ValueError as error:  # an endpoint or a region that is none
        raise UsageError(
            f"Cannot reach the DynamoDB table '{table}': {first_line(error)}. Check AWS_ENDPOINT_URL and AWS_REGION."
        ) from error


@contextmanager
def errors_of(table: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors, with what to do about it."""
    try:
        yield
    except ClientError as error:
        raise _declined(table, error) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise _unusable(table, error) from error


def _declined(table: str, error: ClientError) -> FanfoldError:
    if code_of(error) == "ResourceNotFoundException":
        return UsageError(
            f"There is no DynamoDB table '{table}' in this region. Make it with: aws dynamodb create-table "
            f"--table-name {table} --billing-mode PAY_PER_REQUEST "
            "--attribute-definitions AttributeName=ImageId,AttributeType=S "
            "--key-schema AttributeName=ImageId,KeyType=HASH"
        )
    return StorageError(f"Cannot use the DynamoDB table '{table}': {_said(error)}")


def _unusable(table: str, error: Exception) -> FanfoldError:
    if isinstance(error, NoRegionError):
        return UsageError(f"Which region is the DynamoDB table '{table}' in? Type: export AWS_REGION=us-east-1")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound, CredentialRetrievalError)):
        return UsageError(f"No credentials for the DynamoDB table '{table}': {first_line(error)}. Type: aws configure")
    return StorageError(f"Cannot use the DynamoDB table '{table}': {first_line(error)}")
