"""Clusters for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glyph_pipeline.cluster import session
from tests.support.ray_cluster import TwoNodes, two_nodes


@pytest.fixture
def cluster() -> Iterator[TwoNodes]:
    """One whose node the test may kill; the nodes have two cores each, so that drawing and reading need not share one."""
    with two_nodes(cores=2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def standing_cluster() -> Iterator[TwoNodes]:
    """One for all tests of a module together, that nobody kills."""
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def connected_cluster(standing_cluster: TwoNodes) -> Iterator[TwoNodes]:
    """The same, with this process connected to it: for each new connection Ray begins all its processes anew, which takes seconds."""
    with session(standing_cluster.address):
        yield standing_cluster
