"""Pages of the web, read as a browser would, with limits on everything that a server can do.

    look:  HEAD ──▶ its length and version    else GET, and only the headers are read
    read:  GET ──▶ the body, whole or not at all; or a range of it

An address is sent as it is written, without its fragment. Certificates are checked as in urllib, with the same
environment variables: `https_proxy`, `no_proxy`, `SSL_CERT_FILE`.
"""

import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

import fanfold
from fanfold.source.protocol import Changed, in_range
from fanfold.storage import TooLarge, first_line, page_of

AGENT = f"fanfold/{fanfold.__version__}"
"""The user agent. Some servers refuse programs without one."""
TRANSIENT = (429, 500, 502, 503, 504)
"""Status codes after which a request is repeated."""
REDIRECTS = 10
CONNECTIONS = 16
"""Connections kept open to each host."""

_KEPT = "%/?@:!$&'()*+,;=[]|~-._\\^`{}"  # in an address; all other characters are percent-encoded
_CHUNK = 1 << 18
_SETTLED = timedelta(seconds=2)  # a page this much older than the answer was not made for it (RFC 9110, 8.8.2.2)


@dataclass(frozen=True)
class Web:
    """Timeouts and retries."""

    connect: float = 5.0
    """Seconds for making a connection."""
    silence: float = 15.0
    """Seconds without a byte from the server."""
    whole: float = 300.0
    """Seconds for a whole page."""
    tries: int = 3
    """Tries when connections break or the server is busy."""
    pause: float = 0.5
    """Seconds before the third try; doubled for each further one."""
    longest_pause: float = 10.0
    """Most seconds between tries, even if the server asks for more (Retry-After)."""

    def look(self, url: str) -> Mapping[str, Any]:
        """A page's `size` in bytes (0 if the server does not know it) and `version`. Raises OSError.

        Servers that do not answer HEAD, or answer it without a length, are asked by GET.
        """
        with self._os_errors(url):
            with self._asked("HEAD", url) as answer:
                if answer.status < 400 and (size := _length(answer)):
                    return {"size": size, "version": version_of(answer.headers, size)}
            with self._asked("GET", url) as answer:
                _check(answer, url)
                size = _length(answer)
                return {"size": size, "version": version_of(answer.headers, size)}

    def read(self, url: str, limit: int | None = None) -> bytes:
        """A page's content, of at most `limit` bytes. Raises OSError, and TooLarge early."""

        def read() -> bytes:
            with self._asked("GET", url) as answer:
                _check(answer, url)
                return self._body(answer, url, limit)

        return self._twice(read, url)

    def read_at(self, url: str, offset: int, length: int, size: int, version: str) -> bytes:
        """A part of a page, which must still have this size (in bytes; 0 for any) and version. Raises OSError."""
        wanted = in_range(size or offset + length, offset, length)

        def read() -> bytes:
            if not wanted:
                if self.look(url)["version"] != version:
                    raise Changed
                return b""
            with self._asked("GET", url, Range=f"bytes={offset}-{offset + wanted - 1}") as answer:
                if answer.status == 416 and size:
                    raise Changed
                _check(answer, url)
                first, total = _span(answer, url)
                # The ETag counts, too: `version_of` prefers it for as long as a page is new.
                if version not in (version_of(answer.headers, size), _tag(answer.headers)) or size not in (0, total):
                    raise Changed
                data = self._body(answer, url, wanted)
                if first != offset or len(data) != in_range(total, offset, wanted):
                    raise OSError(f"{url}: the server sent a different range than requested")
                return data

        return self._twice(read, url)

    def _twice(self, read: Callable[[], bytes], url: str) -> bytes:
        """The result of `read`, with a second try if the body breaks off. (Refused connections do not get here.)"""
        with self._os_errors(url):
            try:
                return read()
            except (ProtocolError, ReadTimeoutError):
                return read()

    def _body(self, answer: urllib3.BaseHTTPResponse, url: str, limit: int | None) -> bytes:
        _check_size(_length(answer), limit)
        data, until = bytearray(), time.monotonic() + self.whole
        while chunk := answer.read1(_CHUNK):
            data += chunk
            _check_size(len(data), limit)
            if time.monotonic() > until:
                raise TimeoutError(f"{url} took more than {self.whole:g} s")
        return bytes(data)

    @contextmanager
    def _asked(self, method: str, url: str, **more: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a request, its body not yet read. A body that is not read ends the connection."""
        parts = urlsplit(_as_sent(url))
        headers = {"User-Agent": AGENT, **more}
        if "@" in parts.netloc:
            headers |= urllib3.make_headers(basic_auth=unquote(parts.netloc.rpartition("@")[0]))
        answer = _pool(_proxy(parts.scheme, parts.hostname or "")).request(
            method,
            parts.geturl(),
            headers=headers,
            timeout=urllib3.Timeout(connect=self.connect, read=self.silence),
            retries=self._retries,
            preload_content=False,
        )
        try:
            yield answer
        finally:
            answer.close()

    @contextmanager
    def _os_errors(self, url: str) -> Iterator[None]:
        """Turn urllib3's errors into OSError, with the cause in a few words."""
        try:
            yield
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(cause, ReadTimeoutError):
                raise TimeoutError(f"{url}: no answer for {self.silence:g} s") from error
            if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
                raise TimeoutError(f"{url}: no connection within {self.connect:g} s") from error
            raise ConnectionError(f"{url}: {_why(cause)}") from error
        except ValueError as error:  # not a valid address
            raise OSError(f"{url} is not an address: {first_line(error)}") from error

    @property
    def _retries(self) -> urllib3.Retry:
        again = self.tries - 1
        return urllib3.Retry(
            total=None,
            connect=again,
            read=again,
            status=again,
            other=0,
            redirect=REDIRECTS,
            status_forcelist=TRANSIENT,
            raise_on_status=False,
            backoff_factor=self.pause / 2,
            backoff_max=self.longest_pause,
            retry_after_max=self.longest_pause,  # type: ignore[arg-type]
        )


def version_of(headers: Mapping[str, str], size: int) -> str:
    """A page's version: its time and length, as for `wget --timestamping`; else its ETag, else its length.

    The ETag comes second because servers that share a name often have different ones for the same page. A time does
    not count if it is the time of the answer, or a placeholder (1970, 1980).
    """
    tag = _tag(headers)
    changed, now = _date(headers.get("Last-Modified")), _date(headers.get("Date")) or datetime.now(UTC)
    if changed and (not tag or (changed.year > 1980 and now - changed >= _SETTLED)):
        return f"{changed.isoformat()}-{size:x}"
    return tag or f"-{size:x}"


def _tag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag", "").strip().removeprefix("W/").strip('"')


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _length(answer: urllib3.BaseHTTPResponse) -> int:
    """The length of a body by its header: 0 without one, and for a compressed body."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Content-Encoding" not in answer.headers else 0


def _span(answer: urllib3.BaseHTTPResponse, url: str) -> tuple[int, int]:
    """Where the range of an answer begins, and the length of the whole page. Raises OSError for a whole page."""
    found = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status != 206 or not found or "Content-Encoding" in answer.headers:
        raise OSError(f"{url}: the server does not serve ranges of this page")
    return int(found[1]), int(found[2])


def _check(answer: urllib3.BaseHTTPResponse, url: str) -> None:
    if answer.status in (404, 410):
        raise FileNotFoundError(f"not found: {url}")
    if answer.status >= 400:
        raise OSError(f"{url}: the server answered {answer.status} {answer.reason or ''}".rstrip())


def _check_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise TooLarge(f"{size:,} bytes or more, over the limit of {limit:,} bytes")


def _as_sent(url: str) -> str:
    """An address as browsers send it: with what is not ASCII, spaces and stray percent signs encoded."""
    scheme, _, rest = page_of(url).partition("://")
    host, path = re.fullmatch(r"([^/?]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if not host.isascii():
        host = host.encode("idna").decode()
    path = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path)
    return f"{scheme}://{host}{quote(path, safe=_KEPT)}"


def _proxy(scheme: str, host: str) -> str:
    """The proxy for a host, if there is one."""
    proxy = urllib.request.getproxies().get(scheme, "")
    if not proxy or urllib.request.proxy_bypass(host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


@cache
def _pool(proxy: str) -> urllib3.PoolManager:
    # Made once, since it takes a while, with the certificates that Python trusts or that SSL_CERT_FILE names.
    settings: dict[str, Any] = {"num_pools": 64, "maxsize": CONNECTIONS, "ssl_context": ssl.create_default_context()}
    if not proxy:
        return urllib3.PoolManager(**settings)
    login = urlsplit(proxy).netloc.rpartition("@")[0]
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)


def _why(cause: BaseException) -> str:
    below = cause.__cause__ or (cause.args[-1] if cause.args else None)
    if isinstance(cause, NameResolutionError):
        return "the host is not known"
    if isinstance(below, IncompleteRead):
        return "the answer broke off"
    if isinstance(cause, SSLError):
        return f"no secure connection: {first_line(cause)}"
    return first_line(below if isinstance(below, OSError) else cause)
