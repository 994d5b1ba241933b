"""Addresses: local paths, URLs, and the object store behind each.

One spelling for all: a folder (`photos`, `/data/db`) or a URL (`s3://bucket/db`, `gs://`, `az://`, `http(s)://`).
Credentials and endpoints come from the environment, as obstore and Lance both read them (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, ...); those of S3 also from what
`aws configure` and `aws sso login` wrote down, with the extra `aws`.
"""

import importlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
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

CREDENTIALS = "fanfold.aws.credentials"
"""The module that finds credentials for S3 where obstore does not look. By name, since it builds on this one."""

RETRY_VARIABLE, RETRY_SECONDS = "FANFOLD_RETRY_SECONDS", 90.0
"""How long a request is repeated, with growing pauses, when a store is throttled, down or gone: the environment
variable for the seconds, and its default."""

_NO_CREDENTIALS = (
    "there are no credentials for S3. Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or type: aws configure "
    "(its files are read with the extra 'aws': pip install 'fanfold[aws]')"
)
_CREATE_PAUSES = (0.1, 0.3, 1.0, 3.0, None)  # seconds between tries to create an object


class TooLarge(OSError):
    """The content is larger than the limit of the read."""


def is_url(address: str) -> bool:
    """Whether `address` names an object store or a web server rather than a local path."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def is_web(address: str) -> bool:
    """Whether `address` is that of a page of the web."""
    return address[:8].lower().startswith(("http://", "https://"))


def page_of(address: str) -> str:
    """The address of the page that `address` leads to, without its fragment.

    Bytes of a list that are not UTF-8 are percent-encoded.
    """
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", address.partition("#")[0])


def absolute(address: str) -> str:
    """The full form of an address: store URLs without a closing slash; `file://`, `~` and links resolved.

    Raises UsageError for an unknown scheme.
    """
    if not address.strip():
        raise UsageError("An address is empty. If it came from a shell variable, that variable is not set.")
    if is_web(address):
        return address
    if is_url(address):
        return address.rstrip("/")
    if address[:7].lower() == "file://" and not (address := path_of(spelled := address)):
        raise UsageError(f"Cannot open {spelled}: file:// needs a full path, such as file:///data/photos.")
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
    """The path in a `file://` address of this machine; empty for any other address."""
    spelled = re.fullmatch(r"file://(?:localhost)?(/.*|~.*|)", address, re.DOTALL | re.IGNORECASE)
    return os.fsdecode(unquote_to_bytes(os.fsencode(spelled[1]))) if spelled else ""


def join(address: str, *parts: str) -> str:
    """`address` and the parts below it, with single slashes between."""
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
    """Write an object unless it exists. Returns whether the object that exists now has this content.

    A connection may break after the server has written the object, so obstore does not repeat such a request. This
    repeats it, since the content shows who wrote the object. Raises what obstore raises.
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
    """Whether a request's connection broke. The request may have been done, and can be repeated."""
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
                return True  # something is there, though no store can list it
            raise


def unlisted(error: BaseError) -> str:
    """The key that ended a listing because the store cannot represent it; empty for other errors."""
    found = re.search(r'object with invalid path:.*?Path "(.*?)"(?: contained|: Enc)', str(error), re.DOTALL)
    return found[1] if found else ""


def side_by_side(look: Callable[[Asked], Answer], asked: Sequence[Asked], threads: int) -> list[Answer]:
    """Call `look` with each of `asked`, in several threads. Returns the answers in order; raises what `look` raises.

    Not by multiprocessing's ThreadPool, which needs a semaphore that AWS Lambda does not have. Not by
    concurrent.futures either: a process waits for its threads before it ends, and a thread that waits for a dead
    server must not keep a stopped command alive.
    """
    return list(looking_ahead(look, asked, threads, len(asked)))


def looking_ahead(
    look: Callable[[Asked], Answer], asked: Iterable[Asked], threads: int, ahead: int
) -> Iterator[Answer]:
    """Like `side_by_side`, for any number of questions: at most `ahead` of them are in memory at a time."""
    pending: deque[Future[Answer]] = deque()
    waiting = SimpleQueue[tuple[Future[Answer], Asked] | None]()

    def work() -> None:
        while pair := waiting.get():
            future, one = pair
            try:
                future.set_result(look(one))
            except BaseException as error:
                future.set_exception(error)

    def ask(stream: Iterator[Asked]) -> None:
        for one in stream:
            pending.append(Future())
            waiting.put((pending[-1], one))

    stream = iter(asked)
    ask(islice(stream, ahead))
    started = min(threads, len(pending))
    for _ in range(started):
        threading.Thread(target=work, daemon=True).start()
    try:
        while pending:
            answer = pending.popleft().result()
            ask(islice(stream, 1))
            yield answer
    finally:
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        for _ in range(started):
            waiting.put(None)


def split_url(url: str) -> tuple[str, str]:
    """The URL of an address's bucket or host, and what follows the slash, unchanged: keys may have any slashes."""
    found = re.match(r"(\w+://[^/?#]+)/?(.*)", url, re.DOTALL)
    if not found:
        raise ValueError(f"{url} has neither a bucket nor a host")
    return found[1], found[2]


def open_url(url: str) -> ObjectStore:
    """The store rooted at a URL. Raises what obstore raises."""
    if is_web(url):
        raise UsageError(f"{url} is on a web server. Its pages can be read, but it cannot hold a database.")
    if url.lower().startswith("s3://"):
        provider = importlib.import_module(CREDENTIALS).credentials()
        return S3Store.from_url(url, retry_config=_retries(), credential_provider=provider)
    return from_url(url, retry_config=_retries())


def _retries() -> Any:
    seconds = os.environ.get(RETRY_VARIABLE) or f"{RETRY_SECONDS}"
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", seconds):
        raise UsageError(f"{RETRY_VARIABLE} must be a number of seconds, not '{seconds}'.")
    return {"max_retries": 8, "retry_timeout": timedelta(seconds=float(seconds))}


@contextmanager
def os_errors(address: str) -> Iterator[None]:
    """Turn the store's errors into OSError, in one line, so that readers need to catch only that."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"not found: {address}") from error
    except (NotFoundError, BaseError, ValueError) as error:  # ValueError: not a valid address
        raise OSError(first_line(error)) from error


@contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Turn any failure to use `address` into a StorageError that names it.

    A ValueError means a wrong address. Lance raises it, and RuntimeError, also for damaged files.
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
    """Wait until these local files are on the disk, with their names (fsync of each file and its folder).

    Object stores need no such call. Raises OSError.
    """
    for path in dict.fromkeys([*files, *(os.path.dirname(file) for file in files)]):  # noqa: PTH120
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def first_line(error: BaseException) -> str:
    """The message of an error in one line, without the debug output that storage libraries append."""
    text = str(error).split("\n\nDebug source")[0]
    if "169.254.169.254" in text:  # the address that gives EC2 machines their credentials
        return _NO_CREDENTIALS
    if answer := re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", text, re.DOTALL):  # S3's own words
        text = f"{answer[1]}: {answer[2]}"
    text = re.sub(r",? /\S+/rust/\S+", "", text)  # Lance appends the place in its source
    return " ".join(text.split())[:600] or type(error).__name__
