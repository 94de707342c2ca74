"""Settings of all tests."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair. The same examples every time: a change is judged by what it changes, not by what
# chance finds that day. To look for more: pytest --hypothesis-profile=random
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=500)
settings.register_profile("same", settings.get_profile("random"), derandomize=True, database=None, max_examples=100)
settings.load_profile("same")

# A shell without job control has what it starts in the background ignore Ctrl-C (``scripts/test &``), and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests of vLLM that start servers of their own, for most of which only one core is busy; the others ask one that they share.
_SERVERS_OF_THEIR_OWN = ("tests/vllm/test_cli_real.py", "tests/vllm/test_cluster_real.py", "tests/vllm/test_long_real.py")


def group_of(nodeid: str) -> str:
    """What a test must not run beside, where several run at a time (``--dist loadgroup``): all of a group go to one worker."""
    if nodeid.startswith("tests/cluster/"):
        return "Ray's clusters, a dozen processes each"
    if nodeid.startswith(_SERVERS_OF_THEIR_OWN):
        return "servers of their own"
    if nodeid.startswith("tests/vllm/"):
        return "the shared server"
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
