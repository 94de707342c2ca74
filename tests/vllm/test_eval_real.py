"""glyph-compress eval and the real vLLM. The tests' model has random weights: its accuracy says nothing, its rows and counts do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.serving import GlyphServer
from tests.support.command import glyph_compress
from tests.support.processes import command

pytestmark = pytest.mark.vllm

START_SECONDS = 900.0


def test_needles(tiny_server: GlyphServer, tiny_model: Path, tmp_path: Path) -> None:
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    asked = ("eval", "needle", "--lengths", "300,600", "--depths", "0,50", "--kinds", "word,uuid", "--config", "en", "--config", "aligned")
    asked += ("--base-url", tiny_server.base_url, "-o", str(tmp_path / "out"), "--json")
    done = glyph_compress(*asked, state=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert len(whole["rows"]) == 2 * 2 * 2 * 2
    for row in whole["rows"]:
        assert (row["status"], row["answer"], row["reasoning"]) == ("ok", script["answer"], script["reasoning"])
        assert (row["right"], row["finish_reason"], row["reader"]) == (False, "stop", tiny_server.model)
        assert row["tokenizer"] == f"{tiny_server.model} (server's /tokenize)"
        assert row["prompt_tokens"] > row["vision_tokens"] > 0
        assert row["completion_tokens"] > 0
    assert (tmp_path / "out" / "report.html").is_file()
    again = glyph_compress(*asked, state=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == whole


def test_ruler_with_a_server_of_its_own_that_is_not_started_again(tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    answer = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))["answer"]
    folder = tmp_path / "data" / "niah_single_2"
    folder.mkdir(parents=True)
    record = {
        "index": 1,
        "input": "Read this.\nThe weir is old.\nIt rains.\nWhat is old?",
        "outputs": [answer.upper(), "nothing of that"],
        "length": 20,
    }
    (folder / "validation.jsonl").write_text(json.dumps(record) + "\n")
    asked = ("eval", "ruler", "--data", tmp_path / "data", "--model", tiny_model, "-o", tmp_path / "out")
    with command(*asked, state=tmp_path / "state", python=vllm_python) as (process, _):
        out, err = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, err
    assert "mean of the tasks: 50.0" in out
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "ruler.jsonl").read_text("utf-8").splitlines()]
    assert (row["score"], row["reader"], row["question"][:10]) == (0.5, str(tiny_model), "Read this.")
    # Nothing is missing: there is no vLLM here, and none is asked for.
    with command(*asked, state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, _):
        again, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert again == out
    assert "Nothing is missing" in err
    # A flag of vLLM may change what it answers: that is another row, for which one would have to be started.
    with command(*asked, "--server-arg=--quantization=fp8", state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, _):
        _, err = process.communicate(timeout=300)
        assert process.returncode == ConfigError.exit_code, err
        assert "no-vllm" in err
    assert "Nothing is missing" not in err
