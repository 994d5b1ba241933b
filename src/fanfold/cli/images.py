"""`fanfold images ...`: the verbs of the main job."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import lance
import numpy as np
from cyclopts import App, Parameter

import fanfold
from fanfold.account import account
from fanfold.cli import Database, Json, draw
from fanfold.cli.detached import leaving
from fanfold.cli.planned import leaving_nothing, show_plan
from fanfold.errors import StorageError, UsageError
from fanfold.estimate import preview
from fanfold.executors import Size, open_executor
from fanfold.images import Images, vector_index
from fanfold.images import search as searching
from fanfold.images.model import MIN_COSINE, MODELS
from fanfold.images.rows import dimension_of
from fanfold.job import load
from fanfold.ledger import check_recipe
from fanfold.plan import Options
from fanfold.planner import Tally
from fanfold.source import Ids, open_source, reader
from fanfold.storage import is_url

app = App(name="images")

Source = Annotated[
    str,
    Parameter(help="A folder, a picture, a text file of paths or URLs, or an s3://, gs://, az:// or http(s):// URL."),
]
Job = Annotated[Images, Parameter(name="*")]  # every field of the job is a flag
Table = Annotated[str, Parameter(help="The table's name.")]
Filled = Annotated[
    str | None,
    Parameter(help="The table's name; `images` by default, on AWS Batch that of the deployment's model."),
]
Workers = Annotated[int | None, Parameter(help="Worker processes; one a core by default.")]
Crew = Annotated[Size, Parameter(name="*")]  # so is every field of this
TaskSize = Annotated[int, Parameter(help="Pictures a task at most: what is done again when a worker dies.")]
IdChoice = Annotated[
    Ids, Parameter(name="--id", help="What names a picture: its path (key) or its file name without ending (stem).")
]
On = Annotated[
    str,
    Parameter(
        help="Where to work: local; ray (started on this machine), ray://HOST:PORT, or ray:auto inside a cluster; "
        "aws-batch, or aws-batch:NAME for a deployment not called fanfold."
    ),
]
Mirror = Annotated[
    str, Parameter(help="A table elsewhere to keep in step: dynamodb://NAME; on AWS Batch the deployment has its own.")
]
MIRROR = "dynamodb://"
ADVICE = {
    "read": "reading waits for the disk or the network: more --workers wait at the same time",
    "decode": "smaller files, or more workers",
    "embed": "a GPU (--provider cuda), a smaller model (`fanfold images models`), or more workers",
}
"""What to do about the stage that takes most of the time."""
MinCosine = Annotated[
    float, Parameter(help="With int8: refuse a model whose vectors have a lower mean cosine with those of float32.")
]
RetryFailed = Annotated[bool, Parameter(negative="", help="Try pictures again that failed before.")]


@app.command
def embed(
    source: Source,
    database: Database,
    /,
    *,
    job: Job = Images(),  # noqa: B008 - frozen
    table: Filled = None,
    on: On = "local",
    size: Crew = Size(),  # noqa: B008 - frozen
    task_size: TaskSize = 1000,
    id: IdChoice = "key",
    retry_failed: RetryFailed = False,
    mirror: Mirror = "",
    min_cosine: MinCosine = MIN_COSINE,
    json: Json = False,
) -> int:
    """Turn pictures into vectors: those that are new or have changed. Run it again to resume or to update.

    For example: `fanfold images embed photos db`
    """
    executor, options = open_executor(on, size), Options(task_size, id, retry_failed, mirror)
    if job.precision == "int8":  # all else is right by now: what is calibrated is kept in the database
        from fanfold.images.quantize import calibrated

        where = table or job.name
        job = calibrated(job, source, database, where, _cosine(min_cosine), say=draw.note, reach=executor.reach)
    run = fanfold.run(job, source=source, database=database, table=table, executor=executor, **asdict(options))
    with leaving(run.directory), draw.progress(run.tally):
        for outcome in run:
            if outcome.error:
                draw.error(f"task {outcome.task} failed after {outcome.attempt} tries: {outcome.error}")
    report, ended = account(run.directory)
    draw.report(report, ended, json)
    return report.exit_code


def plan(
    source: Source,
    database: Database,
    /,
    *,
    job: Job = Images(),  # noqa: B008 - frozen
    table: Table = "images",
    workers: Workers = None,
    task_size: TaskSize = 1000,
    id: IdChoice = "key",
    retry_failed: RetryFailed = False,
    min_cosine: MinCosine = MIN_COSINE,
    prices: Annotated[Path | None, Parameter(help="A price table instead of fanfold/aws/prices.toml.")] = None,
    json: Json = False,
) -> int:
    """Say what `fanfold images embed` would do, how long it would take, and what it would cost on AWS.

    Nothing is written. Some pictures, drawn at random, are embedded to measure it.
    """
    tally, options = Tally(), Options(task_size, id, retry_failed)
    with leaving_nothing(), _settled_for_now(job, source, database, table, min_cosine) as job, draw.progress(tally):
        told = preview(
            job,
            source=source,
            database=database,
            table=table,
            workers=workers,
            prices=prices,
            tally=tally,
            before=time.process_time(),  # what starting the command took, and takes again for the run
            **asdict(options),
        )
    show_plan(told, json, ADVICE | ({} if job.fast else {"decode": "--fast takes less for large JPEGs"}))
    return 0


@contextmanager
def _settled_for_now(job: Images, source: str, database: str, table: str, min_cosine: float) -> Iterator[Images]:
    """The job as `embed` would do it; a model calibrated for that is gone with the block."""
    if job.precision != "int8":
        yield job
        return
    from fanfold.images.quantize import calibrated

    with TemporaryDirectory(prefix="fanfold-plan-") as folder:
        yield calibrated(job, source, database, table, _cosine(min_cosine), say=draw.note, folder=folder)


@app.command
def search(
    database: Database,
    query: Annotated[str, Parameter(help="A key in the table, or the path or URL of any picture.")],
    /,
    *,
    k: Annotated[int, Parameter(name=["-k", "--neighbours"], help="How many neighbours, from 1 up.")] = 10,
    exact: Annotated[bool, Parameter(negative="", help="Look at every vector; make and use no index.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find the pictures most like one picture. A table of 100,000 rows or more is given an index first.

    For example: `fanfold images search db cat.png -k 5`
    """
    if k < 1:
        raise UsageError(f"-k takes a number from 1 up, not {k}.")
    dataset = _opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty: there is nothing to find.")
    vector = query_vector(dataset, table, query)
    if not exact and (what := vector_index.due(dataset)):
        try:
            dataset = _indexed(dataset, what, "`--exact` searches without")
        except StorageError as error:
            draw.note(f"{error} Searching without.")
    draw.hits(searching.nearest(dataset, vector, k, exact=exact), json)
    return 0


