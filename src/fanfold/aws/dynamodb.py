"""The DynamoDB table that mirrors a Lance table: `dynamodb://NAME`, one item a row, by `ImageId`.

    versions() ──▶ seen ──▶ put(), delete()
                            a key not seen          written whatever is there by then, 25 a call
                            a key seen at v1        replaced or removed if it still is at v1

A condition that fails is no error: somebody has replaced the item since it was looked at, and whoever did brings it
in step. (That may have been ourselves, when an answer got lost and the call was made again.) A key that was not
seen, and was written meanwhile, is mended by looking again, as `fanfold.mirror` does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fanfold.aws import owner
from fanfold.aws.calls import Calls, errors_of
from fanfold.aws.client import ClientError, code_of
from fanfold.aws.items import KEY, Item, constants_of, items_of, key_fits, refusal, row_of
from fanfold.aws.operations import READ_AT_ONCE, WRITTEN_AT_ONCE, Operations
from fanfold.aws.patience import Patience, end, together
from fanfold.errors import UsageError

Vectors = np.ndarray[Any, np.dtype[np.float32]]

_THREADS = 8
_SOON = 20.0  # seconds without an answer until a table that is opened counts as out of reach

_KEY_SCHEMA = [{"AttributeName": KEY, "KeyType": "HASH"}]
_KEY_TYPE = {"AttributeName": KEY, "AttributeType": "S"}


class DynamoTable:
    """A DynamoDB table of items made from rows; a `fanfold.mirror.Mirror`. Made by `open` or `create`."""

    def __init__(self, address: str, metadata: Mapping[str, str] | None) -> None:
        self.name = _name_in(address)
        self.constants = None if metadata is None else constants_of(metadata)
        """The attributes that all its items share; None if it is for reading only."""
        self.patience = 300.0
        """Seconds that DynamoDB may get nothing done before that is an error."""
        self.refused: dict[str, str] = {}
        """Rows it cannot hold: key -> why."""
        with errors_of(self.name):
            self._calls = Calls(self.name)
        self._operations = Operations(self._calls, self.refused, owned=owner.is_marked(self.constants or {}))
        self._is_ours = False
        """Whether an item of the Lance table that it mirrors has been seen in it."""
        self.spent = self._calls.spent
        """`written`: items. `write_units`, `read_units`: capacity units. `throttled`: answers that said so."""

    @classmethod
    def open(cls, address: str, metadata: Mapping[str, str] | None = None) -> "DynamoTable":
        """The table at `dynamodb://NAME`; for writing, with what the Lance table's schema says of itself.

        Raises UsageError when there is none, when its key is not a string `ImageId` alone, and when region or
        credentials are not set; MirrorMismatch when its items are of another Lance table or another recipe;
        StorageError when it cannot be reached.
        """
        table = cls._usable(address, metadata)
        with errors_of(table.name):
            table._check_first_item()
        return table

    @classmethod
    def take_over(cls, address: str, metadata: Mapping[str, str]) -> "DynamoTable":
        """The table at `dynamodb://NAME`, emptied, for the rows of the Lance table that says this of itself.

        No run may write to it meanwhile. Raises what `open` raises, save MirrorMismatch.
        """
        table = cls._usable(address, metadata)
        table.clear()
        return table

    @classmethod
    def create(cls, address: str, metadata: Mapping[str, str] | None = None) -> "DynamoTable":
        """The same as `open`, made if need be: billed on demand, with point-in-time recovery, and deletion protection.

        Returns when it is active. Raises what `open` raises.
        """
        table = cls(address, metadata)
        with errors_of(table.name):
            is_new, patience = table._make(), Patience(table.name, table.patience)
            table._until_active(patience, again=["ResourceNotFoundException"])  # it is not known everywhere at once
            if is_new:
                table._protect(patience)
        return cls.open(address, metadata)

    @classmethod
    def _usable(cls, address: str, metadata: Mapping[str, str] | None) -> "DynamoTable":
        """A table that is there, is ready, and has our key."""
        table = cls(address, metadata)
        with errors_of(table.name):
            table._check_key(table._until_active(Patience(table.name, _SOON)))
        return table

    # -- items --------------------------------------------------------------------------------------------------------

    def versions(self, keys: Sequence[str]) -> dict[str, str]:
        """The version each key has there, "" where an item has none or no owner; absent keys are not in it.

        Raises MirrorMismatch when one is of another Lance table, StorageError.
        """
        return {item[KEY]["S"]: self._version(item) for item in self._read(keys, owner.look())}

    def _version(self, item: Item) -> str:
        ours = self.constants or {}
        if "Recipe" in item and ours:
            owner.check(self.name, item, ours)
        known = "Version" in item and (owner.is_marked(item) or not owner.is_marked(ours))
        return str(item["Version"]["S"]) if known else ""

    def put(self, rows: pa.Table, seen: Mapping[str, str]) -> None:
        """Write rows; one whose key was seen, only if it still has that version there.

        Rows it cannot hold are left out and told in `refused`. Of two rows with one key the last is meant.
        Raises StorageError, MirrorMismatch when another Lance table's rows have come into it since it was opened, and
        UsageError when it was opened without metadata.
        """
        if self.constants is None:
            raise UsageError(f"dynamodb://{self.name} was opened for reading only: give the rows' metadata to open().")
        rows_by_key = {key: index for index, key in enumerate(rows["key"].to_pylist())}
        indices = list(rows_by_key.values())
        patience = Patience(self.name, self.patience)
        parts = _cut(indices, WRITTEN_AT_ONCE)
        with errors_of(self.name):
            was_empty = owner.is_marked(self.constants) and not self._is_ours and self._is_empty(patience)
            together([partial(self._put, rows, part, seen, patience) for part in parts], patience, _THREADS)
            if was_empty:
                self._check_all_items(patience)

    def _put(self, rows: pa.Table, indices: Sequence[int], seen: Mapping[str, str], patience: Patience) -> None:
        """Items are made when their turn has come, so that few are in memory."""
        items = self._possible(items_of(rows.take(indices), self.constants or {}))
        self._operations.add([item for item in items if item[KEY]["S"] not in seen], patience)
        for item in items:
            if (key := item[KEY]["S"]) in seen:
                self._operations.replace(item, seen[key], patience)

    def _possible(self, items: Iterable[Item]) -> list[Item]:
        reasons = {item[KEY]["S"]: why for item in items if (why := refusal(item))}
        self.refused |= reasons
        return [item for item in items if item[KEY]["S"] not in reasons]

    def delete(self, seen: Mapping[str, str]) -> None:
        """Remove these keys, each only if it still has that version there. Raises StorageError."""
        patience = Patience(self.name, self.patience)
        removals = [partial(self._operations.delete, key, version, patience) for key, version in seen.items()]
        with errors_of(self.name):
            together(removals, patience, _THREADS)

    def get(self, keys: Iterable[str]) -> tuple[list[str], Vectors, list[str]]:
        """The keys found, their vectors float32[found, dimension], and the keys missing; in the order asked.

        An item without a vector is missing. Raises StorageError, and UsageError when the dimensions differ.
        """
        asked = list(dict.fromkeys(keys))
        rows = map(row_of, self._read(asked, {}))
        found = {
            row[KEY]: row["Vector"].astype(np.float32) for row in rows if isinstance(row.get("Vector"), np.ndarray)
        }
        if len({len(vector) for vector in found.values()}) > 1:
            raise UsageError(f"The DynamoDB table '{self.name}' holds vectors of several models: they do not compare.")
        there = [key for key in asked if key in found]
        matrix = np.stack([found[key] for key in there]) if there else np.empty((0, 0), np.float32)
        return there, matrix, [key for key in asked if key not in found]

    def _read(self, keys: Iterable[str], wanted: Mapping[str, Any]) -> list[Item]:
        """The items of these keys, in no order; `wanted` is the rest of the request."""
        found: list[Item] = []
        patience = Patience(self.name, self.patience)

        def read(part: Sequence[str]) -> None:
            found.extend(self._operations.fetch(part, wanted, patience))

        possible = list(dict.fromkeys(filter(key_fits, keys)))
        with errors_of(self.name):
            together([partial(read, part) for part in _cut(possible, READ_AT_ONCE)], patience, _THREADS)
        return found

    def scan(self, segments: int = 4) -> Iterator[dict[str, Any]]:
        """Every item, as plain Python values: `ImageId`, `Vector` (an array), `Version`, ...; in no order.

            for item in DynamoTable.open("dynamodb://images").scan():
                process_entry(item["ImageId"], item["Vector"])

        So many segments are read side by side, a page (1 MB) ahead each. What was written within the last second
        may be missing: reads are eventually consistent, at half the price. Closing the generator ends its threads.
        Raises StorageError.
        """
        patience = Patience(self.name, self.patience)
        with errors_of(self.name), ThreadPoolExecutor(segments) as pool:
            pending = {pool.submit(self._page, patience, part): part for part in _segments(segments)}
            try:
                while pending:
                    for ended in wait(pending, return_when=FIRST_COMPLETED).done:
                        part, answer = pending.pop(ended), ended.result()
                        if last := answer.get("LastEvaluatedKey"):
                            part = part | {"ExclusiveStartKey": last}
                            pending[pool.submit(self._page, patience, part)] = part
                        yield from map(row_of, answer["Items"])
            finally:
                end(pending, patience)

    def clear(self) -> None:
        """Remove every item, whosever it is. Raises StorageError."""
        patience = Patience(self.name, self.patience)
        part: dict[str, Any] | None = {"ProjectionExpression": "#key", "ExpressionAttributeNames": {"#key": KEY}}
        with errors_of(self.name):
            while part is not None:
                page = self._page(patience, part)
                keys = _cut([item[KEY]["S"] for item in page["Items"]], WRITTEN_AT_ONCE)
                together([partial(self._operations.remove, some, patience) for some in keys], patience, _THREADS)
                last = page.get("LastEvaluatedKey")
                part = part | {"ExclusiveStartKey": last, "ConsistentRead": True} if last else None

    def _page(self, patience: Patience, part: Mapping[str, Any]) -> Mapping[str, Any]:
        patience.progress()  # from here on; what the reader of the page before took does not count
        return self._calls("scan", patience, units="read_units", TableName=self.name, **part)

    # -- the table itself ---------------------------------------------------------------------------------------------

    def _make(self) -> bool:
        """Create the table; False if there is one."""
        try:
            self._calls(
                "create_table",
                Patience(self.name, _SOON),
                TableName=self.name,
                KeySchema=_KEY_SCHEMA,
                AttributeDefinitions=[_KEY_TYPE],
                BillingMode="PAY_PER_REQUEST",
                DeletionProtectionEnabled=True,
            )
        except ClientError as error:
            if code_of(error) != "ResourceInUseException":
                raise
            return False
        return True

    def _until_active(self, patience: Patience, again: Sequence[str] = ()) -> Mapping[str, Any]:
        """What the table is, once it is ready."""
        attempt = 0
        while True:
            table: Mapping[str, Any] = self._calls("describe_table", patience, again, TableName=self.name)["Table"]
            if table["TableStatus"] in ("ACTIVE", "UPDATING"):
                return table
            patience.pause(attempt, f"it is {table['TableStatus']}")
            attempt += 1

    def _protect(self, patience: Patience) -> None:
        """Turn point-in-time recovery on, where the server has it: AWS does, one that stands in for it may not."""
        on = {"PointInTimeRecoveryEnabled": True}
        unready = ["ContinuousBackupsUnavailableException"]  # for a while after the table was made
        try:
            self._calls(
                *("update_continuous_backups", patience, unready),
                TableName=self.name,
                PointInTimeRecoverySpecification=on,
            )
        except ClientError as error:
            if code_of(error) != "UnknownOperationException":
                raise

    def _check_key(self, table: Mapping[str, Any]) -> None:
        if table["KeySchema"] != _KEY_SCHEMA or _KEY_TYPE not in table["AttributeDefinitions"]:
            keys = " and ".join(part["AttributeName"] for part in table["KeySchema"])
            raise UsageError(
                f"The key of the DynamoDB table '{self.name}' is {keys}, where fanfold's is {KEY} alone, a string. "
                f"Use another table, such as dynamodb://{self.name}-2"
            )

    # -- whose it is --------------------------------------------------------------------------------------------------

    def _check_first_item(self) -> None:
        """Look at one item, since all are of one Lance table. Raises MirrorMismatch."""
        if self.constants is not None:
            for item in self._page(Patience(self.name, _SOON), owner.look(limit=1))["Items"]:
                owner.check(self.name, item, self.constants)
                self._is_ours = owner.is_marked(item)

    def _is_empty(self, patience: Patience) -> bool:
        """Whether there is nothing in it, so that others may take it for theirs. Raises MirrorMismatch if one has."""
        items = self._page(patience, owner.look(limit=1))["Items"]
        for item in filter(owner.is_marked, items):
            owner.check(self.name, item, self.constants or {})
        return not items

    def _check_all_items(self, patience: Patience) -> None:
        """Look at all items. Raises MirrorMismatch if one is of another Lance table."""
        ours = self.constants or {}
        part: Mapping[str, Any] = owner.look_for_others(ours)
        while part:
            page = self._page(patience, part)
            for item in page["Items"]:
                owner.check(self.name, item, ours)
            last = page.get("LastEvaluatedKey")
            part = {**part, "ExclusiveStartKey": last} if last else {}
        self._is_ours = True


def _name_in(address: str) -> str:
    """The table's name, by the rules of
    docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
    """
    found = re.fullmatch(r"dynamodb://([A-Za-z0-9_.-]{3,255})/?", address)
    if not found:
        raise UsageError(
            f"'{address}' names no DynamoDB table. Type dynamodb://NAME, with a name of 3 to 255 of A-Z a-z 0-9 _ . -"
        )
    return found[1]


def _segments(count: int) -> list[dict[str, Any]]:
    return [{"Segment": number, "TotalSegments": count} for number in range(count)]


def _cut(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
