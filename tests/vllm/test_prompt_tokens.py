"""Predicted prompt tokens against the real server's count, and what it answers, through GlyphPipeline."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from glyph_pipeline import Answer, Document, GlyphPipeline, RenderConfig
from glyph_pipeline.errors import ContextLengthError, ReadError, WrongModelError
from glyph_pipeline.planning import Budget, plan_windows
from glyph_pipeline.reading.reader import AnswerDelta, ReasoningDelta
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.rendering.renderer import render
from glyph_pipeline.serving import GlyphServer
from glyph_pipeline.tokens.vision import VisionArithmetic

pytestmark = pytest.mark.vllm

SAMPLE = (Path(__file__).resolve().parents[2] / "docs" / "sample.txt").read_text("utf-8")
EN = RenderConfig.preset("en")
LINE = "One line, and no more."
FULL_PAGE = "\n".join(f"{number}. The harbour ledger of Skarrow, kept in a clear hand and never once amended." for number in range(80))


@pytest.mark.parametrize(
    ("text", "config", "question"),
    [
        pytest.param(LINE, EN, "What is it?", id="one line"),
        pytest.param(FULL_PAGE, EN.replace(auto_crop_width=False, auto_crop_last_page=False), "What is it?", id="one uncropped page"),
        pytest.param(SAMPLE[:4000], EN, "What is it?", id="a cropped last page"),
        pytest.param(SAMPLE * 4, EN, "What is it?", id="many pages"),
        pytest.param(SAMPLE, EN.replace(dpi=96), "What is it?", id="96 dpi"),
        pytest.param(SAMPLE, EN.replace(page_size="Letter", font_size=11, line_height=None), "What is it?", id="another page size"),
        pytest.param(SAMPLE, EN.replace(page_size="420,595", dpi=150), "What is it?", id="a small page at 150 dpi"),
        pytest.param(LINE, EN, "\n\n  Wie heißt das — 什么? <|image|> <|user|>\n", id="a question that is hard to count"),
    ],
)
def test_predicted_equals_served(tiny_server: GlyphServer, tiny_model: Path, text: str, config: RenderConfig, question: str) -> None:
    answer = GlyphPipeline(tiny_server.base_url, config=config).ask(text, question)
    (window,) = answer.windows
    assert window.predicted_prompt_tokens == answer.usage.prompt_tokens
    assert_answered(answer, tiny_model)


def assert_answered(answer: Answer, model: Path) -> None:
    script = json.loads((model / "tiny_glyph.json").read_text("utf-8"))
    assert (answer.text, answer.reasoning, answer.finish_reason) == (script["answer"], script["reasoning"], "stop")


def test_several_documents_streamed(tiny_server: GlyphServer, tiny_model: Path) -> None:
    documents = [Document(LINE, id="line.txt"), Document(SAMPLE, id="sample.txt")]
    events = list(GlyphPipeline(tiny_server.base_url).stream(documents, "What is it?"))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert_answered(answer, tiny_model)
    reasoning = [event.text for event in events if isinstance(event, ReasoningDelta)]
    assert len(reasoning) > 5
    assert "".join(reasoning).strip() == answer.reasoning
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)).strip() == answer.text
    assert answer.windows[0].predicted_prompt_tokens == answer.usage.prompt_tokens
    assert answer.report.tokenizer == f"{tiny_server.model} (server's /tokenize)"


def test_cut_off_while_reasoning(tiny_server: GlyphServer) -> None:
    answer = GlyphPipeline(tiny_server.base_url, sampling=Sampling(max_tokens=20)).ask(LINE, "What is it?")
    assert answer.truncated
    assert answer.text == ""
    assert answer.reasoning
    assert answer.usage.completion_tokens == 20


def test_refusals_are_ours_with_the_servers_words(tiny_server: GlyphServer) -> None:
    with pytest.raises(WrongModelError, match="nonesuch"):
        GlyphPipeline(tiny_server.base_url, "nonesuch").ask(LINE, "What is it?")
    with pytest.raises(WrongModelError, match="does not exist"):
        GlyphPipeline(reader=VLLMReader(tiny_server.base_url, "nonesuch")).ask(LINE, "What is it?")
    sampling = Sampling(stop_token_ids=(999_999,))
    with pytest.raises(ReadError, match="stop_token_ids") as caught:
        GlyphPipeline(tiny_server.base_url, sampling=sampling).ask(LINE, "What is it?")
    assert caught.value.status == 400


def test_the_servers_own_context_error_is_recognised(tiny_server: GlyphServer) -> None:
    # Past our own check, as a server that hides its context would be: a question of more tokens than the context.
    question = "word " * 140_000

    async def read() -> None:
        reader = VLLMReader(tiny_server.base_url, tiny_server.model)
        try:
            async for _ in reader.read([next(render(LINE, EN))], question):
                pass
        finally:
            await reader.aclose()

    with pytest.raises(ContextLengthError, match="maximum context length") as caught:
        asyncio.run(read())
    assert caught.value.limit == 131072
    # The pipeline believes the server, and finds that no plan helps.
    with pytest.raises(ContextLengthError, match="model's context is 131072 tokens"):
        GlyphPipeline(reader=VLLMReader(tiny_server.base_url, tiny_server.model)).ask(LINE, question)


def test_the_context_that_we_check_is_the_servers(tiny_server: GlyphServer) -> None:
    limit = tiny_server.info.require(tiny_server.model).max_model_len
    assert limit == 131072
    page = next(render(FULL_PAGE, EN))
    budget = Budget(limit, 30, 8192)
    assert len(plan_windows([page] * 190, VisionArithmetic.from_model(tiny_server.model), budget)) == 1
    assert len(plan_windows([page] * 400, VisionArithmetic.from_model(tiny_server.model), budget)) > 1
