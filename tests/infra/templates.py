"""Reading CloudFormation templates: resources of a type, references as text, and permissions of roles."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Properties = dict[str, Any]


@dataclass(frozen=True)
class Stacks:
    """The synthesised templates."""

    folder: Path
    name: str

    @cached_property
    def storage(self) -> dict[str, Any]:
        """The template of NAME-Storage."""
        return self._template("Storage")

    @cached_property
    def compute(self) -> dict[str, Any]:
        """The template of NAME-Compute."""
        return self._template("Compute")

    def _template(self, stack: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / f"{self.name}-{stack}.template.json").read_text())
        return content


Synthesise = Callable[..., Stacks]


def all_of(template: dict[str, Any], type: str) -> dict[str, dict[str, Any]]:
    """The complete resources of a type, by logical id."""
    return {id: resource for id, resource in template.get("Resources", {}).items() if resource["Type"] == type}


def properties(template: dict[str, Any], type: str, named: str = "") -> Properties:
    """The properties of the only resource of a type whose logical id begins like this."""
    found = [one for id, one in all_of(template, type).items() if id.startswith(named)]
    assert len(found) == 1, f"{len(found)} of {type} {named}"
    content: Properties = found[0].get("Properties", {})
    return content


def text(value: Any) -> str:
    """A value as text: references become <name>, so that equal texts mean equal values."""
    if not isinstance(value, dict):
        return str(value)
    ((function, content),) = value.items()
    if function == "Fn::Join":
        return str(content[0]).join(map(text, content[1]))
    return f"<{'.'.join(content) if isinstance(content, list) else content}>"


def may(template: dict[str, Any], role: str) -> dict[str, set[str]]:
    """The permissions of the role whose logical id begins like this: resources by action."""
    allowed: dict[str, set[str]] = {}
    for policy in all_of(template, "AWS::IAM::Policy").values():
        if any(text(one).startswith(f"<{role}") for one in policy["Properties"]["Roles"]):
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                for action in _listed(statement["Action"]):
                    allowed.setdefault(action, set()).update(map(text, _listed(statement["Resource"])))
    assert allowed, f"{role} may do nothing"
    return allowed


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
