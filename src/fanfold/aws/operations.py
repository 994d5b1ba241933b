"""DynamoDB's operations on items, each carried on until nothing is left over.

    BatchGetItem      100 keys a call
    BatchWriteItem    25 items a call, put or removed without a condition
    PutItem, DeleteItem                with a condition on the item's Version

Limits: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fanfold.aws.calls import Calls
from fanfold.aws.client import ClientError, code_of, message_of
from fanfold.aws.items import KEY, OWNER, Item, size_at_most
from fanfold.aws.patience import Patience

READ_AT_ONCE, WRITTEN_AT_ONCE = 100, 25
"""Items a call."""
# A call takes 16 MB of JSON. What is counted grows threefold there at most: a character counts 4 and may take 12.
_WRITTEN_BYTES = 5_000_000


class Operations:
    """What is done to items of one table."""

    def __init__(self, calls: Calls, refused: dict[str, str], owned: bool) -> None:
        self.calls, self.refused = calls, refused
        self.owned = owned
        """Whether items say whose they are."""

    def fetch(self, keys: Sequence[str], wanted: Mapping[str, Any], patience: Patience) -> list[Item]:
        """The items of up to 100 keys, by consistent reads; `wanted` is the rest of the request."""
        found: list[Item] = []
        left: list[Any] = [{KEY: {"S": key}} for key in keys]
        attempt = 0
        while left:
            asked = {self.calls.table: {"Keys": left, "ConsistentRead": True, **wanted}}
            answer = self.calls("batch_get_item", patience, units="read_units", RequestItems=asked)
            found += answer["Responses"].get(self.calls.table, [])
            unread = answer.get("UnprocessedKeys", {}).get(self.calls.table, {}).get("Keys", [])
            # Some left over need not be a throttle: an answer has 16 MB at most.
            attempt = self._after(left, unread, attempt, patience, throttled=len(unread) == len(left))
            left = unread
        return found

    def add(self, items: Sequence[Item], patience: Patience) -> None:
        """Put up to 25 items, whatever is there; those that DynamoDB declines are told in `refused`."""
        for some in _by_size(items):
            self._write([{"PutRequest": {"Item": item}} for item in some], patience)

    def remove(self, keys: Sequence[str], patience: Patience) -> None:
        """Remove up to 25 items, whatever they are."""
        self._write([{"DeleteRequest": {"Key": {KEY: {"S": key}}}} for key in keys], patience)

    def _write(self, left: list[Any], patience: Patience) -> None:
        attempt = 0
        while left:
            try:
                asked = {self.calls.table: left}
                answer = self.calls("batch_write_item", patience, units="write_units", RequestItems=asked)
            except ClientError as error:
                if code_of(error) != "ValidationException":
                    raise
                return self._write_apart(left, error, patience)
            unwritten = answer.get("UnprocessedItems", {}).get(self.calls.table, [])
            self.calls.count("written", _puts(left) - _puts(unwritten))
            attempt = self._after(left, unwritten, attempt, patience, throttled=True)
            left = unwritten
        return None

    def _write_apart(self, requests: list[Any], error: ClientError, patience: Patience) -> None:
        """DynamoDB says that an item is wrong, and not which: try each alone, and refuse that one."""
        if len(requests) == 1:
            self.refused[requests[0]["PutRequest"]["Item"][KEY]["S"]] = message_of(error)
        else:
            for request in requests:
                self._write([request], patience)

    def _after(
        self, asked: Sequence[Any], left: Sequence[Any], attempt: int, patience: Patience, throttled: bool
    ) -> int:
        """Take note of what a call got done, and pause if that was not all. Returns the next attempt."""
        if len(left) < len(asked):
            patience.progress()
            attempt = 0
        if left:
            self.calls.count("throttled", throttled)
            patience.pause(attempt, f"{len(left)} of {len(asked)} items were left over", throttled=True)
        return attempt + 1

    def replace(self, item: Item, version: str, patience: Patience) -> None:
        """Put an item in the place of that which has this version; "" is that of one without version or owner."""
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
        """Do something to an item if it has this version; whether it had."""
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


def _by_size(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Cut where a call would grow too large; an item has 400 KB at most, so a few always go together."""
    some: list[Item] = []
    size = 0
    for item in items:
        own = size_at_most(item)
        if some and size + own > _WRITTEN_BYTES:
            yield some
            some, size = [], 0
        some.append(item)
        size += own
    if some:
        yield some
