"""VLLMReader against a fake server: what is asked and what is made of the answer. Faults: test_faults; the real server: tests/vllm."""

from __future__ import annotations

import asyncio
import base64
from contextlib import nullcontext
from typing import Any

import pytest

from glyph_pipeline import Page, RenderConfig, render
from glyph_pipeline.errors import ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.reading.reader import AnswerDelta, ReadEvent, ReadResult, ReasoningDelta, Usage
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.fake_openai import Fake, Handler, refuses, running, says

ONCE = RetryPolicy(budget=0)  # a failure is an error at once
TEXT = "The tide tables were kept by Ines Orrin until 1911.\n" * 120


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return list(render(TEXT, RenderConfig.preset("en")))


def read(fake: Fake, pages: list[Page], question: str = "Who kept the tables?", **options: Any) -> list[ReadEvent]:
    max_tokens = options.pop("max_tokens", None)

    async def collect() -> list[ReadEvent]:
        reader = VLLMReader(fake.base_url, fake.model, **options)
        try:
            return [event async for event in reader.read(pages, question, max_tokens=max_tokens)]
        finally:
            await reader.aclose()

    with nullcontext() if fake.base_url else running(fake):
        return asyncio.run(collect())


def test_pages_come_first_the_question_last_with_the_reference_sampling(pages: list[Page]) -> None:
    fake = Fake(says([{"role": "assistant", "content": ""}, {"reasoning": "Page 1."}, {"content": "<answer>Ines"}, {"content": " Orrin"}]))
    with running(fake):
        events = read(fake, pages)
    body = fake.requests[0]
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert len(pages) == 2
    assert kinds == ["image_url", "image_url", "text"]
    assert message["content"][-1]["text"] == "Who kept the tables?"
    sent = [base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,")) for part in message["content"][:-1]]
    assert sent == [page.png for page in pages]
    expected = {
        "temperature": 0.0001,
        "top_p": 1,
        "top_k": 1,
        "repetition_penalty": 1.1,
        "max_tokens": 8192,
        "skip_special_tokens": False,
        "stop_token_ids": [151329, 151348, 151336],
        "stream": True,
    }
    assert {name: body[name] for name in expected} == expected
    assert events == [
        ReasoningDelta("Page 1."),
        AnswerDelta("Ines"),
        AnswerDelta(" Orrin"),
        ReadResult("Ines Orrin", "Page 1.", "stop", Usage()),
    ]


def test_usage_is_the_servers(pages: list[Page]) -> None:
    fake = Fake(says([{"content": "42"}], usage={"prompt_tokens": 77, "completion_tokens": 3, "total_tokens": 80}))
    assert read(fake, pages)[-1] == ReadResult("42", "", "stop", Usage(77, 3))


def test_reasoning_under_its_name_of_before_2026(pages: list[Page]) -> None:
    fake = Fake(says([{"reasoning_content": "Hm."}, {"content": "42"}]))
    assert read(fake, pages)[-1] == ReadResult("42", "Hm.", "stop", Usage())


def test_thinking_left_in_the_content(pages: list[Page]) -> None:
    fake = Fake(says([{"content": "Hm.</th"}, {"content": "ink><answer>42</answer>"}]))
    assert read(fake, pages)[-1] == ReadResult("42", "Hm.", "stop", Usage())


def test_cut_off_while_reasoning_is_truncated_not_empty(pages: list[Page]) -> None:
    fake = Fake(says([{"reasoning": "Hm, and"}], finish="length"))
    assert read(fake, pages)[-1] == ReadResult("", "Hm, and", "length", Usage())


def test_max_tokens_of_a_read_never_exceeds_the_samplings(pages: list[Page]) -> None:
    fake = Fake(says([{"content": "x"}]))
    with running(fake):
        read(fake, pages, max_tokens=100)
        read(fake, pages, max_tokens=100, sampling=Sampling(max_tokens=7))
    assert [body["max_tokens"] for body in fake.requests] == [100, 7]


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "Input length (2535) exceeds model's maximum context length (2048).", ContextLengthError),
        (400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049", ContextLengthError),
        (400, "Failed to load image: cannot identify image file", ReadError),
        (404, "The model `fake/Glyph` does not exist.", WrongModelError),
        (401, "Unauthorized", ReadError),
        (503, "The engine is dead", ReadError),
    ],
)
def test_refusals_keep_the_servers_words(pages: list[Page], status: int, words: str, kind: type[GlyphError]) -> None:
    fake = Fake(refuses(status, words))
    with pytest.raises(kind) as caught:
        read(fake, pages, retry=ONCE)
    assert words in str(caught.value)
    assert type(caught.value) is kind


def test_a_refusal_inside_the_stream_is_a_refusal(pages: list[Page]) -> None:
    def refuse_late(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.wfile.write(
            b'data: {"error": {"message": "token_id(s) [9] out of vocabulary", "type": "BadRequestError", "code": 400}}\n\n'
        )
        handler.close_connection = True

    with pytest.raises(ReadError, match=r"refused.*\[9\] out of vocabulary") as caught:
        read(Fake(refuse_late), pages)
    assert caught.value.status == 400


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_that_breaks_off_is_an_error_never_half_an_answer(pages: list[Page], done: bool) -> None:
    fake = Fake(says([{"content": "<answer>Ines"}], finish=None, done=done))
    with pytest.raises(ReadError, match="broke off"):
        read(fake, pages, retry=ONCE)


def test_a_connection_that_is_cut(pages: list[Page]) -> None:
    def cut(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("content-length", "100000")
        handler.end_headers()
        handler.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "<answer>In"}}]}\n\n')
        handler.close_connection = True

    with pytest.raises(ReadError, match="broke off"):
        read(Fake(cut), pages, retry=ONCE)


def test_nobody_there(pages: list[Page]) -> None:
    fake = Fake(says([]), base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ServerUnreachableError, match="can't be reached"):
        read(fake, pages, retry=ONCE)


def test_nothing_of_this_machine_or_another_product_is_sent(pages: list[Page], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "secret-of-another-product")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: secret-of-another-product")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    fake = Fake(says([{"content": "42"}]))
    read(fake, pages)
    (headers,) = fake.headers
    assert "secret-of-another-product" not in str(headers)
    assert headers["user-agent"] == "glyph-pipeline"
    assert not [name for name in headers if name.startswith(("x-", "openai-"))]


def test_the_key_that_was_given_is_sent(pages: list[Page]) -> None:
    fake = Fake(says([{"content": "42"}]))
    read(fake, pages, api_key="mine")
    assert fake.headers[0]["authorization"] == "Bearer mine"
