"""Settings of all tests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def group_of(nodeid: str) -> str:
    """What a test must not run beside, where several run at a time (``--dist loadgroup``): all of a group go to one worker."""
    if nodeid.startswith("tests/cluster/"):
        return "Ray's clusters, a dozen processes each"
    if nodeid.startswith("tests/vllm/"):
        return "vLLM, of which one server is shared"
    return nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups by name: xdist 3.8 looks for its own marks in vain with pytest 9.2, and says nothing."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an S3 server: s3fs wants an fsspec of its own day, and so can't stand beside the lowest one."""
    for item in items:
        values = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        if "s3" in getattr(item, "fixturenames", ()) or "s3" in values:
            item.add_marker(pytest.mark.s3)
