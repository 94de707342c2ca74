"""The proxy before the real vLLM: unchanged clients, fewer prompt tokens, exactly as many as the proxy says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from glyph_pipeline.proxy.running import ProxyServer
from glyph_pipeline.serving import GlyphServer
from tests.proxy.clients import CLIENTS, Client, nothing_sent_home
from tests.proxy.proxied import LONG, QUESTION, proxied
from tests.support.command import SAMPLE
from tests.support.processes import wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore::UserWarning")]

__all__ = ["nothing_sent_home"]

TEXT = SAMPLE.read_text("utf-8")


@pytest.fixture(scope="module")
def proxy(tiny_server: GlyphServer) -> Iterator[ProxyServer]:
    with proxied(tiny_server.base_url, workers=1) as server:
        yield server


def post(url: str, model: str, messages: list[dict[str, Any]], **more: Any) -> httpx.Response:
    body = {"model": model, "messages": messages, "max_tokens": 8, **more}
    response = httpx.post(f"{url}/chat/completions", json=body, timeout=600)
    assert response.status_code == 200, response.text
    return response


def answer_of(model: Path) -> str:
    return str(json.loads((model / "tiny_glyph.json").read_text("utf-8"))["answer"])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_clients_work_unchanged(proxy: ProxyServer, tiny_server: GlyphServer, tiny_model: Path, client: Client) -> None:
    messages = [{"role": "user", "content": LONG}]
    direct = client(tiny_server.base_url, tiny_server.model, messages)
    through = client(proxy.base_url, tiny_server.model, messages)
    assert through.text == direct.text
    assert answer_of(tiny_model) in through.text
    assert through.prompt_tokens < direct.prompt_tokens / 2


def test_the_prompt_has_exactly_the_vision_tokens_that_the_proxy_says(proxy: ProxyServer, tiny_server: GlyphServer) -> None:
    question = {"type": "text", "text": QUESTION}
    asked = [{"role": "user", "content": [{"type": "text", "text": TEXT}, question]}]
    bare = post(tiny_server.base_url, tiny_server.model, [{"role": "user", "content": [question]}]).json()
    drawn = post(proxy.base_url, tiny_server.model, asked)
    saved = drawn.json()["glyph_pipeline"]
    assert drawn.json()["usage"]["prompt_tokens"] - bare["usage"]["prompt_tokens"] == saved["vision_tokens"]
    assert drawn.headers["x-glyph-vision-tokens"] == str(saved["vision_tokens"])
    # The server's own count, which is what the same text costs there.
    whole = post(proxy.base_url, tiny_server.model, asked, glyph={"draw": False}).json()
    assert saved["tokenizer"] == f"{tiny_server.model} (server's /tokenize)"
    assert abs(whole["usage"]["prompt_tokens"] - bare["usage"]["prompt_tokens"] - saved["text_tokens"]) <= 1  # where text meets text
    assert "glyph_pipeline" not in whole


def test_a_conversation_grows_by_what_is_added(proxy: ProxyServer, tiny_server: GlyphServer) -> None:
    first = [{"role": "user", "content": LONG}]
    second = [*first, {"role": "assistant", "content": "The crew."}, {"role": "user", "content": "With what tools?"}]
    once = post(proxy.base_url, tiny_server.model, first)
    again = post(proxy.base_url, tiny_server.model, second)
    assert again.json()["glyph_pipeline"] == once.json()["glyph_pipeline"]
    assert again.json()["usage"]["prompt_tokens"] - once.json()["usage"]["prompt_tokens"] < 60


def test_what_the_server_refuses_passes_through_as_it_said_it(proxy: ProxyServer, tiny_server: GlyphServer) -> None:
    for body in (
        {"model": "nonesuch", "messages": [{"role": "user", "content": "Hello"}]},
        {"model": tiny_server.model, "messages": "none"},
        {"model": tiny_server.model, "messages": [{"role": "user", "content": "word " * 140_000}]},
    ):
        direct = httpx.post(f"{tiny_server.base_url}/chat/completions", json=body, timeout=600)
        through = httpx.post(f"{proxy.base_url}/chat/completions", json=body, headers={"X-Glyph-Draw": "off"}, timeout=600)
        assert (through.status_code, through.json()) == (direct.status_code, direct.json())
        assert through.status_code >= 400


def test_models_are_the_servers(proxy: ProxyServer, tiny_server: GlyphServer) -> None:
    through = httpx.get(f"{proxy.base_url}/models", timeout=60).json()
    direct = httpx.get(f"{tiny_server.base_url}/models", timeout=60).json()
    assert [model["id"] for model in through["data"]] == [model["id"] for model in direct["data"]] == [tiny_server.model]


def test_a_client_that_leaves_ends_the_request_on_the_server(endless_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    with (
        GlyphServer.launch(endless_model, "cpu", vllm=vllm_python, timeout=900, log_path=tmp_path / "vllm.log") as server,
        proxied(server.base_url) as proxy,
    ):
        body = {"model": server.model, "messages": [{"role": "user", "content": LONG}], "max_tokens": 100_000, "stream": True}
        with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, timeout=600) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data:")
        wait_for(lambda: _generates_nothing(server), "the end of the request on the server", 300)


def _generates_nothing(server: GlyphServer) -> bool:
    """Whether a request of one token is the only one that gets any: the model itself never stops."""
    before = _generated(server)
    post(server.base_url, server.model, [{"role": "user", "content": "Hello"}], max_tokens=1)
    return _generated(server) == before + 1


def _generated(server: GlyphServer) -> int:
    metrics = httpx.get(f"{server.base_url.removesuffix('/v1')}/metrics", timeout=60).text
    return int(sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("vllm:generation_tokens_total{")))
