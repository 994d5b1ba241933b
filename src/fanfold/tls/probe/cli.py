"""`fanfold tls probe`: the command."""

import sys
from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Json
from fanfold.cli.show import leaving_nothing
from fanfold.errors import UsageError
from fanfold.tls import lab
from fanfold.tls.probe import show
from fanfold.tls.probe.known import known as known_clients


def probe(
    client: Annotated[
        tuple[str, ...],
        Parameter(
            help="The client's command line, behind --, with {url}, or {host} or {ip} and {port}; {ca} is what it has "
            "to trust.",
            allow_leading_hyphen=True,
            show_default=False,
        ),
    ] = (),
    /,
    *,
    http: Annotated[bool, Parameter(negative="", help="Accept only if it also sends a request.")] = False,
    timeout: Annotated[float, Parameter(help="Seconds that it has each time; then it hangs.")] = 8.0,
    limits_only: Annotated[bool, Parameter(negative="", help="Do not try the schemes of the zoo.")] = False,
    known: Annotated[bool, Parameter(negative="", help="Show what clients are known to accept.")] = False,
    json: Json = False,
) -> int:
    """Find how many certificates a TLS client accepts, how many bytes of them, and which signature schemes.

    For example: `fanfold tls probe -- curl -sS --cacert {ca} {url}`
    """
    if known and client:
        raise UsageError("--known shows a table; it takes no client. Leave one of them out.")
    if known:
        show.known(known_clients(), json)
        return 0
    if sys.platform != "linux":
        raise UsageError(
            f"Clients are probed on Linux, not on {sys.platform}. See what is known: fanfold tls probe --known"
        )
    lab.stack()
    from fanfold.tls.probe import probe as probing  # needs the extra

    with leaving_nothing(), show.asking() as notice:
        found = probing.probe(client, http=http, timeout=timeout, limits_only=limits_only, notice=notice)
    show.probed(found, json)
    return 0