@app.command
def index(
    database: Database,
    /,
    *,
    rebuild: Annotated[bool, Parameter(negative="", help="Make it anew, from the rows there are now.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Make the index that searches of large tables use, or bring it up to date. `search` does so when it is due.

    For example: `fanfold images index db`
    """
    dataset = _opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty: there is nothing to index.")
    known = vector_index.describe(dataset)
    if rebuild or known is None:
        dataset = _indexed(dataset, "build", "once")
    elif known.unindexed:
        dataset = _indexed(dataset, "update", "rows that came since")
    draw.indexed(vector_index.describe(dataset), json)
    return 0


def _opened(database: str, table: str) -> lance.LanceDataset:
    """A table of vectors. Raises UsageError for any other."""
    dataset = fanfold.open_table(database, table)
    dimension_of(dataset)
    return dataset


def _indexed(dataset: lance.LanceDataset, what: vector_index.Due, hint: str) -> lance.LanceDataset:
    """The dataset with its index made or brought up to date, having said how long that takes."""
    draw.indexing(what, vector_index.needs(dataset, what), hint)
    if what == "update":
        return vector_index.update(dataset)
    with draw.share("indexing") as progress:
        return vector_index.build(dataset, progress)


@app.command
def duplicates(
    database: Database,
    /,
    *,
    threshold: Annotated[float, Parameter(help="The least cosine of two alike: above 0, up to 1.")] = 0.95,
    exact: Annotated[bool, Parameter(negative="", help="Compare all with all, however many there are.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Group pictures that are nearly the same.

    For example: `fanfold images duplicates db --threshold 0.98`
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold takes a cosine above 0 and up to 1, not {threshold}.")
    dataset = _opened(database, table)
    with draw.share("comparing") as progress:
        found = searching.duplicates(dataset, threshold, exact=exact, progress=progress)
    draw.groups(found, json)
    return 0


@app.command
def vectors(
    database: Annotated[str, Parameter(help="The database: a folder, a URL, or a mirror: dynamodb://NAME.")],
    /,
    *keys: Annotated[str, Parameter(help="Keys, as in the table. Put `--` before any that start with a dash.")],
    npy: Annotated[Path | None, Parameter(help="Write float32[n, dimension] to this .npy file instead.")] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Read vectors back.

    For example: `fanfold images vectors db cat.png --npy cat.npy`
    """
    if not keys:
        raise UsageError("Name at least one key. `fanfold images search DATABASE PICTURE` shows some.")
    found, matrix, missing = _vectors(database, table, keys)
    if missing:
        shown = ", ".join(draw.printable(key) for key in missing[:10])
        where = database if database.startswith(MIRROR) else f"table '{table}'"
        raise UsageError(f"{len(missing)} of {len(keys)} keys are not in {where}: {shown}")
    if npy:
        try:
            np.save(npy, matrix)
        except OSError as error:
            raise UsageError(f"Cannot write {npy}: {error.strerror}.") from error
        draw.out.print(f"{npy}: float32[{matrix.shape[0]}, {matrix.shape[1]}]", soft_wrap=True)
    else:
        draw.vectors(found, matrix, json)
    return 0


def _vectors(database: str, table: str, keys: Sequence[str]) -> tuple[list[str], searching.Vectors, list[str]]:
    if not database.startswith(MIRROR):
        return searching.vectors(_opened(database, table), keys)
    from fanfold.aws.dynamodb import DynamoTable

    return DynamoTable.open(database).get(keys)


@app.command
def quantize(
    source: Source,
    out: Annotated[Path, Parameter(help="The file to write, model.onnx: it can be given as --model.")],
    /,
    *,
    job: Job = Images(),  # noqa: B008 - frozen
    min_cosine: MinCosine = MIN_COSINE,
    json: Json = False,
) -> int:
    """Make the INT8 form of a model, calibrated on some of your pictures, and say how alike its vectors are.

    For example: `fanfold images quantize photos small.onnx`
    """
    if out.suffix != ".onnx":
        raise UsageError(f"The file to write must end in .onnx, and {out} does not.")
    from fanfold.images import quantize as quantizing

    made = quantizing.quantize(job, source, _cosine(min_cosine))
    try:
        out.write_bytes(made.content)
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from error
    if json:
        draw.put_json({"file": str(out)} | {key: value for key, value in asdict(made).items() if key != "content"})
    else:
        draw.out.print(f"{draw.harmless(str(out))}: {made}.", soft_wrap=True)
    return 0


def _cosine(threshold: float) -> float:
    if not 0 <= threshold <= 1:
        raise UsageError(f"--min-cosine takes a cosine from 0 to 1, not {threshold}.")
    return threshold


@app.command
def models(*, json: Json = False) -> int:
    """List what --model accepts by name; any file.onnx and hf://org/repo/path.onnx@revision work as well.

    For example: `fanfold images models`
    """
    draw.models([asdict(model) for model in MODELS], json)
    return 0


def query_vector(dataset: lance.LanceDataset, table: str, query: str) -> Any:
    """The vector of a key in the table, else of the picture at a path or URL. float32[dimension]."""
    key = query.encode(errors="replace").decode()  # a path that is not UTF-8 is no key
    _, matrix, missing = searching.vectors(dataset, [key])
    if not missing:
        return matrix[0]
    if not is_url(query) and not Path(query).is_file():
        raise UsageError(f"{query} is neither a key in table '{table}' nor a picture's path.")
    return _job_of(dataset, table).embed_one(_content(query))


def _content(address: str) -> bytes:
    source = open_source(address)
    items = list(islice(source.list(frozenset()), 2))
    if len(items) != 1:
        raise UsageError(f"{address} is not one picture. Name one by its path, its URL, or its key in the table.")
    (item,) = items
    try:
        return reader(source.root).read(item, limit=1 << 30)
    except OSError as error:
        raise UsageError(f"Cannot read {address}: {error}") from error


def _job_of(dataset: lance.LanceDataset, table: str) -> Images:
    """The job that made a table, ready to treat a query the same way."""
    metadata = {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}
    if metadata.get("fanfold.job") != Images.name:
        raise UsageError(f"Table '{table}' was not made by `fanfold images embed`.")
    job = load(Images.name, loads(metadata["fanfold.options"]))
    assert isinstance(job, Images)
    if job.precision == "int8":
        from fanfold.images.quantize import in_database

        job = in_database(job, dataset.uri.rpartition("/")[0])
    check_recipe(metadata, job, table, dataset.uri.rpartition("/")[0])
    return replace(job, provider="cpu")  # the GPU that made the table need not be here
