"""A Ray cluster of two nodes with the real vLLM inside it; test_long_real.py has one that asks a vLLM beside it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import psutil
import pytest

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.batch import BatchItem
from glyph_pipeline.cluster import AskSpec, Engines, ask_many
from glyph_pipeline.reading.sampling import Sampling
from tests.support.command import SAMPLE, glyph_compress
from tests.support.processes import MARK, marked, wait_for
from tests.support.ray_cluster import two_nodes
from tests.vllm.conftest import START_SECONDS

pytestmark = pytest.mark.vllm

EN = RenderConfig.preset("en")
TEXT = SAMPLE.read_text("utf-8")


def some_items(count: int) -> list[BatchItem]:
    documents = [Document(f"Document {n}.\n{TEXT[:3000]}", id=f"{n}.txt") for n in range(count)]
    return [BatchItem(f"item {n}", "What is it?", (document,)) for n, document in enumerate(documents)]


def test_vllm_inside_the_cluster(tiny_model: Path, vllm_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command: an engine without a GPU, for one reader; nothing of it is left."""
    monkeypatch.setenv("GLYPH_VLLM_PYTHON", str(vllm_python))  # of each machine
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    source = tmp_path / "in.jsonl"
    lines = [{"id": item.id, "question": item.question, "text": item.load()[0].text} for item in some_items(6)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with two_nodes() as cluster:
        asked = ("batch", source, "-o", tmp_path / "out.jsonl", "--engine", "ray", "--address", cluster.address, "--readers", "1")
        engine = ("--profile", "cpu", "--model", tiny_model, "--max-model-len", "8192", "--max-tokens", "600")
        done = glyph_compress(*asked, *engine, "--start-timeout", str(START_SECONDS), state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert sorted(record["id"] for record in records) == sorted(f"item {n}" for n in range(6))
    assert {record["answer"] for record in records} == {script["answer"]}
    wait_for(lambda: not left_by(mark), "the end of all processes of the engine", 300)


def test_engines_stand_where_gpus_are_and_one_machine_is_lost(tiny_model: Path, vllm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines, each where Ray finds a GPU, as it was told of two; each on a port of its own. One is lost with its machine, for good,
    and the other does its work as well. Nothing of them is left."""
    launch = {"vllm": str(vllm_python), "timeout": START_SECONDS, "max_model_len": 8192}
    spec = AskSpec({"sampling": Sampling(max_tokens=600)}, EN, concurrency=4, engines=Engines(str(tiny_model), "cpu", launch, gpus=1))
    results, told = [], []
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    with two_nodes(gpus=1) as cluster:
        for result in ask_many(some_items(24), spec, address=cluster.address, on_notice=told.append):
            results.append(result)
            if len(results) == 6:
                wait_for(lambda: len(servers_of(mark)) == 2, "the second engine", START_SECONDS)
                cluster.kill()
                wait_for(lambda: len(servers_of(mark)) == 1, "the end of the engine of the lost machine", 300)
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    assert sorted(result.id for result in results) == sorted(f"item {n}" for n in range(24))
    assert {result.answer.text if result.answer else str(result.error) for result in results} == {script["answer"]}
    assert any("was lost" in notice for notice in told)
    wait_for(lambda: not left_by(mark), "the end of all processes of all engines", 300)


def servers_of(mark: str) -> list[psutil.Process]:
    """vLLM's API servers that descend from this test."""
    return [process for process in marked(mark) if "api_server" in _command_line(process)]


def left_by(mark: str) -> list[psutil.Process]:
    """vLLM's processes of any kind that descend from this test; those behind a server have no arguments that tell."""
    return [process for process in marked(mark) if "VLLM::" in _command_line(process) or "api_server" in _command_line(process)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
