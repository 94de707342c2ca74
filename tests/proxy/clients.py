"""Clients as people write them, which know nothing of the proxy: each asks one question about one text, and says what it got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

MAX_TOKENS = 400
# Glyph marks its answer with special tokens, and its clients ask to see them.
EXTRA = {"skip_special_tokens": False}


@dataclass(frozen=True, slots=True)
class Got:
    """The answer, and the prompt tokens that the client was told of."""

    text: str
    prompt_tokens: int


Client = Callable[[str, str, list[dict[str, str]]], Got]


def openai_sync(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import openai

    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        done = client.chat.completions.create(model=model, messages=messages, max_tokens=MAX_TOKENS, temperature=0, extra_body=EXTRA)
    assert done.usage is not None
    return Got(done.choices[0].message.content or "", done.usage.prompt_tokens)


def openai_async(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import openai

    async def ask() -> Got:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            done = await client.chat.completions.create(
                model=model, messages=messages, max_tokens=MAX_TOKENS, temperature=0, extra_body=EXTRA
            )
        assert done.usage is not None
        return Got(done.choices[0].message.content or "", done.usage.prompt_tokens)

    return asyncio.run(ask())


def openai_stream(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import openai

    text, usages = "", []
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        for chunk in client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=MAX_TOKENS,
            temperature=0,
            extra_body=EXTRA,
            stream=True,
            stream_options={"include_usage": True},
        ):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            if chunk.usage is not None:
                usages.append(chunk.usage.prompt_tokens)
    (prompt_tokens,) = usages
    return Got(text, prompt_tokens)


def openai_stream_helper(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import openai

    with (
        openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client,
        client.chat.completions.stream(
            model=model, messages=messages, max_tokens=MAX_TOKENS, temperature=0, extra_body=EXTRA, stream_options={"include_usage": True}
        ) as stream,
    ):
        done = stream.get_final_completion()
    assert done.usage is not None
    return Got(done.choices[0].message.content or "", done.usage.prompt_tokens)


def litellm_sync(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import litellm

    done = litellm.completion(
        model=f"openai/{model}",
        api_base=base_url,
        api_key="none",
        messages=messages,
        max_tokens=MAX_TOKENS,
        temperature=0,
        extra_body=EXTRA,
        num_retries=0,
    )
    return Got(done.choices[0].message.content or "", done.usage.prompt_tokens)


def litellm_stream(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    import litellm

    text, usages = "", []
    for chunk in litellm.completion(
        model=f"openai/{model}",
        api_base=base_url,
        api_key="none",
        messages=messages,
        max_tokens=MAX_TOKENS,
        temperature=0,
        extra_body=EXTRA,
        num_retries=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        if getattr(chunk, "usage", None):
            usages.append(chunk.usage.prompt_tokens)
    return Got(text, usages[-1])


def langchain_sync(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=base_url, api_key="none", model=model, max_tokens=MAX_TOKENS, temperature=0, extra_body=EXTRA, max_retries=0)
    done = chat.invoke(messages)
    assert done.usage_metadata is not None
    return Got(str(done.content), done.usage_metadata["input_tokens"])


def langchain_stream(base_url: str, model: str, messages: list[dict[str, str]]) -> Got:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        base_url=base_url,
        api_key="none",
        model=model,
        max_tokens=MAX_TOKENS,
        temperature=0,
        extra_body=EXTRA,
        max_retries=0,
        stream_usage=True,
    )
    pieces = list(chat.stream(messages))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.usage_metadata is not None
    return Got(str(whole.content), whole.usage_metadata["input_tokens"])


CLIENTS: list[Client] = [
    openai_sync,
    openai_async,
    openai_stream,
    openai_stream_helper,
    litellm_sync,
    litellm_stream,
    langchain_sync,
    langchain_stream,
]


@pytest.fixture(autouse=True, scope="module")
def nothing_sent_home() -> Iterator[None]:
    """litellm would load its price list from GitHub when it is imported, LangChain would trace if the environment says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("LITELLM_MODE", "PRODUCTION")  # else it reads a file .env
        patch.setenv("LANGSMITH_TRACING", "false")
        patch.setenv("LANGCHAIN_TRACING_V2", "false")
        yield
