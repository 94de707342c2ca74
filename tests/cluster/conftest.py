"""Clusters for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other, where tests run side by side (``--dist loadgroup``): each cluster is a dozen processes."""
    for item in items:
        if "cluster" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("ray"))
