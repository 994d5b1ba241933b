"""INT8 in a database: a run makes the model once, and keeps it in the database of the table.

--precision int8 ──▶ is there a table? ──yes──▶ the model that made it
                              └──no──▶ quantize ──▶ DATABASE/_models/NAME-int8-DIGEST.onnx
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory

from fanfold.cli import show
from fanfold.cli.jobs import Asked, Preparation
from fanfold.core.database import free_name
from fanfold.core.run import addressed
from fanfold.core.table import Table
from fanfold.errors import RecipeMismatch, UsageError
from fanfold.images import Images
from fanfold.images.doctor import WORTH, gain_of_bf16
from fanfold.images.models.model import MIN_COSINE, ready
from fanfold.source import Source
from fanfold.storage import errors_of, exists, join, open_store

MODELS = "_models"
"""The folder of a database that holds the models made for its tables."""
ADVICE = {
    "read": "more --workers, which wait for the disk or the network at the same time",
    "decode": "smaller files, or more workers",
    "embed": "a GPU (--provider cuda), a smaller model (`fanfold images models`), or more workers",
}
"""How to speed up the stage that takes most of the time."""


@dataclass(frozen=True)
class Calibration(Preparation):
    """Makes the INT8 model of a run or a plan, if it needs one."""

    min_cosine: float = field(
        default=MIN_COSINE,
        metadata={"help": "With int8: lowest mean cosine to accept between its vectors and those of float32."},
    )

    @contextmanager
    def prepared(self, job: Images, asked: Asked) -> Iterator[Images]:
        """The job with its model. The model of a plan is deleted at the end of the block."""
        if job.precision != "int8":
            yield job
            return
        least, (sources, database, table) = valid_cosine(self.min_cosine), (asked.sources, asked.database, asked.table)
        if asked.executor:  # all options are checked by now, and the model is kept in the database
            yield calibrated(job, sources, database, table, least, note=show.note, reach=asked.executor.reach)
            return
        with TemporaryDirectory(prefix="fanfold-plan-") as folder:
            yield calibrated(job, sources, database, table, least, note=show.note, folder=folder)

    def advice(self, job: Images) -> Mapping[str, str]:
        """How to speed up a stage that takes most of the time."""
        return ADVICE | ({} if job.fast else {"decode": "--fast, if the JPEGs are large"}) | _by_bf16(job)


def _by_bf16(job: Images) -> dict[str, str]:
    """That bfloat16 is faster on this machine, if it is."""
    if job.precision != "fp32" or job.provider != "cpu" or job.engine == "onnxruntime":
        return {}
    from fanfold.images.models.engines import speeds  # and both engines

    gain = gain_of_bf16(speeds(job.model))
    return (
        {"embed": f"--precision bf16, {gain:.1f} times as fast here, or a GPU (--provider cuda)"}
        if gain > WORTH
        else {}
    )


def valid_cosine(threshold: float) -> float:
    """The threshold. Raises UsageError unless it is from 0 to 1."""
    if not 0 <= threshold <= 1:
        raise UsageError(f"--min-cosine takes a cosine from 0 to 1, not {threshold}.")
    return threshold


def calibrated(
    job: Images,
    source: str | Sequence[str],
    database: str,
    table: str,
    min_cosine: float = MIN_COSINE,
    *,
    note: Callable[[str], None] = lambda _: None,
    reach: Callable[[Images, Source, str], Source] = lambda _job, source, _database: source,
    folder: str = "",
) -> Images:
    """The job of a run: for INT8 with the model that made its table, or with one that is made now.

    The model is kept in the database, where workers on other machines and later searches find it, or in `folder`.
    A job of another precision is returned unchanged. The executor's `reach` is called first, so that nothing is
    calibrated in vain. Raises what `reach` and `quantize` raise, and RecipeMismatch if another model made the table.
    """
    if job.precision != "int8" or ready(job.model).precision == "int8":
        return job
    collection, where, name = addressed(job, source, database, table)
    if made_by := _job_of_table(where, name):
        return _as_made(job, made_by, where, name)
    reach(replace(job, model=join(where, MODELS, "model.onnx")), collection, where)  # about where it will be
    from fanfold.images.models.quantize import quantize

    made = quantize(job, collection, min_cosine)
    note(f"{made}.")
    kept = folder or join(where, MODELS)
    with errors_of(kept):
        open_store(kept, create=True).put(made.file_name, made.content)
    return replace(job, model=join(kept, made.file_name))


def _as_made(job: Images, made_by: Images, database: str, table: str) -> Images:
    """The job with the model that made its table. Raises RecipeMismatch for a table of another model or precision."""
    base, theirs = ready(job.model), ready(made_by.model)
    if theirs.precision == "int8" and theirs.base == base.sha256:
        return replace(job, model=made_by.model)
    wanted = f"precision int8, model {job.model}"
    made = f"precision {theirs.precision}, model {theirs.name}"
    raise RecipeMismatch(table, made, wanted, free_name(database, table))


def in_database(job: Images, database: str) -> Images:
    """The job of a table in `database`, with the model from there if it has one: databases are moved and copied."""
    folder, _, name = job.model.rpartition("/")
    if not folder.endswith(f"/{MODELS}"):
        return job
    here = join(database, MODELS, name)
    return replace(job, model=here) if exists(here) else job


def _job_of_table(database: str, name: str) -> Images | None:
    rows = Table.open(database, name) if exists(database) else None
    if rows is None:
        return None
    if rows.metadata.get("fanfold.job") != Images.name:
        raise UsageError(f"Table '{name}' was not made by the job 'images'. Write to another one with: --table NAME")
    return in_database(Images(**json.loads(rows.metadata["fanfold.options"])), database)
