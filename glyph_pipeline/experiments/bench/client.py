"""Client: one streamed chat request and when each thing happened to it. Knows no pages, and tries nothing twice."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.errors import ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving import is_healthy

_CONNECT_TIMEOUT_S = 10.0
# vLLM closes a connection that nobody used for 5 s: one that is older might be closed just as a request is sent.
_KEPT_S = 2.0
# vLLM's words for a prompt that is too long for it.
_TOO_LONG = ("context length", "maximum model length", "max_model_len")


@dataclass(frozen=True, slots=True)
class Reply:
    """When things happened, in seconds: ``upload`` until the last byte of the request was handed to the network, ``prefill`` from there to
    the first token, ``decode`` from there to the end; and the tokens as the server counted them, None if it did not say."""

    upload: float
    prefill: float
    decode: float
    prompt_tokens: int | None
    output_tokens: int | None


class BenchClient:
    """Sends prepared bodies to ``{base_url}/chat/completions``; an async context manager. ``read_timeout``: seconds without a byte.

    ``first_event``: the first event of a stream comes with the first token, as vLLM's does; else the first event that has text counts.
    """

    def __init__(self, base_url: str, api_key: str | None, read_timeout: float, first_event: bool) -> None:
        self._url = f"{base_url}/chat/completions"
        self._base_url = base_url
        self._timeout = read_timeout
        self._first_event = first_event
        headers = {"content-type": "application/json", "user-agent": "glyph-pipeline"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(read_timeout, connect=_CONNECT_TIMEOUT_S, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEPT_S),
            trust_env=uses_environment_proxies(base_url),
            follow_redirects=False,
        )

    async def __aenter__(self) -> BenchClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._client.aclose()

    async def send(self, body: bytes) -> Reply:
        """One request, to its end. Raises ContextLengthError, WrongModelError, ServerUnreachableError, ReadError."""
        try:
            return await self._send(body)
        except httpx.HTTPError as error:
            raise self._failed(error) from error

    async def _send(self, body: bytes) -> Reply:
        began = uploaded = time.perf_counter()

        async def trace(event: str, info: object) -> None:
            nonlocal uploaded
            if event.endswith("send_request_body.complete"):
                uploaded = time.perf_counter()

        first: float | None = None
        finished = False
        usage: dict[str, Any] = {}
        async with self._client.stream("POST", self._url, content=body, extensions={"trace": trace}) as response:
            if response.status_code != 200:
                raise self._refused(response.status_code, _words(await response.aread()))
            async for line in response.aiter_lines():
                event = _event(line)
                if event is None:
                    continue
                if "error" in event:
                    raise ReadError(f"The server at {self._base_url} broke off its answer: {event['error']}.", hint="Look at its log.")
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    if first is None and (self._first_event or _has_text(choice)):
                        first = time.perf_counter()
                    finished = finished or choice.get("finish_reason") is not None
        ended = time.perf_counter()
        if not finished:
            raise ReadError(f"The server at {self._base_url} broke off its answer.", hint="Look at its log.")
        if first is None:  # nothing but the end: tokens that are no text
            first = ended
        return Reply(uploaded - began, first - uploaded, ended - first, usage.get("prompt_tokens"), usage.get("completion_tokens"))

    def _refused(self, status: int, words: str) -> GlyphError:
        if status in (400, 413) and any(phrase in words.lower() for phrase in _TOO_LONG):
            return ContextLengthError(f"The server refused the request as too long: {words}")
        if status == 404 and "model" in words:
            return WrongModelError(
                f"The server at {self._base_url} does not serve the model: {words}", hint="Name a served model with --model."
            )
        hint = "Give its key with --api-key or GLYPH_API_KEY." if status in (401, 403) else "Look at its log."
        return ReadError(f"The server at {self._base_url} refused the request (HTTP {status}): {words}", status=status, hint=hint)

    def _failed(self, error: httpx.HTTPError) -> GlyphError:
        """A server that has gone is told from one that only dropped a request."""
        words = str(error) or type(error).__name__
        if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
            return ReadError(
                f"The server at {self._base_url} said nothing for {self._timeout:g} s.", hint="Allow more with --read-timeout."
            )
        gone = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) or not is_healthy(self._base_url, timeout=_CONNECT_TIMEOUT_S)
        if gone:
            return ServerUnreachableError(
                f"The server at {self._base_url} is gone: {words}.",
                hint="What was measured is kept. Start it again, then run the same command.",
            )
        return ReadError(f"The server at {self._base_url} broke off its answer: {words}.", hint="Look at its log.")


def _event(line: str) -> dict[str, Any] | None:
    """The object of a line of the stream; None for any other line."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return None
    try:
        event = json.loads(data)
    except ValueError:
        return {"error": f"an event that can't be read ({data[:80]!r})"}
    return event if isinstance(event, dict) else None


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return any(delta.get(name) for name in ("content", "reasoning", "reasoning_content"))


def _words(body: bytes) -> str:
    """What the server says in a refusal."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        found = found.get("error", found)
        return str(found["message"] if isinstance(found, dict) else found)
    except (ValueError, KeyError, AttributeError):
        return text[:300]
