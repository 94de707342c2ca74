"""The openai SDK, litellm and LangChain, as people use them: they notice nothing but the saved tokens. (tests/vllm has the real server.)"""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.clients import CLIENTS, Client, Got, nothing_sent_home
from tests.proxy.proxied import LONG, QUESTION, proxied
from tests.support.fake_openai import Fake, Handler, running

# What litellm's and LangChain's own use of pydantic gives rise to is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

__all__ = ["nothing_sent_home"]

USAGE = {"prompt_tokens": 700, "completion_tokens": 2, "total_tokens": 702}


def answers(handler: Handler, body: dict[str, Any]) -> None:
    if body.get("stream"):
        usage = USAGE if (body.get("stream_options") or {}).get("include_usage") else None
        handler.stream([{"role": "assistant", "content": "The "}, {"content": "crew."}], usage=usage)
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": "The crew."}, "finish_reason": "stop"}
        handler.send(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": USAGE})


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_it_works_unchanged(client: Client) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": LONG}]
    with running(Fake(answers)) as fake, proxied(fake.base_url) as proxy:
        assert client(proxy.base_url, "fake/Glyph", messages) == Got("The crew.", 700)
        (body,) = fake.requests
    assert body["messages"][0] == messages[0]
    kinds = [part["type"] for part in body["messages"][1]["content"]]
    assert kinds == ["text", *["image_url"] * (len(kinds) - 2), "text"]
    assert body["messages"][1]["content"][-1]["text"] == f"Question: {QUESTION}"


def test_the_openai_sdk_shows_what_was_saved() -> None:
    import openai

    messages: Any = [{"role": "user", "content": LONG}]
    with running(Fake(answers)) as fake, proxied(fake.base_url) as proxy, openai.OpenAI(base_url=proxy.base_url, api_key="none") as client:
        raw = client.chat.completions.with_raw_response.create(model="fake/Glyph", messages=messages)
        saved = raw.parse().model_extra["glyph_pipeline"]
        assert saved["pages"] == int(raw.headers["x-glyph-pages"]) >= 1
        *_, last = client.chat.completions.create(
            model="fake/Glyph", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        assert last.model_extra is not None
        assert last.model_extra["glyph_pipeline"] == saved
        off = client.chat.completions.create(model="fake/Glyph", messages=messages, extra_body={"glyph": {"draw": False}})
        assert "glyph_pipeline" not in (off.model_extra or {})


def test_the_openai_sdk_raises_its_own_errors() -> None:
    import openai

    with (
        running(Fake(answers)) as fake,
        proxied(fake.base_url, api_key="right") as proxy,
        openai.OpenAI(base_url=proxy.base_url, api_key="wrong", max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError, match="wants its key"):
            client.models.list()
        models = client.with_options(api_key="right").models.list()
        assert [model.id for model in models] == ["fake/Glyph"]
