"""Documents longer than the context, a cluster that loses a node and a batch that loses its server, with the real vLLM: nothing lost or twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from glyph_pipeline import Document, GlyphPipeline, GlyphServer, RenderConfig
from glyph_pipeline.reading.sampling import Sampling
from tests.support.command import REPOSITORY
from tests.support.processes import command, marked, wait_for

pytestmark = pytest.mark.vllm

START_SECONDS = 900.0
CONTEXT = 4096
SAMPLE = (Path(__file__).resolve().parents[2] / "docs" / "sample.txt").read_text("utf-8")
EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)


@pytest.fixture(scope="module")
def small_server(tiny_model: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlyphServer]:
    """A vLLM with a small context."""
    log = tmp_path_factory.mktemp("small server") / "vllm.log"
    with GlyphServer.launch(tiny_model, "cpu", vllm=vllm_python, timeout=START_SECONDS, log_path=log, max_model_len=CONTEXT) as server:
        yield server


def test_windows_are_served_as_planned_and_merged_into_one_answer(small_server: GlyphServer, tiny_model: Path) -> None:
    """The big one, of a million tokens, is scripts/long_document.py."""
    documents = [Document(SAMPLE * 8, id="eight.txt"), Document(SAMPLE, id="one.txt", metadata={"title": "Once"})]
    pipeline = GlyphPipeline(small_server.base_url, config=EN, sampling=Sampling(max_tokens=600), concurrency=4, overlap=1)
    answer = pipeline.ask(documents, "What is it?")
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    assert len(answer.windows) >= 4
    for request in [*answer.windows, *answer.merges]:
        assert request.predicted_prompt_tokens == request.usage.prompt_tokens
        assert (request.text, request.reasoning, request.finish_reason) == (script["answer"], script["reasoning"], "stop")
        assert (request.usage.prompt_tokens or 0) <= CONTEXT
    assert [merge.final for merge in answer.merges][-1]
    assert answer.text == script["answer"]
    pages = [page for window in answer.windows for page in range(window.first_page, window.last_page + 1)]
    assert set(pages) == set(range(1, answer.report.pages + 1))


def test_a_cluster_that_loses_a_node_gives_the_local_engines_rows(small_server: GlyphServer, tmp_path: Path) -> None:
    """The long run of scripts/measure_cluster.py in small: a node killed after a third of 16 documents, one of which takes several windows."""
    script = REPOSITORY / "scripts" / "measure_cluster.py"
    few = ("--documents", "16", "--tokens", "20000", "--base-url", small_server.base_url, "--keep", str(tmp_path))
    done = subprocess.run([sys.executable, str(script), "long", *few], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the second node is killed" in done.stdout
    assert "16 rows, 0 missing, 0 twice, 0 other than the local engine's" in done.stdout
    records = [json.loads(line) for line in (tmp_path / "ray.jsonl").read_text("utf-8").splitlines()]
    (long,) = [record for record in records if record["id"] == "the long one"]
    assert len(long["windows"]) >= 3
    for record in records:
        for window in record["windows"]:
            assert window["predicted_prompt_tokens"] == window["usage"]["prompt_tokens"]


def test_a_batch_survives_the_death_of_its_server(tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    """Fifty documents; the server that was launched for them is killed in the middle, with requests under way."""
    count, out = 50, tmp_path / "out.jsonl"
    text = SAMPLE[:6000]  # a page
    lines = [json.dumps({"id": f"item {n}", "text": f"Document {n}.\n{text}", "question": "What is it?"}) for n in range(count)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), "utf-8")
    asked = ["batch", tmp_path / "in.jsonl", "-o", out, "--model", tiny_model, "--profile", "cpu", "--concurrency", "4"]
    with command(*asked, state=tmp_path, python=vllm_python) as (process, mark):

        def written() -> int:
            assert process.poll() is None, process.communicate()[1]
            return out.read_bytes().count(b"\n") if out.exists() else 0

        wait_for(lambda: written() >= 10, "the tenth answer", START_SECONDS)
        server = [one for one in marked(mark) if is_server(one)]
        assert server
        os.kill(server[0].pid, signal.SIGKILL)
        _, err = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, err
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert sorted(record["id"] for record in records) == sorted(f"item {n}" for n in range(count))
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    assert {(record["status"], record["answer"]) for record in records} == {("ok", script["answer"])}
    assert all(record["windows"][0]["predicted_prompt_tokens"] == record["usage"]["prompt_tokens"] for record in records)
    assert "started again" in err
    assert f"{count} of {count} items" in err


def is_server(process: psutil.Process) -> bool:
    """Whether it is vLLM's API server, not the engine below it."""
    try:
        return "vllm.entrypoints.openai.api_server" in process.cmdline()
    except psutil.Error:
        return False
