"""Calls to DynamoDB: one client, one layer of retries, and counters of what the calls consumed.

The retries are all here, and boto3's are off. Its standard mode has a budget of retries that the threads of a client
share, so during a long throttle it soon raises at once; and it does not report how often it was throttled. Here a call
that may still succeed is repeated until there has been no progress for a while (`backoff.py`).
"""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from more_itertools import always_iterable

from fanfold.aws.client import FAILED, UNANSWERED, ClientError, aws_errors, code_of, connect, text_of
from fanfold.aws.dynamodb.backoff import Patience, Unfinished
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
        self._client: DynamoDBClient = connect(
            *("dynamodb", named(table)),
            tries=1,
            parameter_validation=False,  # a quarter of a large put's CPU time; the items are made by our own code
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
        )
        self._lock = threading.Lock()

    def count(self, what: str, number: float) -> None:
        """Add to a counter."""
        with self._lock:
            self.spent[what] += number

    def __call__(
        self, operation: str, patience: Patience, again: Collection[str] = (), units: str = "", **request: Any
    ) -> Mapping[str, Any]:
        """Repeat a call until it succeeds; the units it consumed are added to the counter `units`.

        Raises ClientError if DynamoDB declines with a code that is not in `again`, and StorageError.
        """
        if units:
            request["ReturnConsumedCapacity"] = "TOTAL"
        answer: Mapping[str, Any] = patience.until_done(self._try, operation, again, request)
        # Calls on several items return a list, by table.
        for consumed in always_iterable(answer.get("ConsumedCapacity") or None, base_type=dict):
            self.count(units, consumed["CapacityUnits"])
        return answer

    def _try(self, operation: str, again: Collection[str], request: Mapping[str, Any]) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except FAILED as error:
            if not _may_pass(error) and code_of(error) not in again:
                raise
            throttled = code_of(error) in _THROTTLES
            self.count("throttled", throttled)
            raise Unfinished(text_of(error), throttled) from error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code_of(error) in _THROTTLES | _PASSING
    return isinstance(error, UNANSWERED)


def named(table: str) -> str:
    """A table's name in errors."""
    return f"the DynamoDB table '{table}'"


@contextmanager
def table_errors(table: str) -> Iterator[None]:
    """Turn what boto3 raises into fanfold's errors, with what to type."""
    with aws_errors(named(table)):
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
