"""A search that asks the real vLLM: its answers are the error, and its words, which are no proposals, do no harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glyph_pipeline.serving import GlyphServer
from tests.support.command import SAMPLE, glyph_compress

pytestmark = pytest.mark.vllm


def test_accuracy_of_a_served_model_and_a_critic_that_talks_gibberish(tiny_server: GlyphServer, tiny_model: Path, tmp_path: Path) -> None:
    said = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    questions = tmp_path / "q.jsonl"
    entries = [{"question": "What is it?", "answer": said["answer"]}, {"question": "And else?", "answer": "a word that it never says"}]
    questions.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    out = tmp_path / "out"
    asked = ("search", SAMPLE, "--questions", questions, "--base-url", tiny_server.base_url, "-o", out)
    critic = ("--critic-url", tiny_server.base_url, "--critic-every", "2")
    done = glyph_compress(*asked, *critic, "--trials", "5", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in (out / "trials.jsonl").read_text("utf-8").splitlines()]
    assert [trial["counts"] for trial in trials] == [{"questions": {"errors": 1, "of": 2}}] * 5
    assert "critic" not in {trial["proposed"] for trial in trials}
    replies = [json.loads(line) for line in (out / "critic.jsonl").read_text("utf-8").splitlines()]
    assert [(reply["id"], reply["proposals"]) for reply in replies] == [("after 2", []), ("after 4", [])]
    assert all(reply["text"] == said["answer"] and reply["model"] == str(tiny_model) for reply in replies)
    assert done.stderr.count("The critic said nothing that can be used") == 2
    # As wrong everywhere, so the highest ratio is the whole front.
    (best,) = json.loads(done.stdout)["front"]
    assert best["ratio"] == max(trial["ratio"] for trial in trials)
