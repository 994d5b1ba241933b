"""Numbers on the command line: what cannot be meant is refused, whatever the flag."""

from math import isfinite
from typing import get_args

from cyclopts import App, ArgumentCollection

from fanfold.errors import UsageError


def check(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise UsageError for a part of a whole thing, which Cyclopts would round, and for what is not a number.

    Cyclopts calls this before it converts the words of a command: https://cyclopts.readthedocs.io, `App.config`.
    """
    for argument in arguments:
        kinds = {argument.hint, *get_args(argument.hint)}
        for token in argument.tokens:
            if int in kinds and "." in token.value:
                raise UsageError(f"{token.keyword} takes a whole number, not {token.value}.")
            if float in kinds and not _finite(token.value):
                raise UsageError(f"{token.keyword} takes a number, not {token.value}.")


def _finite(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return True  # Cyclopts says what is wrong with it
