"""Ray clusters for tests: of a single node, shared by the tests of a file, and of several nodes on loopback."""

import logging
import os
from pathlib import Path

import pytest
import ray

from fanfold.executors.ray import Ray


def on_ray(workers: int) -> Ray:
    """An executor that uses this process's cluster; that is started for the first one, and ended by `end`."""
    if not ray.is_initialized():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return Ray(workers=workers)
