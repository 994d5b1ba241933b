"""Clusters end with the file of tests that used them."""

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="module", autouse=True)
def _end_of_cluster() -> Iterator[None]:
    yield
    ray.shutdown()
