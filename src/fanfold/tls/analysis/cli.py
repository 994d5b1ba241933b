"""`fanfold tls analyze`: what pairs of handshakes show."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fanfold.cli import Json
from fanfold.cli.progress import fraction
from fanfold.cli.show import leaving_nothing
from fanfold.tls.analysis import show
from fanfold.tls.analysis.analyze import QUANTILES
from fanfold.tls.analysis.analyze import analyze as analyzed
from fanfold.tls.analysis.quantiles import DRAWS
from fanfold.tls.network import MSS


def analyze(
    source: Annotated[str, Parameter(help="A store of `serve`, a CSV, JSON Lines or Parquet file, or a database.")],
    /,
    *,
    by: Annotated[Literal["n", "kB"], Parameter(help="Bins by dummy certificates, or by their thousands of bytes.")] = (
        "n"
    ),
    bins: Annotated[
        str | None, Parameter(help="A width, such as 5, or ranges, such as 1-9,10-29,30-59; each n by default.")
    ] = None,
    quantile: Annotated[
        list[float] | None, Parameter(help="A quantile, 0.5 and 0.75 by default; repeat for several.", negative="")
    ] = None,
    paired: Annotated[
        bool,
        Parameter(help="The slowdown is a quantile of the ratios of pairs, not a ratio of quantiles.", negative=""),
    ] = False,
    max_n: Annotated[int, Parameter(name="--max", help="The largest number of dummy certificates.")] = 99,
    dummy_bytes: Annotated[int, Parameter(help="Bytes of a dummy certificate.")] = 1000,
    initcwnd: Annotated[
        int | None, Parameter(help="The server's initial window in segments, if the data do not say it.")
    ] = None,
    base_bytes: Annotated[
        int | None, Parameter(name="--base", help="Bytes of a control's first flight, if the data do not say it.")
    ] = None,
    mss: Annotated[int, Parameter(help="Bytes of a segment.")] = MSS,
    draws: Annotated[int, Parameter(help="Resamples of the prefixes, for the intervals.")] = DRAWS,
    seed: Annotated[int, Parameter(help="Where random numbers start: the same seed gives the same numbers.")] = 1,
    out: Annotated[Path | None, Parameter(help="A folder for plots and a page with the numbers.")] = None,
    json: Json = False,
) -> int:
    """Analyze pairs of handshakes: the slowdown by size, what goes missing, and which sizes hurt.

    For example: `fanfold tls analyze exp.sqlite --out report`
    """
    left = f"The files in {out} may not be complete." if out else "Nothing was written."
    with leaving_nothing(left), fraction("Analyzing") as progress:
        found = analyzed(
            source,
            by=by,
            bins=bins,
            quantiles=tuple(quantile or QUANTILES),
            paired=paired,
            max_n=max_n,
            dummy_bytes=dummy_bytes,
            initcwnd=initcwnd,
            base_bytes=base_bytes,
            mss=mss,
            draws=draws,
            seed=seed,
            out=out,
            progress=progress,
        )
    show.analysis(found, json, out)
    return 0
