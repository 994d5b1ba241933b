"""Helper processes that decode: a picture that crashes a decoder ends one of them, not the page.

    server ──request, bytes──▶ python -m fanfold.images.viewer.decoder FD ──JPEG, vector or reason──▶ server

Requests and answers are bytes, never pickles: a helper that a picture has taken over can answer nothing that runs.
"""

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from io import BytesIO
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import LifoQueue
from typing import Any, Literal

TIMEOUT = 60.0
"""Seconds that a picture may take; a model's first use is included."""
QUALITY = 80
"""Of the JPEGs made."""


class Undecodable(Exception):
    """A picture that cannot be shown, and why, in a sentence."""


class Helpers:
    """A number of helper processes, each started when it is first needed."""

    def __init__(self, count: int) -> None:
        self._idle: LifoQueue[_Helper] = LifoQueue()
        self._all = [_Helper() for _ in range(count)]
        for helper in reversed(self._all):
            self._idle.put(helper)

    def ask(self, request: dict[str, Any], data: bytes) -> bytes:
        """What a helper answers: see `answer`. Raises Undecodable."""
        helper = self._idle.get()
        try:
            return helper.ask(request, data)
        finally:
            self._idle.put(helper)

    def start(self) -> None:
        """Start them all now, in the background, so that the first pictures need not wait."""
        for helper in self._all:
            threading.Thread(target=helper.start, daemon=True).start()

    def close(self) -> None:
        """End them."""
        for helper in self._all:
            helper.end()


class _Helper:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection[bytes, bytes] | None = None
        self._starting = threading.Lock()
        self._closed = False

    def ask(self, request: dict[str, Any], data: bytes) -> bytes:
        try:
            line = self._started()
            line.send_bytes(json.dumps(request).encode())
            line.send_bytes(data)
            if not line.poll(TIMEOUT):
                self.end(closed=False)
                raise Undecodable(f"it takes more than {TIMEOUT:.0f} s to decode")
            answer = line.recv_bytes()
        except (EOFError, OSError) as error:
            self.end(closed=False)
            raise Undecodable("its decoder crashed") from error
        if answer[:1] != b"+":
            raise Undecodable(answer[1:].decode(errors="replace"))
        return answer[1:]

    def start(self) -> None:
        with suppress(OSError):
            self._started()

    def _started(self) -> "Connection[bytes, bytes]":
        with self._starting:
            if self._closed:
                raise OSError("the server is stopping")
            if self._line is None:
                ours, theirs = Pipe()
                # -P: a folder of pictures may hold a file called PIL.py.
                command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
                quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **quiet)  # type: ignore[call-overload]
                theirs.close()
                self._line = ours
            return self._line

    def end(self, closed: bool = True) -> None:
        with self._starting:
            self._closed = self._closed or closed
            if self._process is not None and self._line is not None:
                self._process.kill()
                self._process.wait()
                self._line.close()
            self._process = self._line = None


# -- in the helper ----------------------------------------------------------------------------------------------------


def answer(request: dict[str, Any], data: bytes) -> bytes:
    """A JPEG of the middle square (`thumb`) or of the whole picture (`whole`); or its vector (`embed`), float32.

    `size` is the longest side in pixels. Raises FanfoldError for bytes that are not a picture.
    """
    if request["what"] == "embed":
        _jpeg(data, 16, False, request["max_pixels"])  # what is not a picture is refused before a model is loaded
        vector: bytes = _model(request).embed_one(data).astype("float32").tobytes()
        return vector
    return _jpeg(data, request["size"], request["what"] == "whole", request["max_pixels"])


def _jpeg(data: bytes, size: int, whole: bool, max_pixels: int) -> bytes:
    import numpy as np
    from PIL import Image

    from fanfold.images.decode import View, decode

    pixels = np.empty((size, size, 3), np.uint8)
    fit: Literal["squash", "crop"] = "squash" if whole else "crop"
    facts = decode(data, pixels, View(size, 1.0, fast=True, max_pixels=max_pixels, fit=fit))
    image = Image.fromarray(pixels)
    if whole:  # it was squeezed into a square
        scale = min(1.0, size / max(facts.width, facts.height))
        image = image.resize((max(1, round(facts.width * scale)), max(1, round(facts.height * scale))))
    out = BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


_MODELS: dict[str, Any] = {}


def _model(request: dict[str, Any]) -> Any:
    """The model of a table; loaded once."""
    from fanfold.images.cli.tables import job_of

    known = json.dumps(request, sort_keys=True)
    if known not in _MODELS:
        _MODELS[known] = job_of(request["metadata"], request["table"], request["database"]).open()
    return _MODELS[known]


def main() -> None:
    """Answer requests until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    line = Connection(int(sys.argv[1]))
    with suppress(EOFError, OSError):
        while True:
            request, data = json.loads(line.recv_bytes()), line.recv_bytes()
            try:
                found = b"+" + answer(request, data)
            except Exception as error:
                found = b"-" + str(error).encode(errors="replace")
            line.send_bytes(found)


if __name__ == "__main__":
    main()
