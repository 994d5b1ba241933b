"""Whose a DynamoDB table is: every item says which Lance table it mirrors, and whoever writes looks at that first.

    open          at one item                              before any work is done
    versions      at the items of the keys asked for       so that none of another table is ever replaced
    first put     at all items, after it                   only if the DynamoDB table was empty, so that they are few

Nothing is locked, and no item of ours stands in the way of a reader who scans. So two Lance tables whose drivers find
a DynamoDB table empty at the same moment both write to it. Each looks afterwards, the last to write looks last, and
so at least one of them finds the other's items.

Items from before there were owners have none. They give way to those of a table of the same recipe.
"""

from collections.abc import Mapping
from typing import Any

from fanfold.aws.items import KEY, OWNER, Item
from fanfold.errors import MirrorMismatch

ATTRIBUTES = (KEY, "Version", "Model", "Recipe", "MirrorOf", OWNER)
"""What is read of an item."""


def look(limit: int = 0) -> dict[str, Any]:
    """What a read asks for to see whose items are."""
    names = {f"#{name}": name for name in ATTRIBUTES}
    asked: dict[str, Any] = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
    return asked | ({"Limit": limit, "ConsistentRead": True} if limit else {})


def look_for_others(ours: Item) -> dict[str, Any]:
    """What a scan asks for to see the items of other tables."""
    filter = {"FilterExpression": f"#{OWNER} <> :ours", "ExpressionAttributeValues": {":ours": ours[OWNER]}}
    return look() | filter | {"ConsistentRead": True}


def is_marked(item: Item) -> bool:
    """Whether an item says whose it is."""
    return OWNER in item


def check(name: str, item: Item, ours: Item) -> None:
    """Raise MirrorMismatch if an item of the DynamoDB table `name` is of another table or recipe than `ours` are."""
    if wrong := _wrong(f"The DynamoDB table '{name}'", item, ours):
        raise MirrorMismatch(f"dynamodb://{name}", wrong, _command(name, ours))


def _wrong(what: str, item: Item, ours: Item) -> str:
    if item.get("Recipe") != ours.get("Recipe"):
        return (
            f"{what} holds results of {_recipe(item)}, and these are of {_recipe(ours)}. "
            "Results of different recipes do not mix."
        )
    if not (is_marked(item) and is_marked(ours)) or item[OWNER] == ours[OWNER]:
        return ""
    theirs, mine = _said(item, "MirrorOf"), _said(ours, "MirrorOf")
    if theirs == mine:
        return f"{what} mirrors a table that was at {mine} before. The one there now is another."
    return f"{what} mirrors {theirs}, not {mine}. Equal keys would overwrite each other."


def _recipe(item: Item) -> str:
    """Model and recipe of an item, in a person's words."""
    return f"model {_said(item, 'Model')}, recipe {_said(item, 'Recipe')}"


def _said(item: Mapping[str, Any], attribute: str) -> str:
    return str(item.get(attribute, {}).get("S", "unknown"))


def _command(name: str, ours: Item) -> str:
    database, _, table = _said(ours, "MirrorOf").removesuffix(".lance").rpartition("/")
    where = f"{database} dynamodb://{name} --table {table}" if database else f"DATABASE dynamodb://{name} --table NAME"
    return f"fanfold mirror {where} --replace"
