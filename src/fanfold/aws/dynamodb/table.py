"""The DynamoDB table that mirrors a Lance table: `dynamodb://NAME`, one item per row, by `ImageId`.

    versions() ──▶ seen ──▶ put(), delete()
                            a key not seen          written over what is there by then, 25 per call
                            a key seen at v1        replaced or removed if it still is at v1

A condition that fails is not an error: another writer has replaced the item since it was looked at, and brings it in
sync. (That may have been this process, if an answer was lost and the call was repeated.) A key that was not seen, and
was written meanwhile, is corrected by a second look, as in `fanfold.core.mirror`.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from more_itertools import chunked

from fanfold.aws.client import ClientError, code_of
from fanfold.aws.dynamodb import owner
from fanfold.aws.dynamodb.backoff import Patience, Unfinished, ending, together
from fanfold.aws.dynamodb.calls import Calls, table_errors
from fanfold.aws.dynamodb.items import KEY, Item, constants_of, items_of, key_fits, refusal, row_of
from fanfold.aws.dynamodb.operations import READ_AT_ONCE, WRITTEN_AT_ONCE, Operations
from fanfold.errors import UsageError

Vectors = np.ndarray[Any, np.dtype[np.float32]]

_THREADS = 8
_SOON = 20.0  # seconds without an answer until a table that is opened counts as out of reach

_KEY_SCHEMA = [{"AttributeName": KEY, "KeyType": "HASH"}]
_KEY_TYPE = {"AttributeName": KEY, "AttributeType": "S"}


class DynamoTable:
    """A DynamoDB table of items made from rows; a `fanfold.core.mirror.Mirror`. Made by `open` or `create`."""

    def __init__(self, address: str, metadata: Mapping[str, str] | None) -> None:
        self.name = _name_in(address)
        self.constants = None if metadata is None else constants_of(metadata)
        """The attributes that all its items share; None if it is for reading only."""
        self.patience = 300.0
        """Seconds without progress after which DynamoDB's failure is an error."""
        self.refused: dict[str, str] = {}
        """Rows it cannot hold: key -> why."""
        with table_errors(self.name):
            self._calls = Calls(self.name)
        self._operations = Operations(self._calls, self.refused, owned=owner.is_marked(self.constants or {}))
        self._is_ours = False
        """Whether it is known to have an item of its Lance table."""
        self.spent = self._calls.spent
        """`written`: items. `write_units`, `read_units`: capacity units. `throttled`: throttled calls."""

    @classmethod
    def open(cls, address: str, metadata: Mapping[str, str] | None = None) -> "DynamoTable":
        """The table at `dynamodb://NAME`; for writing, with the metadata of the Lance table's schema.

        Raises UsageError when it does not exist, when its key is not a string `ImageId` alone, and when region or
        credentials are not set; MirrorMismatch when its items are of another Lance table or another recipe;
        StorageError when it cannot be reached.
        """
        table = cls._usable(address, metadata)
        with table_errors(table.name):
            table._check_first_item(Patience(table.name, _SOON))
        return table

    @classmethod
    def take_over(cls, address: str, metadata: Mapping[str, str]) -> "DynamoTable":
        """The table at `dynamodb://NAME`, emptied, for the rows of the Lance table with this metadata.

        No run may write to it meanwhile. Raises what `open` raises, except MirrorMismatch.
        """
        table = cls._usable(address, metadata)
        table.clear()
        return table

    @classmethod
    def create(cls, address: str, metadata: Mapping[str, str] | None = None) -> "DynamoTable":
        """The same as `open`, but creates a missing table: billed on demand, with recovery and deletion protection.

        Returns when it is active. Raises what `open` raises.
        """
        table = cls(address, metadata)
        with table_errors(table.name):
            is_new, patience = table._make(), Patience(table.name, table.patience)
            table._until_active(patience, again=["ResourceNotFoundException"])  # it is not known everywhere at once
            if is_new:
                table._protect(patience)
        return cls.open(address, metadata)

    @classmethod
    def _usable(cls, address: str, metadata: Mapping[str, str] | None) -> "DynamoTable":
        """A table that exists, is ready, and has the right key."""
        table = cls(address, metadata)
        with table_errors(table.name):
            table._check_key(table._until_active(Patience(table.name, _SOON)))
        return table

    # -- items --------------------------------------------------------------------------------------------------------

    def versions(self, keys: Sequence[str]) -> dict[str, str]:
        """The version of each key there, "" if an item has no version or no owner; without absent keys.

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
        """Write rows; a row whose key was seen, only if the item still has that version.

        Rows that DynamoDB cannot hold are left out, and added to `refused`. If two rows have one key, the last counts.
        Raises StorageError, MirrorMismatch when another Lance table's rows have come into it since it was opened, and
        UsageError when it was opened without metadata.
        """
        if self.constants is None:
            raise UsageError(
                f"dynamodb://{self.name} is open for reading only. To write, open it with the rows' metadata."
            )
        rows_by_key = {key: index for index, key in enumerate(rows["key"].to_pylist())}
        indices = list(rows_by_key.values())
        patience = Patience(self.name, self.patience)
        parts = chunked(indices, WRITTEN_AT_ONCE)
        with table_errors(self.name):
            is_new = owner.is_marked(self.constants) and not self._is_ours
            was_empty = is_new and not self._check_first_item(patience)
            together([partial(self._put, rows, part, seen, patience) for part in parts], patience, _THREADS)
            if was_empty:
                self._check_all_items()

    def _put(self, rows: pa.Table, indices: Sequence[int], seen: Mapping[str, str], patience: Patience) -> None:
        """Write some of the rows. Items are made only here, so that few are in memory."""
        items = {item[KEY]["S"]: item for item in items_of(rows.take(indices), self.constants or {})}
        refused = {key: why for key, item in items.items() if (why := refusal(item))}
        self.refused |= refused
        items = {key: item for key, item in items.items() if key not in refused}
        self._operations.add([item for key, item in items.items() if key not in seen], patience)
        for key in items.keys() & seen.keys():
            self._operations.replace(items[key], seen[key], patience)

    def delete(self, seen: Mapping[str, str]) -> None:
        """Remove these keys, each only if its item still has that version. Raises StorageError."""
        patience = Patience(self.name, self.patience)
        removals = [partial(self._operations.delete, key, version, patience) for key, version in seen.items()]
        with table_errors(self.name):
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
            raise UsageError(
                f"The DynamoDB table '{self.name}' holds vectors of several models, which cannot be compared."
            )
        there = [key for key in asked if key in found]
        matrix = np.stack([found[key] for key in there]) if there else np.empty((0, 0), np.float32)
        return there, matrix, [key for key in asked if key not in found]

    def _read(self, keys: Iterable[str], wanted: Mapping[str, Any]) -> list[Item]:
        """The items of these keys, in no order; `wanted` is the rest of the request."""
        patience = Patience(self.name, self.patience)
        parts = chunked(dict.fromkeys(filter(key_fits, keys)), READ_AT_ONCE)
        reads = [partial(self._operations.fetch, part, wanted, patience) for part in parts]
        with table_errors(self.name):
            return list(chain.from_iterable(together(reads, patience, _THREADS)))

    def scan(self, segments: int = 4) -> Iterator[dict[str, Any]]:
        """Every item, as plain Python values: `ImageId`, `Vector` (an array), `Version`, ...; in no order.

            for item in DynamoTable.open("dynamodb://images").scan():
                process_entry(item["ImageId"], item["Vector"])

        Reads `segments` parts of the table in parallel, each a page (1 MB) ahead. Items written within the last second
        may be missing: reads are eventually consistent, at half the price. Closing the generator ends its threads.
        Raises StorageError.
        """
        with closing(self._pages({}, segments)) as pages:
            for items in pages:
                yield from map(row_of, items)

    def clear(self) -> None:
        """Remove every item, also those of other Lance tables. Raises StorageError."""
        wanted = {"ProjectionExpression": "#key", "ExpressionAttributeNames": {"#key": KEY}, "ConsistentRead": True}
        with table_errors(self.name):
            for items in self._pages(wanted):
                patience = Patience(self.name, self.patience)
                keys = chunked([item[KEY]["S"] for item in items], WRITTEN_AT_ONCE)
                together([partial(self._operations.remove, some, patience) for some in keys], patience, _THREADS)

    def _pages(self, wanted: Mapping[str, Any], segments: int = 1) -> Generator[Sequence[Item], None, None]:
        """The items of a scan, page by page, with the next page of each segment under way."""
        patience = Patience(self.name, self.patience)
        parts = [{**wanted, "Segment": number, "TotalSegments": segments} for number in range(segments)]
        with table_errors(self.name), ending(ThreadPoolExecutor(segments), patience) as pool:
            pending = {pool.submit(self._page, patience, part): part for part in parts}
            while pending:
                for ended in wait(pending, return_when=FIRST_COMPLETED).done:
                    part, answer = pending.pop(ended), ended.result()
                    if last := answer.get("LastEvaluatedKey"):
                        part = part | {"ExclusiveStartKey": last}
                        pending[pool.submit(self._page, patience, part)] = part
                    yield answer["Items"]

    def _page(self, patience: Patience, part: Mapping[str, Any]) -> Mapping[str, Any]:
        patience.progress()  # the time that the reader of the last page took does not count
        return self._calls("scan", patience, units="read_units", TableName=self.name, **part)

    # -- the table itself ---------------------------------------------------------------------------------------------

    def _make(self) -> bool:
        """Create the table; False if it exists."""
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
        """The table's description, once it is ready."""

        def look() -> Mapping[str, Any]:
            table: Mapping[str, Any] = self._calls("describe_table", patience, again, TableName=self.name)["Table"]
            if table["TableStatus"] not in ("ACTIVE", "UPDATING"):
                raise Unfinished(f"it is {table['TableStatus']}")
            return table

        ready: Mapping[str, Any] = patience.until_done(look)
        return ready

    def _protect(self, patience: Patience) -> None:
        """Turn point-in-time recovery on, if the server has it: AWS does, an emulator may not."""
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
                f"The key of the DynamoDB table '{self.name}' is {keys}, but fanfold needs {KEY} alone, a string. "
                f"Use another table, such as dynamodb://{self.name}-2"
            )

    # -- the owner ----------------------------------------------------------------------------------------------------

    def _check_first_item(self, patience: Patience) -> bool:
        """Check one item, since all are of one Lance table. Returns whether there is one. Raises MirrorMismatch."""
        items = self._page(patience, owner.look(limit=1))["Items"] if self.constants is not None else []
        for item in items:
            owner.check(self.name, item, self.constants or {})
            self._is_ours = owner.is_marked(item)
        return bool(items)

    def _check_all_items(self) -> None:
        """Check all items. Raises MirrorMismatch if one is of another Lance table."""
        ours = self.constants or {}
        for items in self._pages(owner.look_for_others(ours)):
            for item in items:
                owner.check(self.name, item, ours)
        self._is_ours = True


def _name_in(address: str) -> str:
    """The table's name, by the rules of
    docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
    """
    found = re.fullmatch(r"dynamodb://([A-Za-z0-9_.-]{3,255})/?", address)
    if not found:
        raise UsageError(
            f"'{address}' is not the address of a DynamoDB table. "
            "Type dynamodb://NAME, with 3 to 255 of A-Z a-z 0-9 _ . -"
        )
    return found[1]
