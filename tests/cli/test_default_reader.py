"""Without server, vLLM and GPU the installed command still answers: it quotes, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, running, says


@pytest.mark.ocr
def test_it_quotes_the_right_passage_and_says_what_it_is(tmp_path: Path) -> None:
    question = "Who cleared the ice off the dome in the winter of 1933, and with what tools?"
    done = glyph_compress(SAMPLE, "-q", question, "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["finish_reason"], answer["reasoning"]) == ("quote", "")
    assert "croquet mallets" in answer["text"].split("\n\n")[0]
    best = answer["quotes"][0]
    assert f"[page {best['page']}]" in answer["text"]
    assert "croquet mallets" in best["text"]
    notice = done.stderr.splitlines()[0]
    assert "OCR" in notice
    assert "glyph-pipeline[vllm]" in notice
    assert "--base-url" in notice
    assert "OCR quotes (RapidOCR)" in done.stderr
    assert answer["usage"] == {"prompt_tokens": None, "completion_tokens": None}


def test_no_reader_is_chosen_over_the_one_that_was_named(tmp_path: Path) -> None:
    with running(Fake(says([{"content": "42"}]))) as fake:
        done = glyph_compress(SAMPLE, "-q", "What?", "--base-url", fake.base_url, state=tmp_path)
    assert done.stdout == "42\n"
    assert "OCR" not in done.stderr
