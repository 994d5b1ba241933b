"""The server's answers, by address: docs/view.md lists them. Every answer about rows is of one version of the table."""

import gzip
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial, reduce
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fanfold.core.table import Table
from fanfold.errors import FanfoldError, UsageError
from fanfold.images.search.rows import Indices
from fanfold.images.viewer import duplicates, facets, questions
from fanfold.images.viewer.decoder import Helpers, Undecodable
from fanfold.images.viewer.facets import Facet
from fanfold.images.viewer.guard import Access, Guard
from fanfold.images.viewer.kept import Kept
from fanfold.images.viewer.live import Live
from fanfold.images.viewer.mapped import Maps
from fanfold.images.viewer.pictures import Pictures, kind_of
from fanfold.images.viewer.questions import Selection
from fanfold.images.viewer.tables import Tables, Version, quoted
from fanfold.images.viewer.thumbnails import SIDE, Thumbnails
from fanfold.images.viewer.words import Words
from fanfold.machine import cores

MOST_BYTES = 32 << 20
"""Of a picture that is sent."""
JPEGS = {"thumb": (SIDE, "thumb"), "middle": (640, "whole"), "picture": (2048, "whole")}
"""The pictures made here, by address: pixels of the longest side, and what is made (see `decoder.answer`)."""
PAGE = 50
"""Failures, or groups of near-duplicates, in an answer."""
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_KEEP = {"Cache-Control": "private, max-age=86400"}
_CHANGING = {"Cache-Control": "no-store"}


