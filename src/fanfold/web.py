"""Pages of the web: looked at and read as a browser would, with a bound on everything a server may do.

    look:  HEAD ──▶ its length and version    else GET, of which only the head is read
    read:  GET ──▶ the body, whole or not at all

An address is asked for as it is written, less its fragment. Servers and certificates are checked as urllib does, and
the same variables of the environment count: `https_proxy`, `no_proxy`, `SSL_CERT_FILE`.
"""

import re
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
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
from fanfold.storage import TooLarge, first_line, page_of

AGENT = f"fanfold/{fanfold.__version__}"
"""What servers see. Some refuse programs that do not say what they are."""
TRANSIENT = (429, 500, 502, 503, 504)
"""Answers after which a server is asked again."""
REDIRECTS = 10
CONNECTIONS = 16
"""Connections kept open to each host."""

_KEPT = "%/?@:!$&'()*+,;=[]|~-._\\^`{}"  # of an address, as it is written; all else is percent-encoded
_CHUNK = 1 << 18
_SETTLED = timedelta(seconds=2)  # a page this much older than the answer was not made for it (RFC 9110, 8.8.2.2)


@dataclass(frozen=True)
class Web:
    """How long servers are waited for, and how often they are asked."""

    connect: float = 5.0
    """Seconds until a connection is made."""
    silence: float = 15.0
    """Seconds for which a server may send nothing."""
    whole: float = 300.0
    """Seconds that a page may take."""
    tries: int = 3
    """Times that a page is asked for: when connections break, or a server says that it is busy."""
    pause: float = 0.5
    """Seconds before the third try; they double with each."""
    longest_pause: float = 10.0
    """Seconds that a server may ask to be left alone for (Retry-After)."""

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
        """A page's content, of at most `limit` bytes. Raises OSError; TooLarge as soon as it is known to be."""
        with self._os_errors(url):
            try:
                return self._read(url, limit)
            except (
                ProtocolError,
                ReadTimeoutError,
            ):  # the body broke off: connections that were refused do not get here
                return self._read(url, limit)

    def _read(self, url: str, limit: int | None) -> bytes:
        with self._asked("GET", url) as answer:
            _check(answer, url)
            _check_size(_length(answer), limit)
            data, until = bytearray(), time.monotonic() + self.whole
            while chunk := answer.read1(_CHUNK):
                data += chunk
                _check_size(len(data), limit)
                if time.monotonic() > until:
                    raise TimeoutError(f"{url} took more than {self.whole:g} s")
            return bytes(data)

    @contextmanager
    def _asked(self, method: str, url: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a request, its body unread. A body that stays unread ends the connection."""
        parts = urlsplit(_as_sent(url))
        headers = {"User-Agent": AGENT}
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
            raise ConnectionError(f"{url}: {_said(cause)}") from error
        except ValueError as error:  # an address that is none
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
    """What changes when a page does: time and length, as for `wget --timestamping`; else its ETag, else its length.

    The ETag comes second because servers that share a name often give each another one for the same page. A time
    is worth nothing if it is the time of the answer, or one that programs write for want of another (1970, 1980).
    """
    tag = headers.get("ETag", "").strip().removeprefix("W/").strip('"')
    changed, now = _date(headers.get("Last-Modified")), _date(headers.get("Date")) or datetime.now(UTC)
    if changed and (not tag or (changed.year > 1980 and now - changed >= _SETTLED)):
        return f"{changed.isoformat()}-{size:x}"
    return tag or f"-{size:x}"


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _length(answer: urllib3.BaseHTTPResponse) -> int:
    """How long a body is, as its server says: 0 if it does not say, or says so of a packed one."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Content-Encoding" not in answer.headers else 0


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
    """The proxy through which a host is reached; nothing for none."""
    proxy = urllib.request.getproxies().get(scheme, "")
    if not proxy or urllib.request.proxy_bypass(host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


@cache
def _pool(proxy: str) -> urllib3.PoolManager:
    # Made once, as it takes a while: with the certificates that Python trusts, or SSL_CERT_FILE names.
    settings: dict[str, Any] = {"num_pools": 64, "maxsize": CONNECTIONS, "ssl_context": ssl.create_default_context()}
    if not proxy:
        return urllib3.PoolManager(**settings)
    login = urlsplit(proxy).netloc.rpartition("@")[0]
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)


def _said(cause: BaseException) -> str:
    below = cause.__cause__ or (cause.args[-1] if cause.args else None)
    if isinstance(cause, NameResolutionError):
        return "the host is not known"
    if isinstance(below, IncompleteRead):
        return "the answer broke off"
    if isinstance(cause, SSLError):
        return f"no secure connection: {first_line(cause)}"
    return first_line(below if isinstance(below, OSError) else cause)
