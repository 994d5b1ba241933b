"""`fanfold images ...`: the verbs of the job, and its `run` and `plan`."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from json import loads
from pathlib import Path
from typing import Annotated, Any

import lance
import numpy as np
from cyclopts import App, Parameter

import fanfold
from fanfold.cli import Database, Json, described
from fanfold.cli import show as shown
from fanfold.cli.jobs import verbs
from fanfold.core.database import table_names
from fanfold.core.fit import check_recipe
from fanfold.errors import StorageError, UsageError
from fanfold.images import Images, show
from fanfold.images.calibration import Calibration, in_database, valid_cosine
from fanfold.images.models.model import MIN_COSINE, MODELS
from fanfold.images.search import neighbours as searching
from fanfold.images.search import vector_index
from fanfold.images.search.rows import dimension_of
from fanfold.job import load
from fanfold.source import open_source, reader
from fanfold.storage import absolute, is_url

app = App(name="images")
run, plan = verbs(Images, Calibration())
app.command(
    run,
    name="embed",
    help=described(
        "Turn new and changed pictures into vectors. Run it again to resume or to update.",
        "fanfold images embed photos db",
    ),
)

Job = Annotated[Images, Parameter(name="*")]  # every field of the job is a flag
Table = Annotated[str, Parameter(help="The table's name.")]
MIRROR = "dynamodb://"
MinCosine = Annotated[float, Parameter(help=Calibration.__dataclass_fields__["min_cosine"].metadata["help"])]


@app.command
def search(
    database: Database,
    query: Annotated[str, Parameter(help="A key in the table, or the path or URL of any picture.")],
    /,
    *,
    k: Annotated[int, Parameter(name=["-k", "--neighbours"], help="Number of neighbours.")] = 10,
    exact: Annotated[bool, Parameter(negative="", help="Use brute-force search, without the index.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find the pictures most similar to one picture. For a table of 100,000 rows or more, this builds an index first.

    For example: `fanfold images search db cat.png -k 5`
    """
    if k < 1:
        raise UsageError(f"-k takes a whole number of at least 1, not {k}.")
    dataset = _opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty. There is nothing to find.")
    vector = query_vector(dataset, table, query)
    if not exact and (what := vector_index.due(dataset)):
        try:
            dataset = _indexed(dataset, what, "`--exact` searches without it")
        except StorageError as error:
            shown.note(f"{error} Searching without the index.")
    show.hits(searching.nearest(dataset, vector, k, exact=exact), json)
    return 0


