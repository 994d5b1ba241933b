"""Every error fanfold raises, and the exit code each one ends a command with.

    FanfoldError                       1  the run failed
    ├── StorageError                      the database or the source cannot be read or written
    │   ├── Damaged                       a file of the database is there, and is not what it should be
    │   └── SourceGone                    the source as a whole is not there any more
    └── UsageError                     2  the command was wrong; its message says what to type
        ├── MissingExtra                  an optional dependency is needed and absent
        ├── RecipeMismatch                the table holds vectors of another recipe
        ├── SourceMismatch                the table holds items of another source
        └── MirrorMismatch                the mirror holds rows of another table

Exit code 0 means all done, 3 means finished with failed items: those are facts of a `Report`, not errors.

Errors cross processes, so each keeps its facts in `args` and makes its sentence in `__str__`.
"""


class FanfoldError(Exception):
    """The base of all errors fanfold raises on purpose."""

    exit_code = 1


class StorageError(FanfoldError):
    """The database or the source cannot be read or written."""


class Damaged(StorageError):
    """A file of the database is there, and is not what it should be: cut off by a power cut, say."""


class SourceGone(StorageError):
    """The source as a whole is not there any more: no item's fault. `args`: its address, what is wrong with it."""

    def __str__(self) -> str:
        address, why = self.args
        return (
            f"The source {address} is not there any more: {why}. "
            "Run the same command again once it is back: what is done stays done."
        )


class UsageError(FanfoldError):
    """What was asked cannot be done as asked."""

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
            f"Table '{table}' was made by {theirs}, and this run is {ours}. "
            f"Results of different recipes do not mix. Write to another table with: --table {free}"
        )


class SourceMismatch(UsageError):
    """The table holds items of another source. `args`: table, its source, the source asked for, a free name."""

    def __str__(self) -> str:
        table, theirs, ours, free = self.args
        return (
            f"Table '{table}' holds the items of {theirs}, and {ours} is not inside it, so equal names would "
            f"collide. Write to another table with: --table {free}, or start a table from a common parent folder."
        )


class MirrorMismatch(UsageError):
    """The mirror holds rows of another table, or of another recipe. `args`: the mirror's address, what is wrong, the
    command that gives the mirror to this table."""

    def __str__(self) -> str:
        address, wrong, command = self.args
        return (
            f"{wrong} Use another one, such as {address}-2. Or give it to this table, which empties it first: {command}"
        )
