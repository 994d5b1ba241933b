"""Who may ask: this machine's user, with the token that was printed, from the page itself.

A page of the web can make a browser send requests to this server, and a name of its own can lead here (DNS rebinding).
So every request needs a Host that is ours, all but the first the cookie with the token, and a POST the Origin and a
header that other sites cannot send.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer. The page has no script or style inside it, is shown in no other page, and loads only from here."""

_NO_TOKEN = "Open the address that `fanfold images view` printed: it has the token of this page."


@dataclass(frozen=True)
class Access:
    """What a request must have."""

    port: int
    host: str = "127.0.0.1"
    """The address listened at."""
    names: tuple[str, ...] = ()
    """Further names that lead to this server."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))  # 128 bits

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies do not know ports, and two pages may be open."""
        return f"fanfold-{self.port}"

    @property
    def address(self) -> str:
        """The address to open."""
        return f"http://{_shown(self.host)}:{self.port}/?t={self.token}"

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this server."""
        if host in self.names:
            return True
        name, _, port = host.rpartition(":")
        if port != str(self.port):
            return False
        if name in ("127.0.0.1", "localhost", "[::1]", _shown(self.host), *self.names):
            return True
        return not is_loopback(self.host) and _is_address(name)  # a number is not a name that leads elsewhere later

    def admits(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(token.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _shown(host: str) -> str:
    """A host as it stands in an address. Of a server that listens everywhere, this machine's."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


class Guard:
    """Lets requests through to `app` that `access` allows, and gives every answer the headers above."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification: https://asgi.readthedocs.io/en/latest/specs/www.html."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(scope)
        await (answer or self.app)(scope, receive, headed)

    def _answer(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass; None for one that may."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.access.is_ours(host):
            return _refused(f"This server is not called {host[:200]!r}. `--allow-host NAME` allows another name.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refused("Only GET and POST are answered here.", 405)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("t", [""])[0] if scope["path"] == "/" else ""
        if given and self.access.admits(given):
            return self._welcome()
        if not self.access.admits(cookie_parser(headers.get("cookie", "")).get(self.access.cookie, "")):
            return _refused(_NO_TOKEN)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return _refused("Another site's page asked for this.")
        if scope["method"] == "POST" and (headers.get("origin") != f"http://{host}" or headers.get("x-fanfold") != "1"):
            return _refused("A POST needs this page's Origin, and the header X-Fanfold: 1.")
        return None

    def _welcome(self) -> Response:
        """Keep the token in a cookie, so that it leaves the address."""
        answer = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        answer.set_cookie(self.access.cookie, self.access.token, httponly=True, samesite="strict", path="/")
        return answer


def _refused(why: str, status: int = 403) -> Response:
    return JSONResponse({"error": why}, status)
