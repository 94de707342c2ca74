"""Batches on Ray clusters of each test's own: a machine is lost, GPUs are held by others, no cluster is there at all."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from glyph_pipeline import Document, GlyphPipeline
from glyph_pipeline.batch import BadItem, BatchItem, BatchResult
from glyph_pipeline.cluster import AskSpec, Engines, ask_many, session
from glyph_pipeline.errors import ClusterError, GlyphError, InputError, UsageError
from tests.support.fake_openai import Fake, running
from tests.support.ray_batches import CONFIG, TEXT, EchoingFirst, echo, items, rows
from tests.support.ray_cluster import TwoNodes, Watched, two_nodes


def test_drawing_is_a_task_and_reading_an_actor(cluster: TwoNodes, tmp_path: Path) -> None:
    """Ray Data would make one actor of both if they asked for the same resources, and drawing would hold up the requests."""
    some = [BatchItem(f"item {n}", "?", (Document(TEXT),), metadata={"x": Watched(str(tmp_path / "seen"))}) for n in range(4)]
    with running(Fake(echo)) as fake:
        results = list(ask_many(some, AskSpec({"base_url": fake.base_url}, CONFIG), address=cluster.address))
    assert [result.status for result in results] == ["ok"] * 4
    seen = {tuple(line.split("\t")) for line in (tmp_path / "seen").read_text("utf-8").splitlines()}
    assert {actor for name, actor in seen if "draw_rows" in name} == {"False"}
    assert not any("draw_rows" in name and "Reading" in name for name, _ in seen)


def test_a_node_is_killed_in_the_middle(cluster: TwoNodes) -> None:
    count, told = 120, []
    held = EchoingFirst(count // 2)  # so that there is something under way when the node dies
    with running(Fake(held)) as fake:
        spec = AskSpec({"base_url": fake.base_url}, CONFIG, concurrency=16)
        results: list[BatchResult] = []
        for result in ask_many(items(count), spec, address=cluster.address, on_notice=told.append):
            results.append(result)
            if len(results) == count // 4:
                for _ in range(16 // 2 + 1):  # more than one of the two readers may have under way, so both have some
                    assert held.waiting.acquire(timeout=60)
                cluster.kill()
                held.release()
        here = rows(GlyphPipeline(fake.base_url, config=CONFIG).ask_many(items(count)))
    assert rows(results) == here
    assert set(Counter(result.status for result in results)) == {"ok"}
    assert any("was lost" in notice for notice in told)


def test_gpus_that_others_hold_are_waited_for_and_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Until then no engine starts; this one, as soon as it may, finds no vLLM."""
    monkeypatch.setattr("glyph_pipeline.cluster.engine._PATIENCE_S", 5.0)
    spec = AskSpec({}, CONFIG, engines=Engines("model", "cpu", {"vllm": str(tmp_path / "no-vllm")}, gpus=1))
    told: list[str] = []
    with two_nodes(gpus=1) as cluster, session(cluster.address) as ray:
        holders = [ray.remote(num_gpus=1)(threading.Event).remote() for _ in range(2)]
        ray.get([holder.is_set.remote() for holder in holders])

        def notice(sentence: str) -> None:
            told.append(sentence)
            for holder in holders:
                ray.kill(holder)

        with pytest.raises(GlyphError, match="no-vllm"):
            list(ask_many(items(2), spec, address=cluster.address, on_notice=notice))
    assert [sentence for sentence in told if "others hold them" in sentence] == told
    assert len(told) == 1


def test_what_contradicts_itself() -> None:
    same = [*items(1), BadItem("item 0", InputError("?"))]
    with pytest.raises(UsageError, match="item 0"):
        list(ask_many(same, AskSpec({"base_url": "http://127.0.0.1:1/v1"})))
    with pytest.raises(UsageError, match="ray job submit"):
        list(ask_many(items(1), AskSpec(), address="ray://127.0.0.1:1"))
    with pytest.raises(UsageError, match="reader"):
        AskSpec({"reader": object()})
    with pytest.raises(ClusterError, match="No Ray cluster answers"):
        list(ask_many(items(1), AskSpec({"base_url": "http://127.0.0.1:1/v1"}), address="127.0.0.1:1"))
