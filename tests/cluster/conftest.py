"""Clusters for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ray_cluster import TwoNodes, two_nodes


@pytest.fixture
def cluster() -> Iterator[TwoNodes]:
    """One whose node the test may kill."""
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def standing_cluster() -> Iterator[TwoNodes]:
    """One for all tests of a module together, that nobody kills."""
    with two_nodes() as nodes:
        yield nodes
