"""Real Ray clusters of two nodes on this machine, each node a raylet with workers of its own, so that one can be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.serving.signals import kept_sigterm
from tests.support.command import REPOSITORY

SETTINGS = {
    # Ray waits half a minute for a machine that says nothing; here it misses one after five seconds.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 5,
    # It ends idle processes beyond one a core, and starting another takes seconds (docs/scale.md).
    "num_workers_soft_limit": 8,
    # Its processes stand back for all others, which here are those of other tests.
    "worker_niceness": 0,
}
NODE = {"num_cpus": 1, "object_store_memory": 200_000_000}


@dataclass
class TwoNodes:
    """A cluster: its head, where the driver is, and a second node."""

    cluster: Any
    second: Any

    @property
    def address(self) -> str:
        """What --address takes."""
        address: str = self.cluster.address
        return address

    def kill(self) -> None:
        """Kill the second node with SIGKILL, as a power cut would end it: raylet, workers, objects."""
        self.cluster.remove_node(self.second, allow_graceful=False)


@contextmanager
def two_nodes(cores: int = 1, gpus: int = 0) -> Iterator[TwoNodes]:
    """A cluster that is there for the block; each node says that it has so many cores and GPUs, which Ray believes."""
    with pytest.MonkeyPatch.context() as patch, kept_sigterm():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)  # of the workers, which find what tests hand them
        from ray.cluster_utils import Cluster

        node = {**NODE, "num_cpus": cores, "num_gpus": gpus}
        head = {**node, "include_dashboard": False, "_system_config": SETTINGS}
        for tries_left in (2, 1, 0):
            try:
                cluster = Cluster(initialize_head=True, head_node_args=head)
                break
            except Exception as e:  # Ray gives its processes half a minute to start, which is not enough on a very busy machine
                if "timed out during startup" not in str(e) or not tries_left:
                    raise
        try:
            yield TwoNodes(cluster, cluster.add_node(**node))
        finally:
            cluster.shutdown()


class Deadly:
    """Kills the process that unpickles it, in the Ray task of that name or in an ``actor``, but not the driver."""

    def __init__(self, task: str) -> None:
        self.task = task

    def __reduce__(self) -> tuple[Any, ...]:
        return _die_in, (self.task,)


def _die_in(task: str) -> Deadly:
    import ray

    if not ray.is_initialized():
        return Deadly(task)
    here = ray.get_runtime_context()
    if task in (here.get_task_name() or "") or (task == "actor" and here.get_actor_id()):
        os.kill(os.getpid(), signal.SIGKILL)
    return Deadly(task)


class Watched:
    """Writes into a file where it is unpickled: the Ray task's name, and whether an actor runs it."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return _seen_by, (self.file,)


def _seen_by(file: str) -> Watched:
    import ray

    if ray.is_initialized():
        here = ray.get_runtime_context()
        with Path(file).open("a", encoding="utf-8") as seen:
            seen.write(f"{here.get_task_name()}\t{here.get_actor_id() is not None}\n")
    return Watched(file)
