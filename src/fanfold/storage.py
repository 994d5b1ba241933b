"""Addresses: what is a local path, what is a URL, and the object store behind each.

One spelling for all: a folder (`photos`, `/data/db`) or a URL (`s3://bucket/db`, `gs://`, `az://`, `http(s)://`).
Credentials and endpoints come from the environment, as obstore and Lance both read them (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, ...); those of S3 also from what
`aws configure` and `aws sso login` wrote down, with the extra `aws`.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from fanfold.errors import StorageError, UsageError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

SCHEMES = ("s3", "gs", "az", "http", "https")

# Throttled and failing servers are waited for this long per request, with growing pauses between tries.
_RETRY: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}
_NO_CREDENTIALS = (
    "there are no credentials for S3. Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or type: aws configure "
    "(its files are read with the extra 'aws': pip install 'fanfold[aws]')"
)
_CREATE_PAUSES = (0.1, 0.3, 1.0, 3.0, None)  # seconds between tries to create an object


class TooLarge(OSError):
    """What is asked for is larger than the asker cares to read."""


def is_url(address: str) -> bool:
    """Whether `address` names an object store or a web server rather than a local path."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def is_web(address: str) -> bool:
    """Whether `address` is that of a page of the web."""
    return address[:8].lower().startswith(("http://", "https://"))


def page_of(address: str) -> str:
    """The address of the page that `address` leads to: less the fragment, which is the reader's business.

    Bytes of a list that are not UTF-8 are percent-encoded.
    """
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", address.partition("#")[0])


def absolute(address: str) -> str:
    """The one spelling of an address: URLs of stores without a closing slash, `file://` and `~` and links resolved.

    Raises UsageError for a scheme that is not known.
    """
    if not address.strip():
        raise UsageError("An address is empty. If it came from a variable, that is not set.")
    if is_web(address):
        return address
    if is_url(address):
        return address.rstrip("/")
    if address[:7].lower() == "file://" and not (address := path_of(spelled := address)):
        raise UsageError(
            f"Cannot open {spelled}: behind file:// comes a full path of this machine: file:///data/photos"
        )
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://", address):
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"Cannot open {address}: fanfold knows folders and {known}, not {scheme[1]}://.")
    try:
        path = os.path.realpath(Path(address).expanduser())
    except FileNotFoundError:
        raise UsageError(f"Cannot find {address}: the working directory is gone. Type: cd ~") from None
    except RuntimeError:
        raise UsageError(f"Cannot find {address}: there is no home directory. Write the path in full.") from None
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"Cannot open {path!a}: the name is not UTF-8.") from None
    return path


def path_of(address: str) -> str:
    """The path that a `file://` address of this machine spells; nothing for any other address."""
    spelled = re.fullmatch(r"file://(?:localhost)?(/.*|~.*|)", address, re.DOTALL | re.IGNORECASE)
    return os.fsdecode(unquote_to_bytes(os.fsencode(spelled[1]))) if spelled else ""


def join(address: str, *parts: str) -> str:
    """`address` and what is below it, with one slash between."""
    return "/".join([address.rstrip("/"), *(part for part in parts if part)])


def open_store(address: str, *, create: bool = False) -> ObjectStore:
    """The store rooted at `address`, an absolute path or a URL.

    Raises StorageError when it cannot be opened.
    """
    with errors_of(address):
        if is_url(address):
            base, path = split_url(address)
            return open_url(f"{base}/{quote(path)}")
        return LocalStore(Path(address), mkdir=create)


def create(store: ObjectStore, name: str, data: bytes) -> bool:
    """Write an object unless there is one; whether the one that is there now is this one.

    A connection may break when the server has done what was asked, so stores repeat by themselves only what does no
    harm twice. Here the content tells whose the object is. Raises whatever obstore raises.
    """
    for pause in _CREATE_PAUSES:
        try:
            store.put(name, data, mode="create")
            return True
        except AlreadyExistsError:
            return bytes(store.get(name).bytes()) == data
        except BaseError as error:
            if pause is None or not broke_off(error):
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def broke_off(error: BaseException) -> bool:
    """Whether a request's connection broke: what was asked is done or not, and may be asked for again."""
    return "HTTP error" in str(error)  # as the `object_store` crate words it, below obstore and Lance alike


