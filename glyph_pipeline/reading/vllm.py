"""VLLMReader: pages and a question to a vLLM (or other OpenAI-compatible) server, streamed. Knows no rendering and owns no server."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.background import unattended
from glyph_pipeline.errors import ConfigError, ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.page import Page
from glyph_pipeline.reading.answer import AnswerSplitter
from glyph_pipeline.reading.endpoints import Endpoints
from glyph_pipeline.reading.messages import build_message, page_urls
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Retrying, Usage
from glyph_pipeline.reading.retry import PASSING_STATUS, Retries, RetryPolicy, retry_after
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
_CONTEXT_WORDS = ("context length", "context size", "max_model_len", "maximum model length", "too long")
# vLLM: "context length is 2048 tokens", "... (2048)", "is only 2048", "model length of 2048", "max_model_len=2048".
_CONTEXT_LIMIT = re.compile(r"(?:context length|context size|model length|max_model_len)\s*(?:is|of)?\s*(?:only)?\s*[:=(]?\s*(\d+)")
# The HTTP library's exceptions by name: the SDK brings httpx or its successor httpx2, according to its age.
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio"})
_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout", "ProxyError"})
# How vLLM ends a stream whose request it gave up, e.g. because it is shut down: what came of the answer is no answer.
_GIVEN_UP = frozenset({"abort", "error"})

_Clients = dict[str, "AsyncOpenAI"]


class _FailedError(Exception):
    """One attempt failed with ``error``. ``lost``: the server may have died, rather than refused."""

    def __init__(self, error: GlyphError, *, transient: bool = False, lost: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.lost = lost

    @property
    def retry_after(self) -> float | None:
        return self.error.retry_after if isinstance(self.error, ReadError) else None


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
    ) -> None:
        self.model = model
        self.page_folder = page_folder
        self.sampling = sampling or Sampling()
        self._api_key = _sendable(api_key)
        self._read_timeout = read_timeout
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

    async def read(self, pages: Sequence[Page], question: str, *, max_tokens: int | None = None) -> AsyncGenerator[ReadEvent, None]:
        """Stream reasoning and answer; the last event is the result, and always that of one whole stream.

        A Retrying event says that the attempt failed, that another follows and that all deltas so far are void.
        ``max_tokens`` bounds this answer below the sampling's. Closing the iterator early ends the request on the server
        too. Raises ContextLengthError, WrongModelError, ServerUnreachableError, ReadError (with the server's words); the last
        of several attempts says in its hint how many they were and how long they took.
        """
        limit = min(max_tokens or self.sampling.max_tokens, self.sampling.max_tokens)
        with page_urls(pages, self.page_folder) as urls:
            async with aclosing(self._tried(urls, question, limit)) as events:
                async for event in events:
                    yield event

    async def _tried(self, urls: Sequence[str], question: str, limit: int) -> AsyncGenerator[ReadEvent, None]:
        """Attempts, until one succeeds or there is no point in another."""
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        retries = Retries(self._retry)
        hops = 0  # from server to server since the last wait
        while True:
            try:
                async with aclosing(self._attempt(clients, urls, question, limit)) as events:
                    async for event in events:
                        yield event
                return
            except _FailedError as e:
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

    async def _attempt(self, clients: _Clients, urls: Sequence[str], question: str, max_tokens: int) -> AsyncGenerator[ReadEvent, None]:
        """One request to one server, from its beginning to its result. Raises _FailedError."""
        splitter = AnswerSplitter()
        usage = Usage()
        reason: str | None = None
        with self._endpoints.turn() as turn:
            try:
                stream = await self._open(self._connected(clients, turn.url), urls, question, max_tokens)
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
                    raise self._broken_off(turn.url, "the stream ended without a finish_reason")
                if reason in _GIVEN_UP:
                    raise self._broken_off(turn.url, f"it gave the request up (finish_reason {reason!r})")
            except Exception as e:
                failed = e if isinstance(e, _FailedError) else self._failed(turn.url, e)
                if failed is None:
                    raise
                if failed.transient:
                    self._endpoints.failed(turn, failed.retry_after)
                if failed is e:
                    raise
                raise failed from e
            self._endpoints.succeeded(turn)
        for event in splitter.finish(truncated=reason == "length"):
            yield event
        finish: Literal["stop", "length"] = "length" if reason == "length" else "stop"
        yield ReadResult(splitter.text, splitter.reasoning, finish, usage)

    async def _open(self, client: AsyncOpenAI, urls: Sequence[str], question: str, max_tokens: int) -> AsyncStream[ChatCompletionChunk]:
        return await client.chat.completions.create(
            model=self.model,
            messages=[build_message(urls, question)],
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

    def _failed(self, url: str, error: Exception) -> _FailedError | None:
        """What went wrong with a request to ``url``, with the server's own words; None if it is no failure of a request."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._refused(url, error.status_code, _server_words(error), retry_after(error.response.headers))
        transport = _of_transport(error)
        if transport is not None:
            return self._lost(url, transport)
        if isinstance(error, openai.APIConnectionError):
            return self._broken_off(url, str(error))
        if isinstance(error, openai.APIError):
            # What vLLM finds out after it has begun to stream comes as an event of the stream.
            status = _status_in(error.body)
            return self._broken_off(url, _server_words(error)) if status is None else self._refused(url, status, _server_words(error))
        if isinstance(error, (JSONDecodeError, UnicodeDecodeError)):
            return self._broken_off(url, f"an event that can't be read ({error})")
        return None

    def _lost(self, url: str, error: BaseException) -> _FailedError:
        kind, words = type(error).__name__, str(error) or type(error).__name__
        if kind in _UNREACHABLE:
            unreachable = ServerUnreachableError(
                f"The server at {url} can't be reached: {words}.", hint="Is it running? Try: glyph-compress doctor"
            )
            # A certificate does not become valid by asking again.
            passing = not any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))
            return _FailedError(unreachable, transient=passing, lost=passing)
        if kind in ("ReadTimeout", "WriteTimeout", "PoolTimeout"):
            what = "sent" if kind == "ReadTimeout" else "took"
            stalled = ReadError(
                f"The server at {url} {what} nothing for {self._read_timeout:g} s.",
                transient=True,
                hint="Allow more time, or look at its log.",
            )
            return _FailedError(stalled, transient=True)
        return self._broken_off(url, words)

    def _refused(self, url: str, status: int, words: str, wait: float | None = None) -> _FailedError:
        if status == 400 and any(phrase in words.lower() for phrase in _CONTEXT_WORDS):
            named = _CONTEXT_LIMIT.search(words.lower())
            limit = int(named[1]) if named else None
            hint = "Draw denser, or serve with a larger --max-model-len."
            return _FailedError(ContextLengthError(f"The server refused the pages as too long: {words}", limit=limit, hint=hint))
        if status == 404 and "model" in words:
            message = f"The server at {url} does not serve {self.model!r}: {words}"
            return _FailedError(WrongModelError(message, hint="Name a served model with --model."))
        transient = status in PASSING_STATUS
        hints = {401: "Give its key with --api-key or GLYPH_API_KEY.", 429: "Ask less at once, or allow more time."}
        refused = ReadError(
            f"The server at {url} refused the request (HTTP {status}): {words}",
            status=status,
            transient=transient,
            retry_after=wait if transient else None,
            hint=hints.get(401 if status == 403 else status, "Look at the server's log." if transient else None),
        )
        return _FailedError(refused, transient=transient, lost=transient and status >= 500)

    def _broken_off(self, url: str, what: str) -> _FailedError:
        message = f"The server at {url} broke off its answer: {what}."
        hint = "Ask again; if it stays so, look at the server's log."
        return _FailedError(ReadError(message, transient=True, hint=hint), transient=True, lost=True)


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


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what led to it, the outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _of_transport(error: Exception) -> BaseException | None:
    """The HTTP library's error in or behind ``error``; the connection's, if it passed through unwrapped."""
    import openai

    for each in _chain(error) if isinstance(error, openai.APIConnectionError) else [error]:
        if type(each).__module__.split(".")[0] in _TRANSPORTS or isinstance(each, (ConnectionError, ssl.SSLError)):
            return each
    return None


def _status_in(body: object) -> int | None:
    """The HTTP status that an error event of a stream names."""
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _server_words(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("error", body)
        body = body.get("message") if isinstance(body, dict) else body
    return str(body) if body and isinstance(body, str) else str(error.message)


async def _keep_private(request: Any) -> None:
    """Request hook: only the headers the request needs."""
    for header in list(request.headers.keys()):
        if header.lower() not in _HEADERS:
            del request.headers[header]
    request.headers["user-agent"] = "glyph-pipeline"
