"""The number and size of workers, which mean the same for every executor."""

import pytest

from fanfold import UsageError
from fanfold.core.executor import Size
from fanfold.executors import open_executor
from fanfold.executors.local import Local
from fanfold.executors.process import WorkerProcess
from fanfold.machine import cores


def test_a_worker_is_told_how_many_cores_it_has() -> None:
    """Libraries that start threads are limited to the worker's number of cores."""
    told = WorkerProcess("db", "run", cpus=3)._environment()
    assert {told[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}


def test_larger_workers_are_fewer() -> None:
    """Local starts as many workers as the cores allow, and at least one."""
    assert Local(worker_cpus=1).workers == cores()
    assert Local(worker_cpus=10 * cores()).workers == 1
    assert Local(5, worker_cpus=2).workers == 5


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"workers": 0}, "at least one worker"),
        ({"worker_cpus": 0}, "at least one core"),
        ({"worker_gpus": -1}, "--worker-gpus"),
        ({"worker_gpus": 1}, "does not assign GPUs"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(size: dict[str, int], says: str) -> None:
    """Fewer than one worker or core is refused, and so are GPUs that the executor does not assign."""
    with pytest.raises(UsageError, match=says):
        open_executor("local", Size(**size))
