"""VLLMReader: pages and a question to a vLLM (or other OpenAI-compatible) server, streamed. Knows no rendering and owns no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast
from weakref import WeakKeyDictionary

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.errors import ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.page import Page
from glyph_pipeline.reading.answer import AnswerSplitter
from glyph_pipeline.reading.messages import build_message
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Usage
from glyph_pipeline.reading.sampling import Sampling

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk

# Prefill of a full context on a CPU takes minutes; a server that says nothing for this long is taken for dead.
DEFAULT_READ_TIMEOUT_S = 1800.0
_CONNECT_TIMEOUT_S = 10.0
# What a request may say of us. The SDK adds the machine's system, architecture and Python version, and takes further
# headers from its own environment variables: none of that is the server's business.
_HEADERS = frozenset(
    {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "content-type",
        "content-length",
        "transfer-encoding",
        "authorization",
        "user-agent",
    }
)
_CONTEXT_WORDS = ("maximum context length", "max_model_len", "context length", "maximum model length", "too long")


class VLLMReader:
    """Reads with the model that a server serves. ``base_url`` ends in ``/v1``; ``api_key`` only if the server wants one.

    Images come first, the question last, with the reference sampling unless ``sampling`` says otherwise. ``read_timeout``
    is in seconds without a byte. Connection errors and 408/409/429/5xx before the first byte are tried again by the SDK.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        read_timeout: float = DEFAULT_READ_TIMEOUT_S,
        max_retries: int = 2,
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.sampling = sampling or Sampling()
        self._api_key = api_key
        self._read_timeout = read_timeout
        self._max_retries = max_retries
        # One client a loop: its connections belong to the loop that opened them, and ask() runs one of its own each time.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The served model."""
        return self.model

    async def read(self, pages: Sequence[Page], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        """Stream reasoning and answer; the last event is the result.

        ``max_tokens`` bounds this answer below the sampling's. Closing the iterator early ends the request on the server
        too. Raises ContextLengthError, WrongModelError, ServerUnreachableError, ReadError (with the server's words).
        """
        import openai

        splitter = AnswerSplitter()
        usage = Usage()
        reason: str | None = None
        opened = False
        try:
            stream = await self._open(pages, question, min(max_tokens or self.sampling.max_tokens, self.sampling.max_tokens))
            opened = True
            async with stream:
                async for chunk in stream:
                    if chunk.usage is not None:
                        usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                    for choice in chunk.choices:
                        delta = choice.delta
                        for event in splitter.feed(delta.content, _reasoning(delta)):
                            yield event
                        reason = choice.finish_reason or reason
        except openai.OpenAIError as e:
            # In the middle of a stream older SDKs let the transport's own exceptions pass, newer ones wrap them.
            broken = opened and isinstance(e, openai.APIConnectionError) and not isinstance(e, openai.APITimeoutError)
            raise (self._broken_off(str(e)) if broken else self._translated(e)) from e
        except Exception as e:
            if type(e).__module__.split(".")[0] not in {"httpx", "httpx2", "httpcore", "httpcore2", "anyio"}:
                raise
            raise self._broken_off(str(e) or type(e).__name__) from e
        if reason is None:
            raise self._broken_off("the stream ended without a finish_reason")
        for event in splitter.finish(truncated=reason == "length"):
            yield event
        finish: Literal["stop", "length"] = "length" if reason == "length" else "stop"
        yield ReadResult(splitter.text, splitter.reasoning, finish, usage)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the reader opens new ones if it is used again."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def _open(self, pages: Sequence[Page], question: str, max_tokens: int) -> AsyncStream[ChatCompletionChunk]:
        return await self._connected().chat.completions.create(
            model=self.model,
            messages=[build_message(pages, question)],
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=self.sampling.extra_body(),
        )

    def _connected(self) -> AsyncOpenAI:
        import openai

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            timeout = openai.Timeout(self._read_timeout, connect=_CONNECT_TIMEOUT_S)
            transport = openai.DefaultAsyncHttpxClient(
                timeout=timeout,
                trust_env=uses_environment_proxies(self.base_url),
                # The pages go to the server that was named, not to where it points.
                follow_redirects=False,
                event_hooks={"request": [_keep_private]},
            )
            self._clients[loop] = openai.AsyncOpenAI(
                base_url=self.base_url,
                # Always given: left out, the SDK would send the key it finds in OPENAI_API_KEY.
                api_key=self._api_key or "none",
                max_retries=self._max_retries,
                timeout=timeout,
                http_client=transport,
            )
        return self._clients[loop]

    def _translated(self, error: Exception) -> GlyphError:
        """The SDK's error as one of ours, with the server's own words."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return ReadError(
                f"The server at {self.base_url} sent nothing for {self._read_timeout:g} s.", hint="Allow more time, or look at its log."
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            return ServerUnreachableError(
                f"The server at {self.base_url} can't be reached: {cause or type(cause).__name__}.",
                hint="Is it running? Try: glyph-compress doctor",
            )
        if isinstance(error, openai.APIStatusError):
            return self._refused(error.status_code, _server_words(error))
        if isinstance(error, openai.APIError) and (status := _status_in(error.body)) is not None:
            # What vLLM finds out after it has begun to stream comes as an event of the stream.
            return self._refused(status, _server_words(error))
        return self._broken_off(str(error))

    def _refused(self, status: int, words: str) -> GlyphError:
        if status == 400 and any(phrase in words for phrase in _CONTEXT_WORDS):
            return ContextLengthError(
                f"The server refused the pages as too long: {words}", hint="Draw denser, or serve with a larger --max-model-len."
            )
        if status == 404 and "model" in words:
            return WrongModelError(
                f"The server at {self.base_url} does not serve {self.model!r}: {words}", hint="Name a served model with --model."
            )
        hint = "Give its key with --api-key or GLYPH_API_KEY." if status in (401, 403) else None
        return ReadError(f"The server at {self.base_url} refused the request (HTTP {status}): {words}", status=status, hint=hint)

    def _broken_off(self, what: str) -> ReadError:
        return ReadError(
            f"The server at {self.base_url} broke off its answer: {what}.", hint="Ask again; if it stays so, look at the server's log."
        )


def _reasoning(delta: Any) -> str | None:
    """The reasoning of a delta: vLLM sends ``reasoning``; before 2026 it was ``reasoning_content``."""
    return cast("str | None", getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None))


def _status_in(body: object) -> int | None:
    """The HTTP status that an error event of a stream names."""
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _server_words(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if message:
            return str(message)
    return str(error.message)


async def _keep_private(request: Any) -> None:
    """Request hook: only the headers the request needs."""
    for header in list(request.headers.keys()):
        if header.lower() not in _HEADERS:
            del request.headers[header]
    request.headers["user-agent"] = "glyph-pipeline"