def exists(address: str) -> bool:
    """Whether there is anything at `address`."""
    if not is_url(address):
        return Path(address).exists()
    with errors_of(address):
        try:
            return any(chunk for chunk in open_store(address).list(chunk_size=1))
        except BaseError as error:
            if unlisted(error):
                return True  # there is something, though no store can list it
            raise


def unlisted(error: BaseError) -> str:
    """The key that a listing ended at because no store can name it; nothing for other errors."""
    found = re.search(r'object with invalid path:.*?Path "(.*?)"(?: contained|: Enc)', str(error), re.DOTALL)
    return found[1] if found else ""


def read_url(url: str) -> bytes:
    """The content of one object or web page. Raises OSError when it cannot be had."""
    if is_web(url):
        from fanfold.web import Web

        return Web().read(url)
    from fanfold.objects import Objects

    with os_errors(url):
        base, key = split_url(url)
        return Objects(base).get(key).content()


def side_by_side(look: Callable[[Asked], Answer], asked: Sequence[Asked], threads: int) -> list[Answer]:
    """`look` at each of what is asked, by several threads; the answers in order. Raises what `look` raises.

    Not multiprocessing's ThreadPool, which needs a semaphore that AWS Lambda does not have; nor an executor of
    concurrent.futures, whose threads a process waits for before it ends: one that waits for a dead server must not
    keep a stopped command alive.
    """
    futures: list[Future[Answer]] = [Future() for _ in asked]
    waiting = SimpleQueue[tuple[Future[Answer], Asked]]()
    for pair in zip(futures, asked, strict=True):
        waiting.put(pair)

    def work() -> None:
        with suppress(Empty):
            while True:
                future, one = waiting.get_nowait()
                try:
                    future.set_result(look(one))
                except BaseException as error:
                    future.set_exception(error)

    for _ in range(min(threads, len(asked))):
        threading.Thread(target=work, daemon=True).start()
    return [future.result() for future in futures]


def split_url(url: str) -> tuple[str, str]:
    """The URL of an address's bucket or host, and what follows its slash: a key is what it is, slashes and all."""
    found = re.match(r"(\w+://[^/?#]+)/?(.*)", url, re.DOTALL)
    if not found:
        raise ValueError(f"{url} names no bucket and no host")
    return found[1], found[2]


def open_url(url: str) -> ObjectStore:
    """The store rooted at a URL. Raises whatever obstore raises."""
    if is_web(url):
        raise UsageError(f"{url} is on a web server, which can be read from, page by page, and nothing else.")
    if url.lower().startswith("s3://"):
        from fanfold.aws.profile import credentials

        return S3Store.from_url(url, retry_config=_RETRY, credential_provider=credentials())
    return from_url(url, retry_config=_RETRY)


@contextmanager
def os_errors(address: str) -> Iterator[None]:
    """Turn the store's errors into OSError, in one line, so that readers know one family of errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"not found: {address}") from error
    except (NotFoundError, BaseError, ValueError) as error:  # ValueError: an address that is none
        raise OSError(first_line(error)) from error


@contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Turn any failure to use `address` into a StorageError that names it.

    A ValueError is about an address that does not exist; Lance raises it, too, and RuntimeError, for damaged files.
    """
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, (OSError, BaseError, ValueError, RuntimeError)) or is_panic(error)):
            raise
        raise StorageError(f"Cannot use {address}: {first_line(error)}") from error


def is_panic(error: BaseException) -> bool:
    """Whether Rust code has panicked, as Lance does over some damaged files.

    Such an error is a BaseException, whose class cannot be imported: https://pyo3.rs, `PanicException`.
    """
    return type(error).__name__ == "PanicException"


def sync(*files: str) -> None:
    """Wait until these files of this machine are on its disk, with their names: object stores do so by themselves.

    A name is put on the disk with its folder. Raises OSError.
    """
    for path in dict.fromkeys([*files, *(os.path.dirname(file) for file in files)]):  # noqa: PTH120
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def first_line(error: BaseException) -> str:
    """What an error says, without the debug dump that storage libraries append."""
    text = str(error).split("\n\nDebug source")[0]
    if "169.254.169.254" in text:  # where a machine of EC2 would have its role's
        return _NO_CREDENTIALS
    if said := re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", text, re.DOTALL):  # S3's own words
        text = f"{said[1]}: {said[2]}"
    text = re.sub(r",? /\S+/rust/\S+", "", text)  # Lance appends where in its source it was raised
    return " ".join(text.split())[:600] or type(error).__name__
