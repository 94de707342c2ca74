"""What arrives upstream: pages in place of long texts, and everything else as the client sent it."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from glyph_pipeline.proxy.running import ProxyServer
from glyph_pipeline.proxy.settings import DrawPolicy
from glyph_pipeline.tokens.vision import GLM_4V
from tests.proxy.conftest import Poster
from tests.proxy.proxied import DOCUMENT, LONG, QUESTION, proxied
from tests.proxy.recorder import Recorder

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}


def kinds(content: Any) -> list[str]:
    return [part["type"] for part in content]


def pages_of(content: Any) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True))) for url in urls]


def test_one_long_string_becomes_instruction_pages_question(post: Poster, upstream: Recorder) -> None:
    response = post([{"role": "user", "content": LONG}])
    (taken,) = upstream.chats
    content = taken.json["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "Read the following text."}
    assert content[-1] == {"type": "text", "text": f"Question: {QUESTION}"}
    assert kinds(content[1:-1]) == ["image_url"] * (len(content) - 2)
    saved = response.json()["glyph_pipeline"]
    pages = pages_of(content)
    assert saved["pages"] == len(pages)
    assert saved["vision_tokens"] == sum(GLM_4V.tokens(*page.size) + 2 for page in pages)
    assert saved["ratio"] == round(saved["text_tokens"] / saved["vision_tokens"], 4) > 1.5
    assert saved["tokenizer"] == "m (server's /tokenize)"
    assert [response.headers[f"x-glyph-{name}"] for name in ("pages", "text-tokens", "vision-tokens", "ratio")] == [
        str(saved["pages"]),
        str(saved["text_tokens"]),
        str(saved["vision_tokens"]),
        f"{saved['ratio']:.4f}",
    ]


def test_what_was_counted_is_what_was_drawn(post: Poster, upstream: Recorder) -> None:
    saved = post([{"role": "user", "content": LONG}]).json()["glyph_pipeline"]
    (asked,) = upstream.tokenized
    assert asked.json["prompt"].strip() == DOCUMENT.strip()
    assert (asked.json["model"], asked.json["add_special_tokens"]) == ("m", False)
    assert saved["text_tokens"] == len(asked.json["prompt"]) // 4


def test_parts_before_the_question_are_drawn_whole(post: Poster, upstream: Recorder) -> None:
    question = {"type": "text", "text": QUESTION}
    post([{"role": "user", "name": "ada", "content": [IMAGE, {"type": "text", "text": DOCUMENT}, question, IMAGE]}])
    (message,) = upstream.chats[0].json["messages"]
    assert message["name"] == "ada"
    content = message["content"]
    assert (content[0], content[-2], content[-1]) == (IMAGE, question, IMAGE)
    assert set(kinds(content[1:-2])) == {"image_url"}


def test_everything_else_is_forwarded_as_it_was(post: Poster, upstream: Recorder) -> None:
    more = {
        "tools": [{"type": "function", "function": {"name": "f", "description": DOCUMENT, "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "temperature": 0.1,
        "seed": 12345678901234567890123,
        "nobody_knows": {"a": [1.5e-7, None, True, "\u00e9\U0001f600", "\ud800"]},
        "stop": ["\n"],
    }
    others = [
        {"role": "system", "content": DOCUMENT},
        {"role": "oracle", "content": DOCUMENT, "x": 1},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": DOCUMENT},
        {"role": "assistant", "content": DOCUMENT},
        {"role": "user", "content": [{"type": "text", "text": DOCUMENT, "cache_control": {"type": "ephemeral"}}, IMAGE]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": "Short."},
    ]
    body = {"model": "m", "messages": [*others, {"role": "user", "content": LONG}], **more}
    assert httpx.post(post.url, content=json.dumps(body), headers={"content-type": "application/json"}).status_code == 200
    sent = upstream.chats[0].json
    assert sent["messages"][:-1] == others
    assert kinds(sent["messages"][-1]["content"])[1] == "image_url"
    assert {name: sent[name] for name in more} == more
    assert list(sent) == list(body)


def test_a_request_with_nothing_to_draw_is_the_same_bytes(post: Poster, upstream: Recorder) -> None:
    body = b'{"messages" : [{"content":"caf\\u00e9 1.10","role":"user"}],\n "n": 1.10, "model":"m"}  '
    response = httpx.post(post.url, content=body, headers={"content-type": "application/json; charset=UTF-8"})
    assert upstream.chats[0].body == body
    assert "glyph_pipeline" not in response.json()
    assert [response.headers["x-glyph-pages"], response.headers["x-glyph-ratio"]] == ["0", "0.0000"]


@pytest.mark.parametrize(
    ("headers", "more", "content"),
    [
        ({"X-Glyph-Draw": "off"}, {}, LONG),
        ({}, {"glyph": {"draw": False}}, LONG),
        ({}, {}, f"<!-- glyph:text -->\n{LONG}"),
        ({"X-Glyph-Draw": "on"}, {"glyph": {"draw": False}}, LONG),
    ],
)
def test_drawing_can_be_forbidden(post: Poster, upstream: Recorder, headers: dict[str, str], more: dict[str, Any], content: str) -> None:
    response = post([{"role": "user", "content": content}], headers, **more)
    (taken,) = upstream.chats
    assert taken.json == {"model": "m", "messages": [{"role": "user", "content": content}]}
    assert not taken.header("x-glyph-draw")
    assert response.headers["x-glyph-pages"] == "0"


def test_our_own_field_is_never_forwarded(post: Poster, upstream: Recorder) -> None:
    for content in (LONG, "Short."):
        post([{"role": "user", "content": content}], glyph={"draw": True})
    assert all("glyph" not in taken.json for taken in upstream.chats)


@pytest.mark.parametrize("field", [{"draw": "no"}, {"dpi": 96}, False, [], None])
def test_a_field_of_ours_that_makes_no_sense_is_an_error(post: Poster, upstream: Recorder, field: Any) -> None:
    response = post([{"role": "user", "content": "Hello"}], glyph=field)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "glyph")
    response = post([{"role": "user", "content": "Hello"}], {"X-Glyph-Draw": "perhaps"})
    assert response.status_code == 400
    assert upstream.chats == []


def test_a_turn_is_drawn_the_same_when_it_has_become_history(post: Poster, upstream: Recorder) -> None:
    first = [{"role": "user", "content": LONG}]
    post(first)
    post([*first, {"role": "assistant", "content": "The crew."}, {"role": "user", "content": "And then?"}])
    once, again = (taken.json["messages"] for taken in upstream.chats)
    assert again[0] == once[0]
    assert again[2] == {"role": "user", "content": "And then?"}
    # Counted once and drawn once.
    assert len(upstream.tokenized) == 1
    metrics = httpx.get(post.url.replace("/v1/chat/completions", "/metrics")).text
    assert 'glyph_proxy_page_cache_total{outcome="hit"} 1.0' in metrics
    assert "glyph_proxy_draw_seconds_count 1.0" in metrics


def test_roles_are_the_users_choice(upstream: Recorder) -> None:
    policy = DrawPolicy(frozenset({"system", "tool"}))
    with proxied(upstream.base_url, policy=policy) as server:
        messages = [{"role": "system", "content": DOCUMENT}, {"role": "tool", "tool_call_id": "1", "content": DOCUMENT}]
        Poster(server.base_url)([*messages, {"role": "user", "content": LONG}])
    system, tool, user = upstream.chats[0].json["messages"]
    assert set(kinds(system["content"])) == {"image_url"}  # no question is looked for where none is asked
    assert system["content"] == tool["content"]
    assert tool["tool_call_id"] == "1"
    assert user["content"] == LONG


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (DrawPolicy(min_tokens=2000), "short"),
        (DrawPolicy(min_ratio=50.0), "ratio"),
        (DrawPolicy(max_chars=5000), "long"),
    ],
)
def test_what_does_not_save_enough_stays_text(upstream: Recorder, policy: DrawPolicy, reason: str) -> None:
    with proxied(upstream.base_url, policy=policy) as server:
        response = Poster(server.base_url)([{"role": "user", "content": LONG}])
        metrics = httpx.get(server.base_url.replace("/v1", "/metrics")).text
    assert upstream.chats[0].json["messages"][0]["content"] == LONG
    assert response.headers["x-glyph-pages"] == "0"
    assert f'glyph_proxy_texts_kept_total{{reason="{reason}"}} 1.0' in metrics


def test_pages_that_cost_more_than_the_text_are_never_sent(upstream: Recorder) -> None:
    lines = "\n".join("a" for _ in range(3000)) + f"\n\n{QUESTION}"
    upstream.tokens = lambda text: 1200
    with proxied(upstream.base_url, policy=DrawPolicy(min_ratio=0.0), drawing={"dpi": 144}) as server:
        Poster(server.base_url)([{"role": "user", "content": lines}])
    assert upstream.chats[0].json["messages"][0]["content"] == lines


def test_without_tokenize_cl100k_counts_and_says_so(proxy: ProxyServer, upstream: Recorder) -> None:
    upstream.tokens = None
    saved = Poster(proxy.base_url)([{"role": "user", "content": LONG}]).json()["glyph_pipeline"]
    assert saved["tokenizer"] == "cl100k_base (tiktoken)"
    assert 1000 < saved["text_tokens"] < 2000


def test_what_cannot_be_drawn_goes_on_as_text(upstream: Recorder) -> None:
    blank = " \n" * 3000 + "\u200b" * 3000
    with proxied(upstream.base_url, drawing={"newline-markup": '<font color="#FF0000"> \\n </font>'}, draw_timeout=1e-9) as server:
        ask = Poster(server.base_url)
        assert ask([{"role": "user", "content": LONG}]).status_code == 200
        assert ask([{"role": "user", "content": [{"type": "text", "text": blank}, {"type": "text", "text": "?"}]}]).status_code == 200
        metrics = httpx.get(server.base_url.replace("/v1", "/metrics")).text
    assert upstream.chats[0].json["messages"][0]["content"] == LONG
    assert upstream.chats[1].json["messages"][0]["content"][0]["text"] == blank
    assert 'glyph_proxy_errors_total{kind="drawing"}' in metrics


def test_drawing_in_processes_of_their_own(upstream: Recorder) -> None:
    with proxied(upstream.base_url, workers=1) as server:
        response = Poster(server.base_url)([{"role": "user", "content": LONG}])
    assert int(response.headers["x-glyph-pages"]) > 0
