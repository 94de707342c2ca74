"""Batches on a real two-node Ray cluster that nobody kills: the same results as on one machine, each once, whatever fails."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Document, GlyphPipeline
from glyph_pipeline.batch import BatchItem, BatchResult, read_items
from glyph_pipeline.cluster import AskSpec, ask_many
from glyph_pipeline.cluster.engine import _Job
from glyph_pipeline.errors import ClusterError, InputError, ReadError, ServerUnreachableError
from glyph_pipeline.reading.retry import RetryPolicy
from tests.support.fake_openai import Fake, Handler, in_turn, refuses, running
from tests.support.ray_batches import CONFIG, TEXT, echo, items, question_of, rows
from tests.support.ray_cluster import Deadly, TwoNodes


def test_the_same_rows_as_on_one_machine(connected_cluster: TwoNodes, tmp_path: Path) -> None:
    """Files, several documents, Chinese, a broken file, a line that can't be used: what comes out differs in nothing but time."""
    (tmp_path / "weir.txt").write_text("The weir at Tolvane.\n" * 40, "utf-8")
    (tmp_path / "broken.txt").write_bytes(b"caf\xe9")
    lines: list[dict[str, Any]] = [
        *({"id": f"item {n}", "text": f"{n}: {TEXT}", "question": f"question {n}", "metadata": {"n": n}} for n in range(20)),
        {"id": "file", "path": "weir.txt"},
        {"id": "broken", "path": "broken.txt"},
        {"id": "none", "path": "none.txt"},
        {"id": "zh", "text": "中文字国。" * 300},
        {"id": "two", "documents": [{"path": "weir.txt"}, {"id": "note", "text": "A note.", "metadata": {"title": "T"}}]},
        {"id": "bad", "txt": "?"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    opened = read_items(source, question="common?")
    with running(Fake(echo)) as fake:
        here = rows(GlyphPipeline(fake.base_url).ask_many(opened))
        there = rows(ask_many(opened, AskSpec({"base_url": fake.base_url}), address=connected_cluster.address))
    assert there == here
    assert len(there) == len(lines)
    assert {id for id, record in there.items() if record["status"] == "failed"} == {"broken", "none", "bad"}


def test_only_what_is_wanted(connected_cluster: TwoNodes) -> None:
    with running(Fake(echo)) as fake:
        spec = AskSpec({"base_url": fake.base_url}, CONFIG)
        results = rows(ask_many(items(6), spec, address=connected_cluster.address, wanted=lambda id: id in {"item 2", "item 5"}))
    assert sorted(results) == ["item 2", "item 5"]
    assert sorted(map(question_of, fake.requests)) == ["question 2", "question 5"]


def test_requests_are_bounded_over_all_readers(connected_cluster: TwoNodes) -> None:
    lock, now, most = threading.Lock(), 0, 0
    four, six = threading.Event(), threading.Event()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now >= 4:
                four.set()
            if now >= 6:
                six.set()
        four.wait(60)
        six.wait(0.2)  # time for one too many
        with lock:
            now -= 1
        echo(handler, body)

    with running(Fake(reply)) as fake:
        spec = AskSpec({"base_url": fake.base_url}, CONFIG, concurrency=5, readers=2)
        results = rows(ask_many(items(80), spec, address=connected_cluster.address))
    assert {record["status"] for record in results.values()} == {"ok"}
    assert 4 <= most <= 5


def test_a_failed_request_is_sent_again_and_told_of(connected_cluster: TwoNodes) -> None:
    told: list[str] = []
    with running(Fake(in_turn(refuses(503, "busy"), echo))) as fake:
        spec = AskSpec({"base_url": fake.base_url, "retry": RetryPolicy(budget=30)}, CONFIG)
        results = rows(
            ask_many(items(3), spec, address=connected_cluster.address, on_retry=lambda id, event: told.append(f"{id}: {event.reason}"))
        )
    assert {record["status"] for record in results.values()} == {"ok"}
    assert len(fake.requests) == 4
    (notice,) = told
    assert "busy" in notice


def test_a_refused_item_is_a_row_and_no_server_ends_the_job(connected_cluster: TwoNodes) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if question_of(body) == "question 1":
            refuses(422, "not that one")(handler, body)
        else:
            echo(handler, body)

    with running(Fake(reply)) as fake:
        spec = AskSpec({"base_url": fake.base_url, "retry": RetryPolicy(budget=0)}, CONFIG)
        results = rows(ask_many(items(3), spec, address=connected_cluster.address))
    assert {id: record["status"] for id, record in results.items()} == {"item 0": "ok", "item 1": "failed", "item 2": "ok"}, {
        id: record["error"] for id, record in results.items()
    }
    assert "not that one" in results["item 1"]["error"]["message"]
    gone = AskSpec({"base_url": "http://127.0.0.1:1/v1", "retry": RetryPolicy(budget=0)}, CONFIG)
    with pytest.raises(ServerUnreachableError):
        list(ask_many(items(3), gone, address=connected_cluster.address))


def test_another_version_on_a_machine_ends_the_job(connected_cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glyph_pipeline.cluster.engine.__version__", "99.0")
    with pytest.raises(ClusterError, match=r"has glyph-pipeline .*, the job was begun with 99\.0.*same version"):
        list(ask_many(items(3), AskSpec({"base_url": "http://127.0.0.1:1/v1"}, CONFIG), address=connected_cluster.address))


def test_input_that_a_machine_can_not_read_ends_the_job_and_fails_no_item(connected_cluster: TwoNodes, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": f"{n}", "text": TEXT, "question": "?"}) + "\n" for n in range(40)), "utf-8")
    opened = read_items(source)
    source.unlink()
    results: list[BatchResult] = []
    with running(Fake(echo)) as fake, pytest.raises(InputError, match=r"On the machine .*No such file"):
        results.extend(ask_many(opened, AskSpec({"base_url": fake.base_url}, CONFIG), address=connected_cluster.address))
    assert results == []


def test_a_cluster_that_gives_nothing_back_fails_no_item(connected_cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its disks are full: what is missing stays missing, and is not told to have failed."""
    passed = _Job._pass

    def first_alone(self: _Job, units: list[Any]) -> Any:
        yield from passed(self, units[:1]) if len(units) == 30 else ()

    monkeypatch.setattr(_Job, "_pass", first_alone)
    results: list[BatchResult] = []
    with running(Fake(echo)) as fake, pytest.raises(ClusterError, match="lost all of 29 items") as caught:
        results.extend(ask_many(items(30), AskSpec({"base_url": fake.base_url}, CONFIG), address=connected_cluster.address))
    assert [result.id for result in results] == ["item 0"]
    assert caught.value.exit_code == 14


def test_answers_are_given_before_what_ends_the_job(connected_cluster: TwoNodes) -> None:
    """They stand in one block with it, and were paid for."""
    refused = threading.Event()

    def alone(fake: Fake) -> AskSpec:
        return AskSpec({"base_url": fake.base_url}, CONFIG, concurrency=8, readers=1)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if question_of(body) == "question 63":
            refused.wait(60)
            refuses(401, "no key")(handler, body)
            return
        echo(handler, body)
        if question_of(body) == "question 62":
            refused.set()

    results: list[BatchResult] = []
    with running(Fake(reply)) as fake, pytest.raises(ReadError, match="no key"):
        results.extend(ask_many(items(64), alone(fake), address=connected_cluster.address))
    assert "item 62" in {result.id for result in results}


@pytest.mark.parametrize("stage", ["load_rows", "draw_rows", "actor"])
def test_an_item_that_kills_its_process_is_a_row_and_the_others_are_done(connected_cluster: TwoNodes, stage: str) -> None:
    some = [*items(10), BatchItem("deadly", "?", (Document(TEXT),), metadata={"x": Deadly(stage)}), *(list(items(14))[10:])]
    with running(Fake(echo)) as fake:
        spec = AskSpec({"base_url": fake.base_url}, CONFIG)
        results = {result.id: result for result in ask_many(some, spec, address=connected_cluster.address)}
    assert len(results) == 15
    assert results["deadly"].status == "failed"
    assert results["deadly"].question == ("" if stage == "load_rows" else "?")
    assert "died" in str(results["deadly"].error)
    assert {result.status for id, result in results.items() if id != "deadly"} == {"ok"}
