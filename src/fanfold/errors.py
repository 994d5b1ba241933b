"""Every error fanfold raises, and the exit code each one ends a command with.

    FanfoldError                       1  the run failed
    ├── StorageError                      the database or the source cannot be read or written
    │   ├── Damaged                       a file of the database is there but its content is wrong
    │   └── SourceGone                    the source as a whole has gone
    └── UsageError                     2  the command was wrong; its message says what to type
        ├── MissingExtra                  an optional dependency is needed and absent
        ├── RecipeMismatch                the table holds vectors of another recipe
        ├── SourceMismatch                the table holds items of another source
        └── MirrorMismatch                the mirror holds rows of another table

Exit code 0 means all done, 3 means finished with failed items: those are facts of a `Report`, not errors.

Errors cross processes, so each keeps its facts in `args` and makes its sentence in `__str__`.
"""

from typing import Any


class FanfoldError(Exception):
    """The base of all errors fanfold raises on purpose."""

    exit_code = 1


class StorageError(FanfoldError):
    """The database or the source cannot be read or written."""


class Damaged(StorageError):
    """A file of the database is there but its content is wrong: cut off by a power cut, say."""


class SourceGone(StorageError):
    """The source as a whole has gone, which is not an item's fault. `args`: its address, what is wrong with it."""

    def __str__(self) -> str:
        address, why = self.args
        return (
            f"The source {address} is not there any more: {why}. "
            "Run the same command again when it is back. Finished work is kept."
        )


class UsageError(FanfoldError):
    """The command, or the call, is wrong; the message says what to type."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional dependency is needed and absent. `args`: the extra, what needs it."""

    def __str__(self) -> str:
        extra, needed_for = self.args
        return f"{needed_for} needs the extra '{extra}'. Install it with: pip install 'fanfold[{extra}]'"


class RecipeMismatch(UsageError):
    """The table holds results of another recipe. `args`: table, its recipe, the recipe asked for, a free name."""

    def __str__(self) -> str:
        table, theirs, ours, free = self.args
        return (
            f"Table '{table}' was made by {theirs}, but this run is {ours}. "
            f"A table holds the results of one recipe only. Write to another table with: --table {free}"
        )


class SourceMismatch(UsageError):
    """The table holds items of another source. `args`: table, its source, the source asked for, a free name."""

    def __str__(self) -> str:
        table, theirs, ours, free = self.args
        return (
            f"Table '{table}' holds the items of {theirs}, but {ours} is not inside it. Equal names would collide. "
            f"Write to another table with: --table {free}. Or make a table of a parent folder of both."
        )


class MirrorMismatch(UsageError):
    """The mirror holds rows of another table or recipe. `args`: its address, what is wrong, the command that gives it
    to this table."""

    def __str__(self) -> str:
        address, wrong, command = self.args
        return f"{wrong} Use another one, such as {address}-2. Or empty it and use it for this table: {command}"


def problem_of(error: Any) -> str:
    """The first problem of pydantic's ValidationError, in our words: uploads[1]: it should be a valid string, not 7."""
    problem = error.errors(include_url=False)[0]
    path = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    match problem["type"]:
        case "missing":
            wrong = "it is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            wrong = "there is no such setting"
        case "value_error":
            wrong = problem["msg"].removeprefix("Value error, ")
        case _:
            value = repr(problem["input"])
            wrong = f"it {problem['msg'][problem['msg'].find('should') :]}, not {value[:100]}"
    return f"{path.lstrip('.')}: {wrong}".removeprefix(": ")