class Viewer:
    """What serves one table."""

    def __init__(self, tables: Tables, *, fetch: bool = False, on_disk: bool = True) -> None:
        metadata = tables.newest().metadata
        options = json.loads(metadata.get("fanfold.options", "{}"))
        self.tables = tables
        self.max_pixels = int(options.get("max_pixels", 1 << 27))
        self.pictures = Pictures(metadata.get("fanfold.root", ""), fetch)
        self.helpers, self.models = Helpers(min(4, cores())), Helpers(1)
        self.thumbnails = Thumbnails(self.helpers, self.max_pixels, self.pictures.read, on_disk)
        self.selections: Kept[Selection] = Kept()
        self.facets_of: Kept[list[Facet]] = Kept()
        self.comparisons, self.maps, self.words = duplicates.Comparisons(), Maps(), Words()
        self.choices: dict[str, Callable[[Version, str], Indices]] = {
            "find": lambda version, text: questions.named_like(version, questions.check_text(text)),
            "where": questions.meeting,
            "label": self.words.showing,
            "area": self.maps.within,
        }
        self.live = Live(tables)
        self.helpers.start()

    def close(self) -> None:
        """Let events end, and end the helpers."""
        self.live.stopping = True
        self.helpers.close()
        self.models.close()

    # -- questions ----------------------------------------------------------------------------------------------------

    def table(self, _request: Request) -> Response:
        """What the page starts from."""
        version = self.tables.newest()
        self.words.look(version)
        return _json(
            {
                "version": version.name,
                "rows": version.rows,
                "table": self.tables.table,
                "database": self.tables.database,
                "source": self.pictures.root,
                "model": version.metadata.get("fanfold.model", ""),
                "words": self.words.knows(version),
                "index": questions.index_due(version),
            }
        )

    def rows(self, request: Request) -> Response:
        """Rows `from` to `from` + `count`, of all or of a selection."""
        version = self._version(request)
        start = _number(request, "from", 0, 0, 1 << 40)
        count = _number(request, "count", 100, 1, questions.MOST_ROWS)
        some = self._selection(request, version)
        answer = {"total": len(some.rows), "about": some.about} if some else {"total": version.rows}
        rows = self._named(version, questions.listed(version, some, start, count))
        return _json(_of(version, answer | {"rows": rows}))

    def chosen(self, request: Request) -> Response:
        """A bit for each row, in the table's order, lowest first: whether it is in a selection."""
        version = self._version(request)
        some, bits = self._selection(request, version), np.zeros(version.rows, bool)
        bits[some.rows if some else slice(None)] = True
        return _binary(np.packbits(bits, bitorder="little").tobytes())

    def _selection(self, request: Request, version: Version) -> Selection | None:
        """The rows that a question is about; None for all."""
        asked = {name: text for name, text in request.query_params.items() if name in (*self.choices, "words")}
        if not asked:
            return None
        return self.selections.get((version.name, json.dumps(asked)), lambda: self._chosen(version, asked))

    def _chosen(self, version: Version, asked: dict[str, str]) -> Selection:
        parts = [choose(version, asked[name]) for name, choose in self.choices.items() if name in asked]
        rows = reduce(partial(np.intersect1d, assume_unique=True), parts) if parts else None
        if "words" in asked:
            return self.words.find(version, questions.check_text(asked["words"]), rows)
        assert rows is not None
        return Selection(rows)

    def _named(self, version: Version, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same rows, with their best labels if these are at hand."""
        for row, label in zip(rows, self.words.best(version, [row["row"] for row in rows]), strict=True):
            if label:
                row["label"] = label
        return rows

    def understood(self, request: Request) -> Response:
        """What a text is taken for."""
        version = self._version(request)
        text = questions.check_text(request.query_params.get("q", ""))
        return _json(_of(version, self.words.understand(version, text)))

    def facets(self, request: Request) -> Response:
        """What the rows may be filtered by."""
        version = self._version(request)
        return _json(_of(version, {"facets": self._facets(version), "columns": facets.columns(version)}))

    def _facets(self, version: Version) -> list[Facet]:
        labels = self.words.at_hand(version)
        return self.facets_of.get((version.name, str(bool(labels))), lambda: facets.facets(version, labels))

    def map(self, request: Request) -> Response:
        """What there is of a map, or what it takes to make one; and what may colour it."""
        version = self._version(request)
        by = [facet["name"] for facet in self._facets(version)]
        return _json(_of(version, self.maps.about(version) | {"by": by}))

    def places(self, request: Request) -> Response:
        """The places of all rows on the map."""
        return _binary(self.maps.places(self._version(request)))

    def colours(self, request: Request) -> Response:
        """The group of each row by a facet, a byte each."""
        version, by = self._version(request), request.query_params.get("by", "")
        facet = next((facet for facet in self._facets(version) if facet["name"] == by), None)
        if facet is None:
            raise UsageError(f"The pictures cannot be grouped by {by[:40]!r}.")
        return _binary(facets.groups(version, self.words.at_hand(version), facet).tobytes())

    def row(self, request: Request) -> Response:
        """All that the table knows about a row."""
        version = self._version(request)
        found = questions.facts(version, self._row(request, version))
        if found is None:
            raise HTTPException(404, "This row does not exist.")
        return _json(_of(version, found | {"labels": self.words.described(version, found["row"])}))

    def near(self, request: Request) -> Response:
        """The rows nearest to a row."""
        version, k = self._version(request), _number(request, "k", 60, 1, questions.MOST_K)
        row = self._row(request, version)
        vector = questions.vector_of(version, row)
        if vector is None:
            raise HTTPException(404, "This row does not exist.")
        asked = {name: text for name, text in request.query_params.items() if name in ("where", "label")}
        among = self._chosen(version, asked).rows if "label" in asked else None
        where = asked.get("where") if among is None else None
        hits = [hit for hit in questions.near(version, vector, k + 1, where, among) if hit["row"] != row][:k]
        return _json(_of(version, {"row": row, "rows": self._named(version, hits)}))

    async def near_picture(self, request: Request) -> Response:
        """The rows nearest to the picture that is sent."""
        k = _number(request, "k", 60, 1, questions.MOST_K)
        data = await _body(request)
        return await run_in_threadpool(self._near_picture, data, k)

    def _near_picture(self, data: bytes, k: int) -> Response:
        version = self.tables.newest()
        asked = {"what": "embed", "metadata": version.metadata, "table": self.tables.table}
        try:
            answer = self.models.ask(asked | {"database": self.tables.database, "max_pixels": self.max_pixels}, data)
        except Undecodable as error:
            raise HTTPException(415, str(error)) from None
        hits = questions.near(version, np.frombuffer(answer, np.float32), k)
        return _json(_of(version, {"rows": self._named(version, hits)}))

    def duplicates(self, request: Request) -> Response:
        """Groups of near-duplicates; or how long it would take to compare, or how far that is."""
        version = self._version(request)
        threshold = _fraction(request, "threshold", 0.95)
        page = _number(request, "page", 0, 0, 1 << 30)
        found = self.comparisons.get(version, threshold, start=request.method == "POST")
        if found is None:
            return _json(_of(version, {"takes": round(duplicates.takes(version))}))
        if found.error:
            raise FanfoldError(found.error)
        if found.groups is None:
            return _json(_of(version, {"fraction": round(found.fraction, 3)}))
        some = questions.grouped(version, found.groups[page * PAGE : (page + 1) * PAGE])
        for group in some:
            self._named(version, group["rows"])
        return _json(_of(version, {"total": len(found.groups), "page": page, "size": PAGE, "groups": some}))

    def failures(self, request: Request) -> Response:
        """Failed pictures: stage, reason and time."""
        page = _number(request, "page", 0, 0, 1 << 30)
        stage = request.query_params.get("stage", "")
        table = Table.open(self.tables.database, "failures")
        counts: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        if table:
            ours = f"`table` = {quoted(self.tables.table)}"
            stages = table.dataset.to_table(columns=["stage"], filter=ours)["stage"].value_counts().to_pylist()
            counts = {one["values"]: one["counts"] for one in stages}
            wanted = f"{ours} AND stage = {quoted(stage)}" if stage else ours
            columns = ["key", "stage", "error", "message", "when"]
            found = table.dataset.to_table(columns=columns, filter=wanted, offset=page * PAGE, limit=PAGE)
            rows = [{name: questions.plain(value) for name, value in row.items()} for row in found.to_pylist()]
        total = counts.get(stage, 0) if stage else sum(counts.values())
        return _json({"total": total, "page": page, "size": PAGE, "stages": counts, "rows": rows})

    # -- pictures -----------------------------------------------------------------------------------------------------

    def picture(self, request: Request) -> Response:
        """A row's picture: itself, if that is asked for and browsers show its kind; else a JPEG made here."""
        what, version = request.url.path.split("/")[1], self._version(request)
        columns = [name for name in ("uri", "version") if name in version.facts]
        found = version.at([_row_number(request.path_params["row"])], columns)
        if not found:
            raise HTTPException(404, "This row does not exist.")
        uri, state = found[0].get("uri") or "", found[0].get("version") or ""
        if what == "picture" and (kind := kind_of(data := self.pictures.read(uri))):
            return Response(data, media_type=kind, headers=_KEEP)
        make = self.thumbnails.get if what == "thumb" else self.thumbnails.made  # large ones are on disk only
        return Response(make(uri, state, *JPEGS[what]), media_type="image/jpeg", headers=_KEEP)

    # -- the page -----------------------------------------------------------------------------------------------------

    def page(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params.get("name", "index.html")
        kind = _TYPES.get(name.rpartition(".")[2])
        file = files(__package__) / "static" / name
        if kind is None or "/" in name or name.startswith(".") or not file.is_file():
            raise HTTPException(404, "There is nothing at this address.")
        content, headers = file.read_bytes(), {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
        return Response(content, media_type=kind, headers=headers)

    async def events(self, _request: Request) -> Response:
        """News, as they come."""
        return StreamingResponse(self.live.events(), media_type="text/event-stream", headers=_CHANGING)

    # -- what is asked for --------------------------------------------------------------------------------------------

    def _version(self, request: Request) -> Version:
        name = request.query_params.get("v")
        return self.tables.at(name) if name else self.tables.newest()

    def _row(self, request: Request, version: Version) -> int:
        if "key" not in request.query_params:
            return _row_number(request.query_params.get("row", ""))
        key = request.query_params["key"]
        found = version.of([key])
        if key not in found:
            raise HTTPException(404, "The table has no picture of this name.")
        return found[key]


def app(viewer: Viewer, access: Access) -> Starlette:
    """The application."""
    routes: list[tuple[str, Callable[[Request], Response | Awaitable[Response]], str]] = [
        ("/", viewer.page, "GET"),
        ("/static/{name}", viewer.page, "GET"),
        ("/api/table", viewer.table, "GET"),
        ("/api/rows", viewer.rows, "GET"),
        ("/api/chosen", viewer.chosen, "GET"),
        ("/api/map", viewer.map, "GET"),
        ("/api/map/places", viewer.places, "GET"),
        ("/api/map/colours", viewer.colours, "GET"),
        ("/api/row", viewer.row, "GET"),
        ("/api/words", viewer.understood, "GET"),
        ("/api/facets", viewer.facets, "GET"),
        ("/api/near", viewer.near, "GET"),
        ("/api/near", viewer.near_picture, "POST"),
        ("/api/duplicates", viewer.duplicates, "GET"),
        ("/api/duplicates", viewer.duplicates, "POST"),
        ("/api/failures", viewer.failures, "GET"),
        *((f"/{what}/{{row}}", viewer.picture, "GET") for what in JPEGS),
        ("/events", viewer.events, "GET"),
    ]
    made = Starlette(
        routes=[Route(path, answer, methods=[method]) for path, answer, method in routes],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            HTTPException: lambda _, error: _error(error.detail, error.status_code),
            Undecodable: lambda _, error: _error(str(error), 404),
            UsageError: lambda _, error: _error(_for_the_page(str(error)), 400),
            FanfoldError: lambda _, error: _error(str(error), 503),
            ClientDisconnect: lambda *_: Response(status_code=400),
            Exception: lambda _, error: _error(f"The server made a mistake: {type(error).__name__}.", 500),
        },
    )
    made.router.redirect_slashes = False
    return made


def _of(version: Version, answer: dict[str, Any]) -> dict[str, Any]:
    return {"v": version.name, **answer}


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=_CHANGING)


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream", headers=_CHANGING)


def _error(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status, headers=_CHANGING)


def _for_the_page(message: str) -> str:
    """A sentence about the command's flag, about the field of the page."""
    message = message.replace("--where takes", "A condition takes").replace("--where cannot", "This condition cannot")
    return re.sub(r'--where "(.*)"$', r"\1", message)


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isdecimal() or len(given) > 15 or not least <= int(given) <= most:
        raise UsageError(f"'{name}' takes a whole number from {least:,} to {most:,}, not {given[:40]!r}.")
    return int(given)


def _fraction(request: Request, name: str, default: float) -> float:
    given = request.query_params.get(name, str(default))
    with suppress(ValueError):
        if 0 < float(given) <= 1:
            return float(given)
    raise UsageError(f"'{name}' takes a cosine above 0 and at most 1, not {given[:40]!r}.")


def _row_number(given: str) -> int:
    if not given.isdecimal() or len(given) > 19 or not given.isascii():
        raise HTTPException(400, f"A row is a whole number, not {given[:40]!r}.")
    return int(given)


async def _body(request: Request) -> bytes:
    """The bytes that are sent; what is too much is read, up to a limit, so that the client hears why it is refused."""
    data, count = bytearray(), 0
    async for part in request.stream():
        count += len(part)
        if count <= MOST_BYTES:
            data += part
        elif count > 4 * MOST_BYTES:
            break
    if count > MOST_BYTES:
        raise HTTPException(413, f"A picture to search with may have {MOST_BYTES:,} bytes at most.")
    return bytes(data)
