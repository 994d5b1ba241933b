"""A test tool: a Lambda endpoint that calls our handler in this process, and a Step Functions that calls the endpoint.

moto runs a state machine's definition on request, and looks for Lambda at its own address: localhost and the port in
MOTO_PORT. This endpoint listens there.
"""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dynamo_servers
import pytest

Handler = Callable[[Any, Any], dict[str, Any]]


class Context:
    """The part of AWS's context that our handler uses."""

    def __init__(self, seconds: float = 900.0) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


class LambdaServer:
    """The endpoint: Invoke, for any function name; a context manager."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.heard: list[Any] = []
        """The events that it was invoked with, in order."""
        self.declines: list[tuple[int, str]] = []
        """Status and error of the next answers, which replace an invocation."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _requests(self))
        self.port = int(self._http.server_address[1])

    def __enter__(self) -> "LambdaServer":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def invoke(self, event: Any) -> tuple[dict[str, str], Any]:
        """Headers and content of an answer: the handler's result, or its exception in Lambda's form."""
        self.heard.append(event)
        try:
            return {}, json.loads(json.dumps(self.handler(event, Context())))
        except Exception as error:
            told = {"errorMessage": str(error), "errorType": type(error).__name__}
            return {"X-Amz-Function-Error": "Unhandled"}, told


def _requests(server: LambdaServer) -> type[BaseHTTPRequestHandler]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if server.declines:
                status, error = server.declines.pop(0)
                self._answer(status, {"x-amzn-ErrorType": error}, {"message": error})
            else:
                self._answer(200, *server.invoke(event))

        def _answer(self, status: int, headers: dict[str, str], content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "x-amzn-RequestId": "0", "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    return Requests


@contextmanager
def step_functions(functions: LambdaServer) -> Iterator[str]:
    """A Step Functions server that runs executions and calls that endpoint; its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_PORT", str(functions.port))
        with dynamo_servers.moto() as address:
            told = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
            urllib.request.urlopen(f"{address}/moto-api/config", data=told, timeout=5).close()
            yield address
