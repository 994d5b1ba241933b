"""`fanfold images view`: the page of a table."""

from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.errors import MissingExtra, UsageError
from fanfold.images.cli.tables import Table, opened
from fanfold.storage import absolute


def view(
    database: Database,
    /,
    *,
    table: Table = "images",
    port: Annotated[
        int | None, Parameter(help="The port to listen at; by default the first free one from 8686.")
    ] = None,
    host: Annotated[str, Parameter(help="The address to listen at; by default only this machine can connect.")] = (
        "127.0.0.1"
    ),
    allow_host: Annotated[
        list[str] | None,
        Parameter(negative="", help="A name by which browsers may reach the page; repeat the flag for several."),
    ] = None,
    open: Annotated[bool, Parameter(help="Open the browser, if there is a display.")] = True,
    cache: Annotated[bool, Parameter(help="Keep thumbnails in the cache folder.")] = True,
    fetch: Annotated[
        bool, Parameter(negative="", help="Also read pictures from the web, and from wherever a list names them.")
    ] = False,
    json: Json = False,
) -> int:
    """Show a table of pictures in your browser: look, search, and see failures and runs. Nothing is changed.

    For example: `fanfold images view db`
    """
    try:
        from fanfold.images.viewer import server
        from fanfold.images.viewer.app import Viewer
        from fanfold.images.viewer.guard import Access
        from fanfold.images.viewer.tables import Tables
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("starlette", "uvicorn"):
            raise MissingExtra("view", "`fanfold images view`") from error
        raise
    if port is not None and not 0 <= port < 1 << 16:
        raise UsageError(f"--port takes a number from 0 to 65535, not {port}.")
    rows = opened(database, table).count_rows()
    viewer = Viewer(Tables(absolute(database), table), fetch=fetch, on_disk=cache)
    listener = server.listen(host, port)
    access = Access(listener.getsockname()[1], host, tuple(allow_host or ()))
    if warning := server.warning(host):
        shown.note(warning)

    def started() -> None:
        if json:
            shown.put_json({"address": access.address, "table": table, "rows": rows, "source": viewer.pictures.root})
        else:
            _started(access.address, table, rows, viewer.pictures.root)
        if open:
            server.open_browser(access.address)

    server.serve(viewer, access, listener, started)
    return 0


def _started(address: str, table: str, rows: int, root: str) -> None:
    source = shown.printable(root) if root else "a list of addresses"
    pictures = f"{rows:,} picture{'' if rows == 1 else 's'}"
    shown.out.print(f"Table '{table}': {pictures} from {source}", soft_wrap=True)
    shown.out.print(address, soft_wrap=True)
    shown.note("Open this address in a browser of this machine. Ctrl-C stops the page.")
