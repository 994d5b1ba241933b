"""Whether every node of a Ray cluster can work on a run: asked before it begins, since nothing of the driver's disk is
on the nodes unless a file system is shared, nor are its credentials."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import fanfold
from fanfold.errors import UsageError
from fanfold.executors import probe, sight
from fanfold.executors.cluster import DIED, alive
from fanfold.job import Item, Job, spec
from fanfold.source import Listed, Source, open_source
from fanfold.storage import errors_of, is_url

File = tuple[str, int | None, float | None]
Read = tuple[str, str, list[dict[str, Any]]]

ANSWER_WITHIN = 120.0
"""Seconds a node has for its answer: it may have to start a process first."""
SAMPLE = 4  # items of a source to look at: enough to tell a folder from another one of the same name
SHOWN = 5  # nodes named in a refusal

ADVICE = {
    probe.SOFTWARE: "Nodes need what this machine has: the same fanfold, with the job's extra. See docs/ray.md.",
    probe.FILES: "Use an object store (s3://...), or a file system that each node has mounted at the same place as "
    "this one.",
    probe.ADDRESS: "Nodes need credentials, and where it is set an endpoint, of their own: from a role or from their "
    "environment. What is set here is not passed on. See docs/ray.md.",
    probe.NODE: "Ray's logs on the node (/tmp/ray/session_latest/logs) tell more.",
}
"""What to do about each kind of what nodes lack."""
KNOWN_WITHIN = 20.0
"""Seconds it takes until all of a cluster knows that a node has died."""


def check(nodes: Sequence[Mapping[str, Any]], job: Job, source: Source, database: str) -> None:
    """Raises UsageError unless all these nodes (see `ray.nodes`) have the software and can use the source and the
    database."""
    with _marker(database) as marker:
        lacking = dict(_answers(nodes, _asked(job, source, database, marker)))
    if lacking:
        told = [f"  node {node}: {what}" for node, (_, what) in islice(lacking.items(), SHOWN)]
        more = [f"  and {len(lacking) - SHOWN} more"] if len(lacking) > SHOWN else []
        advice = [said for kind, said in ADVICE.items() if any(kind == lack for lack, _ in lacking.values())]
        raise UsageError("\n".join(["The Ray cluster cannot work on this:", *told, *more, *advice]))


def _answers(nodes: Sequence[Mapping[str, Any]], asked: probe.Asked) -> Iterator[tuple[str, probe.Lack]]:
    """The address of every node that lacks something, and what; of nodes that die meanwhile, nothing."""
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
            silent = probe.NODE, f"it has not answered for {ANSWER_WITHIN:.0f} s"
            yield from ((addresses[node], silent) for node in waiting.values())
            return
        node = waiting.pop(ready[0])
        try:
            if lack := ray.get(ready[0]):
                yield addresses[node], lack
        except TaskUnschedulableError:  # not all of the cluster knows yet that the node has come, or has gone
            time.sleep(0.5)
            if _alive(node):
                waiting[ask(node)] = node
        except RayError as error:
            if not _dies(node, error):
                yield addresses[node], (probe.NODE, f"it cannot answer: {' '.join(str(error).split())[-300:]}")


def _alive(node: str) -> bool:
    return any(one["NodeID"] == node for one in alive())


def _dies(node: str, error: RayError) -> bool:
    """Whether a node is dead, or is known to be in a moment."""
    until = time.monotonic() + (KNOWN_WITHIN if isinstance(error, DIED) else 0)
    while _alive(node):
        if time.monotonic() >= until:
            return False
        time.sleep(0.5)
    return True


def _asked(job: Job, source: Source, database: str, marker: str) -> probe.Asked:
    """What every node is to be asked."""
    files: list[File] = [*_named(job)]
    reads: list[Read] = []
    for address in source.addresses:
        part = open_source(address)
        items = [item for item in islice(part.list(job.suffixes), SAMPLE) if item.version != "not found"]
        if not is_url(address) and not isinstance(part, Listed):  # a list is read by the driver alone
            files.append((address, None, None))
        remote = sorted((item for item in items if is_url(part.uri(item))), key=lambda item: item.size)
        files += [file for item in items if item not in remote for file in _file(part, item)]
        if remote:
            reads.append((address, part.root, [asdict(item) for item in remote]))
    return probe.Asked(fanfold.__version__, spec(job), files, reads, database, marker, is_url(database))


def _file(part: Source, item: Item) -> Iterator[File]:
    """An item's file; nothing if it has gone since it was listed."""
    path = os.fsdecode(unquote_to_bytes(part.uri(item).removeprefix("file://")))
    with suppress(FileNotFoundError):
        yield path, item.size, os.stat(path).st_mtime  # noqa: PTH116 - names may be no text


def _named(job: Job) -> Iterator[File]:
    """The files that a job's options name."""
    for option in spec(job)["options"].values():
        if isinstance(option, str) and os.path.isabs(option) and Path(option).is_file():  # noqa: PTH117
            yield option, Path(option).stat().st_size, None  # a copy will do


@contextmanager
def _marker(database: str) -> Iterator[str]:
    """What is in the database for as long as nodes are asked: the name of an object, or the path of a file."""
    with sight.marked(database) if is_url(database) else _marked_folder(database) as marker:
        yield marker


@contextmanager
def _marked_folder(database: str) -> Iterator[str]:
    """A file in the database's folder, which is made if need be; all gone afterwards, but for what was there."""
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
