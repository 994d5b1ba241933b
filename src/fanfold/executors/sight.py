"""Whether this process can use a source and a database that are URLs, by the credentials it has: a node is asked by
`probe`, once it is known to have this."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from obstore.exceptions import BaseError

from fanfold.job import Item
from fanfold.source import Changed, TooLarge, reader
from fanfold.storage import errors_of, first_line, open_store

WITHIN = 40.0
"""Seconds for each of the two: stores that do not answer are asked again for longer than a node can be waited for."""


def of_source(root: str, items: Sequence[Mapping[str, Any]]) -> str:
    """Why none of these items can be read, as the last of them tells; nothing if one can.

    One is enough: of addresses listed in a file, some may be dead.
    """
    return _in_time(lambda: _unread(root, items))


def of_database(url: str, name: str) -> str:
    """Why a database's object is not to be seen, or cannot be written; nothing if all is well."""
    return _in_time(lambda: _unwritten(url, name))


@contextmanager
def marked(url: str) -> Iterator[str]:
    """An object in a database, by name, for nodes to see and write again; gone afterwards."""
    name = f".reach-{secrets.token_hex(8)}"
    with errors_of(url):
        store = open_store(url)
        store.put(name, name.encode())
    try:
        yield name
    finally:
        with suppress(BaseError, OSError):  # whoever may not delete can work all the same
            store.delete(name)


def _unread(root: str, items: Sequence[Mapping[str, Any]]) -> str:
    source, why = reader(root), ""
    for item in items:
        try:
            source.read(Item(**item), limit=item["size"])
        except (Changed, TooLarge):  # it has been read
            return ""
        except OSError as error:
            why = first_line(error)
        else:
            return ""
    return why


def _unwritten(url: str, name: str) -> str:
    try:
        store = open_store(url)
        # The same again, so that what is deleted once leaves nothing of any node's.
        store.put(name, bytes(store.get(name).bytes()))
    except Exception as error:
        return first_line(error)
    return ""


def _in_time(look: Callable[[], str]) -> str:
    """What a look tells, or that it takes too long."""
    told: Future[str] = Future()

    def work() -> None:
        try:
            told.set_result(look())
        except Exception as error:
            told.set_result(first_line(error))

    threading.Thread(target=work, daemon=True).start()
    try:
        return told.result(WITHIN)
    except TimeoutError:
        return f"no answer for {WITHIN:.0f} s"
