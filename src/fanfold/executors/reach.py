"""Whether every node of a Ray cluster can work on a run: asked before it begins, since nothing of the driver's disk is
on the nodes unless a file system is shared."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import fanfold
from fanfold.errors import UsageError
from fanfold.executors import probe
from fanfold.job import Job, spec
from fanfold.source import Listed, Source, open_source
from fanfold.storage import errors_of, is_url

ANSWER_WITHIN = 120.0
"""Seconds a node has for its answer: it may have to start a process first."""
SAMPLE = 4  # files of a source to compare: enough to tell a folder from another one of the same name
SHOWN = 5  # nodes named in a refusal


def check(nodes: Sequence[Mapping[str, Any]], job: Job, source: Source, database: str) -> None:
    """Raises UsageError unless all these nodes (see `ray.nodes`) have the software and see the files."""
    with _marker(database) as marker:
        asked = probe.Asked(fanfold.__version__, spec(job), [*_files(job, source)], marker)
        lacking = {node: what for node, what in _answers(nodes, asked) if what}
    if lacking:
        told = [f"  node {node}: {what}" for node, what in islice(lacking.items(), SHOWN)]
        more = [f"  and {len(lacking) - SHOWN} more"] if len(lacking) > SHOWN else []
        raise UsageError("\n".join(["The Ray cluster cannot work on this:", *told, *more, *_advice(lacking.values())]))


def _advice(lacks: Iterator[str] | Any) -> list[str]:
    """What to do about it."""
    software = [what for what in lacks if what.startswith("it ")]
    if software:
        return ["Nodes need what this machine has: the same fanfold, with the job's extra. See docs/ray.md."]
    return [
        "Use an object store (s3://...), or a file system that each node has mounted at the same place as this one."
    ]


def _answers(nodes: Sequence[Mapping[str, Any]], asked: probe.Asked) -> Iterator[tuple[str, str]]:
    """Every node's address, and what it lacks; of nodes that die meanwhile, nothing."""
    ray.cloudpickle.register_pickle_by_value(probe)
    missing = ray.remote(probe.missing)

    def ask(node: str) -> Any:
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return missing.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(asked)

    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}
    waiting = {ask(node): node for node in addresses}
    deadline = time.monotonic() + ANSWER_WITHIN
    while waiting:
        ready, _ = ray.wait([*waiting], timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            yield from (
                (addresses[node], f"it has not answered for {ANSWER_WITHIN:.0f} s") for node in waiting.values()
            )
            return
        node = waiting.pop(ready[0])
        try:
            yield addresses[node], ray.get(ready[0])
        except TaskUnschedulableError:  # not all of the cluster knows yet that the node has come, or has gone
            time.sleep(0.5)
            if any(one["NodeID"] == node and one["Alive"] for one in ray.nodes()):
                waiting[ask(node)] = node
        except RayError as error:
            yield addresses[node], f"it cannot answer: {' '.join(str(error).split())[-300:]}"


def _files(job: Job, source: Source) -> Iterator[tuple[str, int | None, float | None]]:
    """The driver's files that workers are to read: the source, some of its items, and what the job's options name."""
    for address in source.addresses:
        if is_url(address):
            continue
        part = open_source(address)
        if not isinstance(part, Listed):  # a list is read by the driver alone
            yield address, None, None
        for item in islice(part.list(job.suffixes), SAMPLE):
            uri = part.uri(item)
            if uri.startswith("file://") and item.version != "not found":
                path = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
                yield path, item.size, os.stat(path).st_mtime  # noqa: PTH116 - names may be no text
    for option in spec(job)["options"].values():
        if isinstance(option, str) and os.path.isabs(option) and Path(option).is_file():  # noqa: PTH117
            yield option, Path(option).stat().st_size, None  # a copy will do


@contextmanager
def _marker(database: str) -> Iterator[str]:
    """A file in the database's folder, which is made if need be; all gone afterwards, but for what was there."""
    if is_url(database):
        yield ""
        return
    folder = Path(database)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    marker = folder / f".reach-{secrets.token_hex(8)}"
    try:
        with errors_of(database):
            folder.mkdir(parents=True, exist_ok=True)
            marker.touch()
        yield str(marker)
    finally:
        marker.unlink(missing_ok=True)
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
