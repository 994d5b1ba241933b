"""How many workers there are and how large each is, as every executor understands it."""

import pytest

from fanfold import UsageError
from fanfold.executors import Size, open_executor
from fanfold.executors.hand import Hand
from fanfold.executors.local import Local, cores


def test_a_worker_is_told_how_many_cores_it_has() -> None:
    """The libraries that start threads are told to start as many as the worker has cores."""
    told = Hand("db", "run", cpus=3)._environment()
    assert {told[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}


def test_larger_workers_are_fewer() -> None:
    """On this machine there are as many workers as its cores allow, and always one."""
    assert Local(worker_cpus=1).workers == cores()
    assert Local(worker_cpus=10 * cores()).workers == 1
    assert Local(5, worker_cpus=2).workers == 5


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"workers": 0}, "at least one worker"),
        ({"worker_cpus": 0}, "at least one core"),
        ({"worker_gpus": -1}, "--worker-gpus"),
        ({"worker_gpus": 1}, "deals out no GPUs"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(size: dict[str, int], says: str) -> None:
    """Less than one worker or core is refused, and so are GPUs where nobody deals them out."""
    with pytest.raises(UsageError, match=says):
        open_executor("local", Size(**size))
