"""Checks of a command's arguments before Cyclopts converts them, for cases where it would round or mislead."""

from math import isfinite
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, CycloptsPanel, UnusedCliTokensError
from rich.text import Text

from fanfold.cli.show import harmless
from fanfold.errors import UsageError


def said(error: CycloptsError) -> Any:
    """What is printed of an error of Cyclopts: its own words, but for arguments that no parameter takes."""
    if not isinstance(error, UnusedCliTokensError):
        return CycloptsPanel(error)
    command = " ".join(("fanfold", *(error.command_chain or ())))
    more = ", ".join(error.unused_tokens or ())
    return CycloptsPanel(Text(harmless(f"{command} takes no further argument: {more}. See: {command} --help")))


def check(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise UsageError for a missing database, and for numbers and addresses that a flag does not take.

    Cyclopts calls this before it converts the arguments: https://cyclopts.readthedocs.io, `App.config`.
    """
    given = {argument.name: len(argument.tokens) for argument in arguments}
    if given.get("SOURCE...") == 0 and given.get("DATABASE"):  # Cyclopts takes a single argument as the database
        raise UsageError(f"Name a source and a DATABASE: fanfold {' '.join(commands)} SOURCE... DATABASE")
    for argument in arguments:
        _check_numbers(argument)
        _check_path(argument)


def _check_numbers(argument: Argument) -> None:
    """Raise UsageError for a fraction where Cyclopts would round it, and for what is not a number."""
    types = _types(argument)
    for token in argument.tokens:
        if int in types and "." in token.value:
            raise UsageError(f"{token.keyword} takes a whole number, not {token.value}.")
        if float in types and not _finite(token.value):
            raise UsageError(f"{token.keyword} takes a number, not {token.value}.")


def _check_path(argument: Argument) -> None:
    """Raise UsageError for what `Path` would make another path of: a URL the folder `s3:`, nothing this folder."""
    from fanfold.storage import is_url  # of a command that is run: help needs no stores

    for token in argument.tokens if Path in _types(argument) else ():
        name = token.keyword or argument.name
        if not token.value:
            raise UsageError(f"{name} is empty. If it came from a shell variable, that variable is not set.")
        if is_url(token.value):
            raise UsageError(f"{name} takes a path on this machine, not {token.value}.")


def _types(argument: Argument) -> set[Any]:
    """The types that a value may have: int and None of `list[int] | None`, say."""
    types = {argument.hint, *get_args(argument.hint)}
    return types.union(*map(get_args, types))


def _finite(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return True  # Cyclopts has an error for it
