"""What each stage gets of a cluster: readers never take the last core for drawing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from glyph_pipeline.cluster import AskSpec, Engines
from glyph_pipeline.cluster.resources import Room, divided, engines_fit
from glyph_pipeline.errors import ClusterError, UsageError

URL = {"base_url": "http://127.0.0.1:1/v1"}


def nodes(*cores: float, gpus: float = 0) -> list[dict[str, float]]:
    return [{"CPU": count, "GPU": gpus} for count in cores]


def test_a_reader_on_each_machine_and_a_core_left_for_each() -> None:
    assert divided(nodes(8, 8, 8), AskSpec(URL)) == Room(3, 21)
    assert divided(nodes(8, 8, 8), AskSpec(URL, readers=5)) == Room(5, 19)


def test_machines_without_cores_have_no_reader() -> None:
    assert divided(nodes(0, 4, 4), AskSpec(URL)) == Room(2, 6)
    assert Room(2, 6).reader_cpus > 0


def test_small_machines_share_their_cores() -> None:
    assert divided(nodes(1, 1), AskSpec(URL)) == Room(2, 1)
    assert divided(nodes(2), AskSpec(URL)) == Room(1, 1)
    assert divided(nodes(2), AskSpec(URL, readers=2)) == Room(2, 1)


@pytest.mark.parametrize("spec", [AskSpec(URL), AskSpec(), AskSpec(URL, readers=8)])
def test_whatever_is_lost_a_task_that_draws_fits_beside_the_readers(spec: AskSpec) -> None:
    """Ray begins all readers anew on what is left; what they hold there is held for good."""
    room = divided(nodes(8, 8), spec)
    assert room.readers * room.reader_cpus + room.draw_cpus <= 1


def test_there_are_no_more_readers_than_requests() -> None:
    assert divided(nodes(8, 8, 8, 8), AskSpec(URL, concurrency=3)).readers == 3
    assert divided(nodes(2, 2, gpus=1), AskSpec(engines=Engines("m"), concurrency=1)).readers == 2


def test_ocr_takes_every_second_core() -> None:
    assert divided(nodes(8, 8), AskSpec()) == Room(8, 8)
    assert divided(nodes(1), AskSpec()) == Room(1, 1)


def test_an_engine_for_each_gpu() -> None:
    engines = Engines("zai-org/Glyph")
    assert divided(nodes(16, 16, gpus=8), AskSpec(engines=engines)) == Room(16, 16, 1)
    assert divided(nodes(16, 16, gpus=8), AskSpec(engines=Engines("m", gpus=4))) == Room(4, 28, 4)
    # Three GPUs of each machine can't be part of an engine of four.
    assert divided(nodes(16, 16, gpus=7), AskSpec(engines=Engines("m", gpus=4))).readers == 2
    assert divided(nodes(16, 16, gpus=8), AskSpec(engines=engines, readers=3)).readers == 3
    assert divided(nodes(4, 4), AskSpec(engines=Engines("m", "cpu", gpus=0))) == Room(2, 6)


def test_gpus_without_a_core_are_no_place() -> None:
    """The reader beside the engine would never fit, and nothing would come of the job."""
    engines = Engines("m")
    bare, full = {"CPU": 0, "GPU": 8}, {"CPU": 8, "GPU": 1}
    assert divided([bare, full], AskSpec(engines=engines)).readers == 1
    with pytest.raises(ClusterError, match="and a core beside it"):
        divided([bare, {"CPU": 8}], AskSpec(engines=engines))


def test_when_engines_wait_for_a_machine() -> None:
    def cluster(*machines: tuple[bool, float, float]) -> Any:
        there = [{"Alive": alive, "Resources": {"CPU": cores, "GPU": gpus}} for alive, cores, gpus in machines]
        return SimpleNamespace(nodes=lambda: there)

    room = Room(2, 6, reader_gpus=2)
    assert engines_fit(cluster((True, 4, 2)), room)
    assert not engines_fit(cluster((False, 4, 2), (True, 4, 1), (True, 0, 8)), room)
    assert engines_fit(cluster((True, 4, 0)), Room(2, 6))


def test_what_a_cluster_lacks() -> None:
    with pytest.raises(ClusterError, match="has a core"):
        divided(nodes(0, 0), AskSpec(URL))
    with pytest.raises(ClusterError, match="has 2 GPU"):
        divided(nodes(8, 8, gpus=1), AskSpec(engines=Engines("m", gpus=2)))


def test_requests_are_shared_by_the_readers() -> None:
    assert AskSpec(URL, concurrency=16).shared_by(4).concurrency == 4
    assert AskSpec(URL, concurrency=5).shared_by(2).concurrency == 2
    assert AskSpec(URL, concurrency=1).shared_by(8).concurrency == 1


def test_what_contradicts_itself() -> None:
    with pytest.raises(UsageError, match="readers is 0"):
        AskSpec(URL, readers=0)
    with pytest.raises(UsageError, match="base_url"):
        AskSpec(URL, engines=Engines("m"))
