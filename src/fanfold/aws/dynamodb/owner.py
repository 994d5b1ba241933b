"""The owner of a DynamoDB table: every item names the Lance table that it mirrors, and writers check that first.

    open          at one item                              before any work is done
    versions      at the items of the keys asked for       so that no item of another table is replaced
    first put     at all items, after it                   only if the DynamoDB table was empty, so that they are few

Nothing is locked, and a reader who scans sees rows alone. So two Lance tables whose drivers find a DynamoDB table
empty at the same moment both write to it. Each looks afterwards, and the last to write finds the other's items.

Older items have no owner. Items of a table of the same recipe replace them.
"""

from collections.abc import Mapping
from typing import Any

from fanfold.aws.dynamodb.items import KEY, OWNER, Item
from fanfold.errors import MirrorMismatch

ATTRIBUTES = (KEY, "Version", "Model", "Recipe", "MirrorOf", OWNER)
"""Attributes to read of an item."""


def look(limit: int = 0) -> dict[str, Any]:
    """The part of a read that asks for items' owners."""
    names = {f"#{name}": name for name in ATTRIBUTES}
    asked: dict[str, Any] = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
    return asked | ({"Limit": limit, "ConsistentRead": True} if limit else {})


def look_for_others(ours: Item) -> dict[str, Any]:
    """The part of a scan that asks for items of other tables."""
    filter = {"FilterExpression": f"#{OWNER} <> :ours", "ExpressionAttributeValues": {":ours": ours[OWNER]}}
    return look() | filter | {"ConsistentRead": True}


def is_marked(item: Item) -> bool:
    """Whether an item has an owner."""
    return OWNER in item


def check(name: str, item: Item, ours: Item) -> None:
    """Raise MirrorMismatch if an item of the DynamoDB table `name` is of another table or recipe than `ours` are."""
    if wrong := _wrong(f"The DynamoDB table '{name}'", item, ours):
        raise MirrorMismatch(f"dynamodb://{name}", wrong, _command(name, ours))


def _wrong(what: str, item: Item, ours: Item) -> str:
    if item.get("Recipe") != ours.get("Recipe"):
        return (
            f"{what} holds results of {_recipe(item)}, but this table holds results of {_recipe(ours)}. "
            "Results of different recipes cannot be mixed."
        )
    if not (is_marked(item) and is_marked(ours)) or item[OWNER] == ours[OWNER]:
        return ""
    theirs, mine = _text(item, "MirrorOf"), _text(ours, "MirrorOf")
    if theirs == mine:
        return f"{what} mirrors an earlier table at {mine}. The table there now is a different one."
    return f"{what} mirrors {theirs}, not {mine}. Equal keys would overwrite each other."


def _recipe(item: Item) -> str:
    """Model and recipe of an item, in plain words."""
    return f"model {_text(item, 'Model')}, recipe {_text(item, 'Recipe')}"


def _text(item: Mapping[str, Any], attribute: str) -> str:
    return str(item.get(attribute, {}).get("S", "unknown"))


def _command(name: str, ours: Item) -> str:
    database, _, table = _text(ours, "MirrorOf").removesuffix(".lance").rpartition("/")
    where = f"{database} dynamodb://{name} --table {table}" if database else f"DATABASE dynamodb://{name} --table NAME"
    return f"fanfold mirror {where} --replace"
