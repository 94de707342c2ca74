"""VLLMReader: pages and a question to a vLLM (or other OpenAI-compatible) server, streamed. Knows no rendering and owns no server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.background import unattended
from glyph_pipeline.errors import ConfigError, ReadError
from glyph_pipeline.parts import Part
from glyph_pipeline.reading.answer import AnswerSplitter
from glyph_pipeline.reading.endpoints import Endpoints
from glyph_pipeline.reading.failures import FailedError, Failures
from glyph_pipeline.reading.messages import Outgoing
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Retrying, Usage
from glyph_pipeline.reading.retry import Retries, RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.sentimages import SentImages

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

# Prefill of a full context on a CPU takes minutes; a server that says nothing for this long is taken for dead.
DEFAULT_READ_TIMEOUT_S = 1800.0
_CONNECT_TIMEOUT_S = 10.0
_VERSION_TIMEOUT_S = 10.0
# vLLM takes names for images (the key "uuid") from this version on.
_NAMING_VLLM = (0, 11)
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
# How vLLM ends a stream whose request it gave up, e.g. because it is shut down: what came of the answer is no answer.
_GIVEN_UP = frozenset({"abort", "error"})

_Clients = dict[str, "AsyncOpenAI"]


class VLLMReader:
    """Reads with the model that a server serves, or several servers do alike. ``api_key`` only if they want one.

    Each URL of ``base_url`` ends in ``/v1``; the key is sent to every one of them. A request goes to the server with the
    fewest under way (see Endpoints). Images come first, the question last, with the reference sampling unless ``sampling``
    says otherwise. ``read_timeout`` is in seconds without a byte.

    Refused and broken connections, streams without an end, stalls, 408, 409, 429 and 5xx are tried again as ``retry`` says.
    ``revive`` is called (in a thread; it may block, and several reads may call it at once) before the next try if the
    connection was lost or the server failed with a 5xx, unless another server takes over: it restarts a dead server and
    returns when that is ready, or raises a GlyphError, which ends the read. Its time doesn't count against the retry budget.

    Pages go inside the requests; with ``page_folder``, a folder that the server may read (``--allowed-local-media-path``), as
    files in it, which are removed when a read ends.

    With ``image_uuids`` pages are named by their SHA-256, and those that a server has been sent are only referred to (vLLM from 0.11,
    served with a cache for images: ``--mm-processor-cache-gb``). One that has lost them is sent them again at once, which counts as no
    failure; other servers get what they would without it. ``uuid_folder`` keeps what each server was sent for later processes.

    Raises ConfigError without any URL, and for a URL or a key that can't be sent.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str,
        *,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        read_timeout: float = DEFAULT_READ_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        revive: Callable[[], object] | None = None,
        page_folder: Path | None = None,
        image_uuids: bool = False,
        uuid_folder: Path | None = None,
    ) -> None:
        self.model = model
        self.page_folder = page_folder
        self.sampling = sampling or Sampling()
        self._api_key = _sendable(api_key)
        self._read_timeout = read_timeout
        self._images = SentImages(uuid_folder) if image_uuids else None
        self._failures = Failures(model, read_timeout)
        self._retry = retry or RetryPolicy()
        self._revive = revive
        urls = [base_url] if isinstance(base_url, str) else base_url
        self._endpoints = Endpoints([_askable(url) for url in urls], clock=self._retry.clock)
        # One client a loop and URL: its connections belong to the loop that opened them, and ask() runs one of its own each
        # time; which proxies it may use depends on the URL.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The served model."""
        return self.model

    @property
    def base_url(self) -> str:
        """The URL of the first server."""
        return self._endpoints.urls[0]

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The URLs of all servers."""
        return self._endpoints.urls

    async def read(self, parts: Sequence[Part], question: str, *, max_tokens: int | None = None) -> AsyncGenerator[ReadEvent, None]:
        """Stream reasoning and answer; the last event is the result, and always that of one whole stream.

        A Retrying event says that the attempt failed, that another follows and that all deltas so far are void.
        ``max_tokens`` bounds this answer below the sampling's. Closing the iterator early ends the request on the server
        too. Raises ContextLengthError, WrongModelError, ServerUnreachableError, ReadError (with the server's words); the last
        of several attempts says in its hint how many they were and how long they took.
        """
        limit = min(max_tokens or self.sampling.max_tokens, self.sampling.max_tokens)
        with Outgoing(parts, question, self.page_folder) as outgoing:
            async with aclosing(self._tried(outgoing, limit)) as events:
                async for event in events:
                    yield event

    async def _tried(self, outgoing: Outgoing, limit: int) -> AsyncGenerator[ReadEvent, None]:
        """Attempts, until one succeeds or there is no point in another."""
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        retries = Retries(self._retry)
        hops = 0  # from server to server since the last wait
        while True:
            try:
                async with aclosing(self._attempt(clients, outgoing, limit)) as events:
                    async for event in events:
                        yield event
                return
            except FailedError as e:
                failed, cause = e, e.__cause__
            # Each server once, then a wait: a request that only this read can't get through must not chase around servers
            # that other reads find in good health.
            elsewhere = hops < len(self.base_urls) - 1 and self._endpoints.any_ready()
            hops = hops + 1 if elsewhere else 0
            seconds = retries.next_wait(self._endpoints.asked_wait(), at_once=elsewhere) if failed.transient else None
            if seconds is None:
                if failed.transient:
                    failed.error.hint = " ".join(filter(None, [retries.account(), failed.error.hint]))
                raise failed.error from cause
            self._still_open(clients)
            yield Retrying(failed.error.message, seconds)
            await asyncio.sleep(seconds)
            if failed.lost and self._revive is not None and not elsewhere:
                with retries.uncounted():
                    await unattended(self._revive)
            self._still_open(clients)

    async def aclose(self) -> None:
        """Close the connections of the running event loop, to all servers; the reader opens new ones if it is used again.

        Reads of this loop that are still under way end with a ReadError.
        """
        clients = self._clients.pop(asyncio.get_running_loop(), {})
        for client in list(clients.values()):
            await client.close()

    def _still_open(self, clients: _Clients) -> None:
        """Without this, a read that aclose() has ended would open connections again that nobody closes."""
        if self._clients.get(asyncio.get_running_loop()) is not clients:
            raise ReadError("The reader was closed while it was reading.", hint="Close it when all reads have ended.")

    async def _attempt(self, clients: _Clients, outgoing: Outgoing, max_tokens: int) -> AsyncGenerator[ReadEvent, None]:
        """One try at one server, from its beginning to its result. Raises FailedError."""
        with self._endpoints.turn() as turn:
            try:
                async with aclosing(self._asked(self._connected(clients, turn.url), turn.url, outgoing, max_tokens)) as events:
                    async for event in events:
                        yield event
            except Exception as e:
                failed = self._failure(turn.url, e)
                if failed is None:
                    raise
                if failed.transient:
                    self._endpoints.failed(turn, failed.retry_after)
                if failed is e:
                    raise
                raise failed from e
            self._endpoints.succeeded(turn)

    async def _asked(self, client: AsyncOpenAI, url: str, outgoing: Outgoing, max_tokens: int) -> AsyncGenerator[ReadEvent, None]:
        """The answer to a request; if the server makes nothing of names for images, to one with more of them, or without names."""
        ways = await self._ways(client, url, outgoing)
        refused = False
        for way, known in enumerate(ways, 1):
            begun = False
            try:
                async with aclosing(self._answer(client, url, outgoing.message(known), max_tokens)) as events:
                    async for event in events:
                        begun = True
                        yield event
            except Exception as e:
                failed = self._failure(url, e)
                if begun or way == len(ways) or failed is None or not failed.of_images:
                    raise
                refused = refused or self._noted(url, outgoing, failed)
                continue
            if self._images is not None:
                if refused:
                    self._images.learnt(url, takes_names=False)
                elif known is not None:
                    self._images.sent(url, outgoing.names)
            return

    async def _answer(
        self, client: AsyncOpenAI, url: str, message: ChatCompletionUserMessageParam, max_tokens: int
    ) -> AsyncGenerator[ReadEvent, None]:
        """One request, from its beginning to its result."""
        splitter = AnswerSplitter()
        usage = Usage()
        reason: str | None = None
        stream = await self._open(client, message, max_tokens)
        async with stream:
            async for chunk in stream:
                if chunk.usage is not None:
                    usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                for choice in chunk.choices or ():
                    delta = choice.delta
                    for event in splitter.feed(delta.content, _reasoning(delta)):
                        yield event
                    reason = choice.finish_reason or reason
        if reason is None:
            raise self._failures.broken_off(url, "the stream ended without a finish_reason")
        if reason in _GIVEN_UP:
            raise self._failures.broken_off(url, f"it gave the request up (finish_reason {reason!r})", gave_up=True)
        for event in splitter.finish(truncated=reason == "length"):
            yield event
        finish: Literal["stop", "length"] = "length" if reason == "length" else "stop"
        yield ReadResult(splitter.text, splitter.reasoning, finish, usage)

    async def _ways(self, client: AsyncOpenAI, url: str, outgoing: Outgoing) -> list[frozenset[str] | None]:
        """How to send the images, the shortest first: without those that the server has, all with their names, all without."""
        if self._images is None or not outgoing.pages:
            return [None]
        if self._images.takes_names(url) is None:
            takes = await _is_naming_vllm(client, url)
            if takes is not None:
                self._images.learnt(url, takes)
        if not self._images.takes_names(url):
            return [None]
        known = self._images.known(url, outgoing.names)
        return [known, frozenset(), None] if known else [frozenset(), None]

    def _noted(self, url: str, outgoing: Outgoing, failed: FailedError) -> bool:
        """Note what a refusal says of the images that a server has; whether it seems to know no names."""
        assert self._images is not None
        gone = failed.missing
        self._images.lost(url, outgoing.names, gone)
        return gone is None and isinstance(failed.error, ReadError) and failed.error.status in (400, 422)

    def _failure(self, url: str, error: Exception) -> FailedError | None:
        return error if isinstance(error, FailedError) else self._failures.of(url, error)

    async def _open(
        self, client: AsyncOpenAI, message: ChatCompletionUserMessageParam, max_tokens: int
    ) -> AsyncStream[ChatCompletionChunk]:
        return await client.chat.completions.create(
            model=self.model,
            messages=[message],
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=self.sampling.extra_body(),
        )

    def _connected(self, clients: _Clients, url: str) -> AsyncOpenAI:
        import openai

        if url not in clients:
            timeout = openai.Timeout(self._read_timeout, connect=_CONNECT_TIMEOUT_S)
            transport = openai.DefaultAsyncHttpxClient(
                timeout=timeout,
                trust_env=uses_environment_proxies(url),
                # The pages go to the server that was named, not to where it points.
                follow_redirects=False,
                event_hooks={"request": [_keep_private]},
            )
            clients[url] = openai.AsyncOpenAI(
                base_url=url,
                # Always given: left out, the SDK would send the key it finds in OPENAI_API_KEY.
                api_key=self._api_key or "none",
                # The SDK's own tries see neither a broken stream nor another server.
                max_retries=0,
                timeout=timeout,
                http_client=transport,
            )
        return clients[url]


def _askable(url: str) -> str:
    """``url``, if requests can be sent there; found out later, each library would say it in its own way."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # a port out of range, brackets that don't match
        pass
    raise ConfigError(f"{url!r} is not the URL of a server.", hint="Give one such as http://127.0.0.1:8000/v1")


def _sendable(key: str | None) -> str | None:
    """``key``, if it fits into an HTTP header; the HTTP library's own message would show it."""
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigError("The API key can't be sent in an HTTP header.", hint="Is there a line end, a space or a stray character in it?")
    return key


def _reasoning(delta: Any) -> str | None:
    """The reasoning of a delta: vLLM sends ``reasoning``; before 2026 it was ``reasoning_content``."""
    return cast("str | None", getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None))


async def _keep_private(request: Any) -> None:
    """Request hook: only the headers the request needs."""
    for header in list(request.headers.keys()):
        if header.lower() not in _HEADERS:
            del request.headers[header]
    request.headers["user-agent"] = "glyph-pipeline"


async def _is_naming_vllm(client: AsyncOpenAI, url: str) -> bool | None:
    """Whether a vLLM of that version or later is there; None if the server can't be asked now.

    Others are not tried: a server that passes over a key it doesn't know would answer without the pictures.
    """
    import openai

    try:
        told = await client.get(url.rstrip("/").removesuffix("/v1") + "/version", cast_to=object, options={"timeout": _VERSION_TIMEOUT_S})
    except openai.APIStatusError:
        return False
    except (openai.APIError, JSONDecodeError, UnicodeDecodeError):
        return None
    version = told.get("version") if isinstance(told, dict) else None
    numbers = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _NAMING_VLLM
