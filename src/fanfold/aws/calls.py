"""Calls to DynamoDB: one client, one layer of retries, and an account of what the calls took.

The retries are all here, and boto3's are off. Its standard mode has a budget of retries that the threads of a client
share, so under a throttle that lasts it soon passes errors on at once; and it does not tell how often it was
throttled. Here a call that may yet succeed is made again until nothing has got anywhere for a while (`patience.py`).
"""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fanfold.aws import client
from fanfold.aws.client import FAILED, UNANSWERED, ClientError, code_of, said
from fanfold.aws.patience import Patience
from fanfold.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECTIONS = 32

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
            except FAILED as error:
                if not _may_pass(error) and code_of(error) not in again:
                    raise
                throttled = code_of(error) in _THROTTLES
                self.count("throttled", throttled)
                patience.pause(attempt, said(error), throttled)
                attempt += 1
            else:
                self._account(units, answer.get("ConsumedCapacity", ()))
                return answer

    def _account(self, units: str, consumed: Any) -> None:
        """Batch calls tell it by table, others at once."""
        for one in consumed if isinstance(consumed, list) else [consumed] if consumed else []:
            self.count(units, one["CapacityUnits"])


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code_of(error) in _THROTTLES | _PASSING
    return isinstance(error, UNANSWERED)


def _connect(table: str) -> "DynamoDBClient":
    made: DynamoDBClient = client.connect(
        "dynamodb",
        named(table),
        tries=1,
        parameter_validation=False,  # a quarter of a large put's CPU time; the items are made by our own code
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
    )
    return made


def named(table: str) -> str:
    """A table as errors call it."""
    return f"the DynamoDB table '{table}'"


@contextmanager
def errors_of(table: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors, with what to do about it."""
    with client.errors_of(named(table)):
        try:
            yield
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            raise UsageError(
                f"There is no DynamoDB table '{table}' in this region. Make it with: aws dynamodb create-table "
                f"--table-name {table} --billing-mode PAY_PER_REQUEST "
                "--attribute-definitions AttributeName=ImageId,AttributeType=S "
                "--key-schema AttributeName=ImageId,KeyType=HASH"
            ) from error