@app.command
def index(
    database: Database,
    /,
    *,
    rebuild: Annotated[bool, Parameter(negative="", help="Build the index again from all rows.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Build or update the index that searches of large tables use. `search` does this when needed.

    For example: `fanfold images index db`
    """
    dataset = _opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty. There is nothing to index.")
    known = vector_index.describe(dataset)
    if rebuild or known is None:
        dataset = _indexed(dataset, "build", "only once")
    elif known.unindexed:
        dataset = _indexed(dataset, "update", "new rows")
    show.indexed(vector_index.describe(dataset), json)
    return 0


def _opened(database: str, table: str) -> lance.LanceDataset:
    """A table of pictures' vectors. Raises UsageError for any other."""
    dataset = fanfold.open_table(database, table)
    maker = (dataset.schema.metadata or {}).get(b"fanfold.job", Images.name.encode()).decode()
    if maker != Images.name:
        raise UsageError(f"Table '{table}' was made by the job '{maker}', not by 'images'. {_tables_here(database)}")
    dimension_of(dataset)
    return dataset


def _tables_here(database: str) -> str:
    """A sentence with the tables of a database that have pictures, or how to make one."""
    opened = ((name, fanfold.open_table(database, name)) for name in table_names(absolute(database)))
    ours = [name for name, one in opened if (one.schema.metadata or {}).get(b"fanfold.job") == Images.name.encode()]
    if ours:
        return f"Choose a table of pictures with --table: {', '.join(ours)}."
    return f"Make a table of pictures with: fanfold images embed SOURCE {database}"


def _indexed(dataset: lance.LanceDataset, what: vector_index.Due, hint: str) -> lance.LanceDataset:
    """The dataset with its index built or updated; shows first how long that takes."""
    show.indexing(what, vector_index.needs(dataset, what), hint)
    if what == "update":
        return vector_index.update(dataset)
    with shown.fraction("indexing") as progress:
        return vector_index.build(dataset, progress)


@app.command
def duplicates(
    database: Database,
    /,
    *,
    threshold: Annotated[
        float, Parameter(help="Lowest cosine between two near-duplicates: above 0, at most 1.")
    ] = 0.95,
    exact: Annotated[
        bool, Parameter(negative="", help="Compare all pairs of pictures, also in a large table.")
    ] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find near-duplicates, in groups.

    For example: `fanfold images duplicates db --threshold 0.98`
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold takes a cosine above 0 and at most 1, not {threshold}.")
    dataset = _opened(database, table)
    with shown.fraction("comparing") as progress:
        found = searching.duplicates(dataset, threshold, exact=exact, progress=progress)
    show.groups(found, json)
    return 0


@app.command
def vectors(
    database: Annotated[str, Parameter(help="The database: a folder, a URL, or an external table: dynamodb://NAME.")],
    /,
    *keys: Annotated[str, Parameter(help="Keys in the table. Put `--` before keys that start with a dash.")],
    npy: Annotated[
        Path | None, Parameter(help="A .npy file to write float32[n, dimension] to, instead of printing.")
    ] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Print the vectors of pictures, or write them to a file.

    For example: `fanfold images vectors db cat.png --npy cat.npy`
    """
    if not keys:
        raise UsageError("Name at least one key. To see some: fanfold images search DATABASE PICTURE")
    found, matrix, missing = _vectors(database, table, keys)
    if missing:
        some = ", ".join(shown.printable(key) for key in missing[:10])
        where = database if database.startswith(MIRROR) else f"table '{table}'"
        raise UsageError(f"{len(missing)} of {len(keys)} keys are not in {where}: {some}")
    if npy:
        try:
            np.save(npy, matrix)
        except OSError as error:
            raise UsageError(f"Cannot write {npy}: {error.strerror}.") from error
        shown.out.print(f"{npy}: float32[{matrix.shape[0]}, {matrix.shape[1]}]", soft_wrap=True)
    else:
        show.vectors(found, matrix, json)
    return 0


def _vectors(database: str, table: str, keys: Sequence[str]) -> tuple[list[str], searching.Vectors, list[str]]:
    if not database.startswith(MIRROR):
        return searching.vectors(_opened(database, table), keys)
    from fanfold.aws.dynamodb.table import DynamoTable

    return DynamoTable.open(database).get(keys)


@app.command
def quantize(
    source: Annotated[str, Parameter(help="Pictures to calibrate on: a folder, a list or a URL.")],
    out: Annotated[Path, Parameter(help="The file to write, such as model.onnx. Use it with --model.")],
    /,
    *,
    job: Job = Images(),  # noqa: B008 - frozen
    min_cosine: MinCosine = MIN_COSINE,
    json: Json = False,
) -> int:
    """Make the INT8 version of a model, calibrated on some of your pictures, and show how similar its vectors are.

    For example: `fanfold images quantize photos small.onnx`
    """
    if out.suffix != ".onnx":
        raise UsageError(f"The file to write must end in .onnx, but {out} does not.")
    from fanfold.images.models import quantize as quantizing

    made = quantizing.quantize(job, open_source(source), valid_cosine(min_cosine))
    try:
        out.write_bytes(made.content)
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}.") from error
    if json:
        shown.put_json({"file": str(out)} | {key: value for key, value in asdict(made).items() if key != "content"})
    else:
        shown.out.print(f"{shown.harmless(str(out))}: {made}.", soft_wrap=True)
    return 0


@app.command
def models(*, json: Json = False) -> int:
    """List the names that --model takes. It also takes a file.onnx or hf://org/repo/path.onnx@revision.

    For example: `fanfold images models`
    """
    show.models([asdict(model) for model in MODELS], json)
    return 0


def query_vector(dataset: lance.LanceDataset, table: str, query: str) -> Any:
    """The vector of a key in the table, else of the picture at a path or URL. float32[dimension]."""
    key = query.encode(errors="replace").decode()  # a path that is not UTF-8 is not a key
    _, matrix, missing = searching.vectors(dataset, [key])
    if not missing:
        return matrix[0]
    if not is_url(query) and not Path(query).is_file():
        raise UsageError(f"{query} is neither a key in table '{table}' nor the path of a picture.")
    return _job_of(dataset, table).embed_one(_content(query))


def _content(address: str) -> bytes:
    source = open_source(address)
    items = list(islice(source.list(frozenset()), 2))
    if len(items) != 1:
        raise UsageError(f"{address} is not a single picture. Name one by its path, its URL, or its key in the table.")
    (item,) = items
    try:
        return reader(source.root).read(item, limit=1 << 30)
    except OSError as error:
        raise UsageError(f"Cannot read {address}: {error}") from error


def _job_of(dataset: lance.LanceDataset, table: str) -> Images:
    """The job that made a table, to embed a query in the same way."""
    metadata = {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}
    if metadata.get("fanfold.job") != Images.name:
        raise UsageError(f"Table '{table}' was not made by the job 'images'. Search it by a key that is in it.")
    job = load(Images.name, loads(metadata["fanfold.options"]))
    assert isinstance(job, Images)
    if job.precision == "int8":
        job = in_database(job, dataset.uri.rpartition("/")[0])
    check_recipe(metadata, job, table, dataset.uri.rpartition("/")[0])
    return replace(job, provider="cpu")  # the GPU that made the table need not be here
