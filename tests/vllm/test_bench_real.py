"""The serving benchmark with the real vLLM: tokens as predicted, both sides alike, vLLM's own benchmark beside it. No time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.serving import GlyphServer
from tests.support.command import REPOSITORY, environment, glyph_compress

pytestmark = pytest.mark.vllm

SCRIPT = REPOSITORY / "scripts" / "bench_gpu.py"


def test_a_small_run_end_to_end(tiny_server: GlyphServer, tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = ("--lengths", "500,1K", "--concurrency", "1,2", "--repeats", "2", "--max-tokens", "8")
    asked = ("bench", *few, "--base-url", tiny_server.base_url, "-o", out, "--json")
    done = glyph_compress(*asked, state=tmp_path, GLYPH_VLLM_PYTHON=str(vllm_python))
    assert done.returncode == 0, done.stderr
    assert "--no-enable-prefix-caching" in done.stderr  # the flags of the process that serves
    assert "prefix caching: off" in done.stderr
    records = [json.loads(line) for line in (out / "bench.jsonl").read_text("utf-8").splitlines()]
    assert [(record["length"], record["concurrency"]) for record in records] == [(500, 1), (1000, 1), (500, 2), (1000, 2)]
    for record in records:
        assert record["cache_hits"] == {"prefix": 0, "multimodal": 0}
        assert len(record["text"]["requests"]) == len(record["pages"]["requests"]) == 2 * record["concurrency"]
        for request in record["pages"]["requests"]:
            assert request["predicted"] == request["prompt_tokens"]
        for request in [*record["text"]["requests"], *record["pages"]["requests"]]:
            assert request["output_tokens"] == 8  # the end of the answer ends neither side
            assert 0 <= record["length"] - request["text_tokens"] <= 8
        fewer, more = (max(request["prompt_tokens"] for request in record[side]["requests"]) for side in ("pages", "text"))
        assert fewer < more
    shown = json.loads(done.stdout)
    assert [row["length"] for row in shown["vllm_bench"]] == [500, 1000, 500, 1000]
    for theirs in shown["vllm_bench"]:
        assert "error" not in theirs
        assert theirs["completed"] == 2 * theirs["concurrency"]
        assert theirs["total_input_tokens"] == theirs["completed"] * theirs["length"]
        assert theirs["total_output_tokens"] == theirs["completed"] * 8
        assert (out / "vllm-bench" / f"{theirs['length']}x{theirs['concurrency']}.json").is_file()
    report = (out / "report.html").read_text("utf-8")
    assert "vllm bench serve" in report
    assert str(tiny_model) in report


def bench_gpu(vllm_python: Path, tmp_path: Path, *options: str) -> str:
    env = environment(tmp_path, GLYPH_VLLM_PYTHON=str(vllm_python))
    command = [sys.executable, str(SCRIPT), "--tiny", "--lengths", "500,2K", "--repeats", "1", "-o", str(tmp_path / "out"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.fspath(tmp_path), timeout=1400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "says nothing of Glyph" in done.stdout
    return done.stdout


def test_the_script_for_gpus_with_a_tiny_model_of_random_weights(vllm_python: Path, tmp_path: Path) -> None:
    few = ("--throughput-length", "500", "--concurrency", "1,2", "--no-vllm-bench")
    printed = bench_gpu(vllm_python, tmp_path, *few)
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")] == ["text tokens", "---", "500", "2,000"]
    records: dict[str, list[dict[str, Any]]] = {
        name: [json.loads(line) for line in (tmp_path / "out" / name / "bench.jsonl").read_text("utf-8").splitlines()]
        for name in ("prefill", "throughput")
    }
    assert [record["length"] for record in records["prefill"]] == [500, 2000]
    assert [record["concurrency"] for record in records["throughput"]] == [1, 2]
    for record in [*records["prefill"], *records["throughput"]]:
        for request in record["text"]["requests"]:
            # Its tokenizer is cl100k_base's: beside the text there are the template and the question.
            assert request["prompt_tokens"] - request["text_tokens"] < 30
        assert all(request["predicted"] == request["prompt_tokens"] for request in record["pages"]["requests"])


def test_the_script_without_vllm(vllm_python: Path, tmp_path: Path) -> None:
    bench_gpu(vllm_python, tmp_path, "--backend", "transformers")
    rows = [json.loads(line) for line in (tmp_path / "out" / "transformers.jsonl").read_text("utf-8").splitlines()]
    assert [row["length"] for row in rows] == [500, 2000]
    for row in rows:
        assert 0 <= row["text_tokens"] - row["length"] < 30
        assert row["page_tokens"] < row["text_tokens"]
        assert min(row["text_s"], row["pages_s"], row["image_processor_s"], row["drawing_s"]) > 0
