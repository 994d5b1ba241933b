"""DynamoDB's operations on items, each repeated until nothing is left.

    BatchGetItem      100 keys per call
    BatchWriteItem    25 items per call, put or removed without a condition
    PutItem, DeleteItem                with a condition on the item's Version

Limits: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

from more_itertools import constrained_batches

from fanfold.aws.client import ClientError, code_of, message_of
from fanfold.aws.dynamodb.backoff import Patience, Unfinished
from fanfold.aws.dynamodb.calls import Calls
from fanfold.aws.dynamodb.items import KEY, OWNER, Item, size_at_most

READ_AT_ONCE, WRITTEN_AT_ONCE = 100, 25
"""Items per call."""
# A call takes 16 MB of JSON, where a size grows threefold at most: a character counts 4 and may take 12.
_WRITTEN_BYTES = 5_000_000


class Operations:
    """Operations on the items of one table."""

    def __init__(self, calls: Calls, refused: dict[str, str], owned: bool) -> None:
        self.calls, self.refused = calls, refused
        self.owned = owned
        """Whether items name their table."""

    def fetch(self, keys: Sequence[str], wanted: Mapping[str, Any], patience: Patience) -> list[Item]:
        """The items of up to 100 keys, by consistent reads; `wanted` is the rest of the request."""
        found: list[Item] = []
        left: list[Any] = [{KEY: {"S": key}} for key in keys]

        def read() -> None:
            nonlocal left
            asked = {self.calls.table: {"Keys": left, "ConsistentRead": True, **wanted}}
            answer = self.calls("batch_get_item", patience, units="read_units", RequestItems=asked)
            found.extend(answer["Responses"].get(self.calls.table, []))
            before, left = left, answer.get("UnprocessedKeys", {}).get(self.calls.table, {}).get("Keys", [])
            # Some left over need not be a throttle: an answer has 16 MB at most.
            self._check_rest(before, left, patience, throttled=len(left) == len(before))

        patience.until_done(read)
        return found

    def add(self, items: Sequence[Item], patience: Patience) -> None:
        """Put up to 25 items over what is there. `refused` gets those that DynamoDB declines."""
        for some in constrained_batches(items, _WRITTEN_BYTES, get_len=size_at_most, strict=False):
            self._write([{"PutRequest": {"Item": item}} for item in some], patience)

    def remove(self, keys: Sequence[str], patience: Patience) -> None:
        """Remove up to 25 items, without a condition."""
        self._write([{"DeleteRequest": {"Key": {KEY: {"S": key}}}} for key in keys], patience)

    def _write(self, left: list[Any], patience: Patience) -> None:
        def write() -> None:
            nonlocal left
            asked = {self.calls.table: left}
            answer = self.calls("batch_write_item", patience, units="write_units", RequestItems=asked)
            before, left = left, answer.get("UnprocessedItems", {}).get(self.calls.table, [])
            self.calls.count("written", _puts(before) - _puts(left))
            self._check_rest(before, left, patience, throttled=True)

        try:
            patience.until_done(write)
        except ClientError as error:
            if code_of(error) != "ValidationException":
                raise
            if len(left) == 1:
                self.refused[left[0]["PutRequest"]["Item"][KEY]["S"]] = message_of(error)
                return
            for request in left:  # one by one: DynamoDB reports that an item is not valid, but not which one
                self._write([request], patience)

    def _check_rest(self, before: Sequence[Any], left: Sequence[Any], patience: Patience, throttled: bool) -> None:
        """Raise Unfinished if a call did not do everything."""
        if not left:
            return patience.progress()
        self.calls.count("throttled", throttled)
        why = f"DynamoDB did not do {len(left)} of {len(before)} items"
        raise Unfinished(why, throttled=True, progressed=len(left) < len(before))

    def replace(self, item: Item, version: str, patience: Patience) -> None:
        """Replace an item if it has this version; "" is the version of an item without version or owner."""
        try:
            if self._if_still(version, patience, "put_item", Item=item):
                self.calls.count("written", 1)
        except ClientError as error:
            if code_of(error) != "ValidationException":
                raise
            self.refused[item[KEY]["S"]] = message_of(error)

    def delete(self, key: str, version: str, patience: Patience) -> None:
        """Remove an item if it has this version."""
        self._if_still(version, patience, "delete_item", Key={KEY: {"S": key}})

    def _if_still(self, version: str, patience: Patience, operation: str, **request: Any) -> bool:
        """Do an operation on an item if it has this version. Returns whether it had it."""
        condition, names = "#version = :seen", {"#version": "Version"}
        if not version:
            condition += " OR attribute_not_exists(#version)"
        if not version and self.owned:
            condition, names = f"{condition} OR attribute_not_exists(#owner)", names | {"#owner": OWNER}
        try:
            self.calls(
                *(operation, patience),
                units="write_units",
                TableName=self.calls.table,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={":seen": {"S": version}},
                **request,
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
            return False
        else:
            return True
        finally:
            patience.progress()


def _puts(requests: Sequence[Mapping[str, Any]]) -> int:
    return sum("PutRequest" in request for request in requests)
