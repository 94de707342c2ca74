"""Settings of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an S3 server: s3fs wants an fsspec of its own day, and so can't stand beside the lowest one."""
    for item in items:
        values = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        if "s3" in getattr(item, "fixturenames", ()) or "s3" in values:
            item.add_marker(pytest.mark.s3)
