"""Workers that die while they draw shards: what they had is done again, and a document that always kills is found out."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psutil
import pytest

from glyph_pipeline.batch.units import InlineUnit
from glyph_pipeline.shards import ShardSummary, draw_shards, plan_shards
from glyph_pipeline.shards.local import on_this_machine
from glyph_pipeline.shards.work import WriteShard, work_off
from tests.support.deadly import DeadlyRow, DeadlyUnit, deadly, fine, unit
from tests.support.processes import command, kill_marked, wait_for
from tests.support.shards import CONFIG, beside, corpus, tar_samples, tree


def tasks(tmp_path: Path, folder: str, *units: InlineUnit) -> list[WriteShard]:
    (tmp_path / folder).mkdir()
    spec = plan_shards([corpus(tmp_path / "in.jsonl", 1)], config=CONFIG).spec(str(tmp_path / folder))
    return [WriteShard(spec, number, each) for number, each in enumerate(units)]


def test_a_document_that_kills_its_worker_is_a_failed_document(tmp_path: Path) -> None:
    done: list[ShardSummary] = []
    units = [unit(fine("a"), deadly("x"), fine("b")), unit(fine("c")), unit(deadly("y"), deadly("z"))]
    work_off(tasks(tmp_path, "out", *units), on_this_machine(2), done.append)
    assert sorted((shard.number, shard.counts.documents, shard.counts.failed) for shard in done) == [(0, 2, 1), (1, 1, 0), (2, 0, 2)]
    assert [sample["json"]["id"] for sample in tar_samples(tmp_path / "out")] == ["a", "b", "c"]
    failed = [failure for facts in beside(tmp_path / "out") for failure in facts["failed"]]
    assert [failure["id"] for failure in failed] == ["x", "y", "z"]
    assert all("The process that drew" in failure["message"] and "memory" in failure["message"] for failure in failed)
    # Without those that kill, the same: what was drawn beside them is what it always is.
    work_off(tasks(tmp_path, "alone", *units[1:2]), on_this_machine(1), done.append)
    assert (tmp_path / "out" / "shard-000001.tar").stat().st_size == (tmp_path / "alone" / "shard-000000.tar").stat().st_size


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_a_row_that_kills_whoever_reads_it_is_a_failed_document(tmp_path: Path, format: Literal["webdataset", "parquet"]) -> None:
    """Nobody but the one that tries it reads it again: neither for the others, nor when the shard is written at last."""
    done: list[ShardSummary] = []
    (task,) = tasks(tmp_path, "out", unit(fine("a"), fine("x"), fine("b"), kind=DeadlyRow))
    work_off([replace(task, spec=replace(task.spec, format=format))], on_this_machine(2), done.append)
    assert [(shard.counts.documents, shard.counts.failed) for shard in done] == [(2, 1)]
    (facts,) = beside(tmp_path / "out")
    assert [failure["id"] for failure in facts["failed"]] == ["x"]
    assert [document["id"] for document in facts["documents"]] == ["a", "b"]


def test_input_that_can_never_be_loaded_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    done: list[ShardSummary] = []
    units = [unit(fine("a"), kind=DeadlyUnit), unit(fine("b"))]
    work_off(tasks(tmp_path, "out", *units), on_this_machine(2), done.append)
    assert sorted((shard.number, shard.counts.documents, shard.counts.failed) for shard in done) == [(0, 0, 1), (1, 1, 0)]


def workers() -> list[int]:
    """Processes of this one that draw shards, whether they have died or not."""
    return [process.pid for process in psutil.Process().children() if "shards.worker" in " ".join(_words(process))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_worker_that_was_killed_changes_nothing(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 40, words=2000)
    draw_shards(source, tmp_path / "undisturbed", config=CONFIG, shard_size=4, workers=0)
    killed: list[int] = []

    def kill(summary: ShardSummary) -> None:
        if len(killed) < 3:
            worker = next((pid for pid in workers() if pid not in killed), None)
            if worker is not None:  # else both have died already, and the next are not yet there
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    draw_shards(source, tmp_path / "disturbed", config=CONFIG, shard_size=4, workers=2, on_shard=kill)
    assert len(killed) == 3
    assert tree(tmp_path / "disturbed") == tree(tmp_path / "undisturbed")


def test_all_of_it_is_killed_and_begun_again(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 60, words=2000)
    arguments = ["render", source, "--shards", "webdataset", "--shard-size", "3", "--no-system-fonts", "--workers", "2", "-o"]
    for attempt in range(5):  # one of them is killed before it is through, however late we are told of its first shards
        out = tmp_path / f"out {attempt}"
        with command(*arguments, out, state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, mark):
            wait_for(lambda out=out: out.exists() and len(list(out.glob("shard-*.json"))) > 3, "some shards", 60)  # type: ignore[misc]
            kill_marked(mark)
            process.wait()
        begun = len(list(out.glob("shard-*.json")))
        if begun < 20:
            break
    assert begun < 20
    with command(*arguments, out, state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, mark):
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert f"{begun} of 20 shards are done already." in told
    with command(*arguments, tmp_path / "other", state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, mark):
        process.communicate()
    assert tree(out) == tree(tmp_path / "other")


def test_interrupted_it_ends_its_workers(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 200, words=3000), tmp_path / "out"
    arguments = ["render", source, "--shards", "parquet", "--shard-size", "1", "--workers", "2", "-o", out]
    with command(*arguments, state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, _):
        wait_for(lambda: out.exists() and len(list(out.glob("shard-*.json"))) > 1, "some shards", 60)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip()) == (130, "Interrupted.")
    assert json.loads((out / "shards.json").read_text("utf-8")).get("counts") is None
