"""Failures: what went wrong with a request, from the SDK's and the HTTP library's errors. Sends nothing and tries nothing again."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from glyph_pipeline.errors import ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.reading.retry import PASSING_STATUS, retry_after

_CONTEXT_WORDS = ("context length", "context size", "max_model_len", "maximum model length", "too long")
# vLLM: "context length is 2048 tokens", "... (2048)", "is only 2048", "model length of 2048", "max_model_len=2048".
_CONTEXT_LIMIT = re.compile(r"(?:context length|context size|model length|max_model_len)\s*(?:is|of)?\s*(?:only)?\s*[:=(]?\s*(\d+)")
# vLLM (multimodal/processing/processor.py), with 400 and before it streams; and its statuses for images that it makes nothing of.
_MISSING = re.compile(r"Cache miss for image at index (\d+)")
_OF_IMAGES = frozenset({400, 422, 500})
# The HTTP library's exceptions by name: the SDK brings httpx or its successor httpx2, according to its age.
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio"})
_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout", "ProxyError"})


class FailedError(Exception):
    """One attempt failed with ``error``. ``lost``: the server may have died, rather than refused. ``gave_up``: it ended the request itself."""

    def __init__(self, error: GlyphError, *, transient: bool = False, lost: bool = False, gave_up: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.lost = lost
        self.gave_up = gave_up

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asked to be left alone."""
        return self.error.retry_after if isinstance(self.error, ReadError) else None

    @property
    def of_images(self) -> bool:
        """Whether the images may be to blame: that they were named, or only referred to."""
        return self.gave_up or (isinstance(self.error, ReadError) and self.error.status in _OF_IMAGES)

    @property
    def missing(self) -> int | None:
        """Which image (from 0) the server doesn't have that it was referred to; None if that is not what it said."""
        found = _MISSING.search(self.error.message)
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of requests for ``model``, to servers that may be silent for ``read_timeout`` seconds."""

    model: str
    read_timeout: float

    def of(self, url: str, error: Exception) -> FailedError | None:
        """What went wrong with a request to ``url``, with the server's own words; None if it is no failure of a request."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._refused(url, error.status_code, _server_words(error), retry_after(error.response.headers))
        transport = _of_transport(error)
        if transport is not None:
            return self._lost(url, transport)
        if isinstance(error, openai.APIConnectionError):
            return self.broken_off(url, str(error))
        if isinstance(error, openai.APIError):
            # What vLLM finds out after it has begun to stream comes as an event of the stream.
            status = _status_in(error.body)
            return self.broken_off(url, _server_words(error)) if status is None else self._refused(url, status, _server_words(error))
        if isinstance(error, (JSONDecodeError, UnicodeDecodeError)):
            return self.broken_off(url, f"an event that can't be read ({error})")
        return None

    def _lost(self, url: str, error: BaseException) -> FailedError:
        kind, words = type(error).__name__, str(error) or type(error).__name__
        if kind in _UNREACHABLE:
            unreachable = ServerUnreachableError(
                f"The server at {url} can't be reached: {words}.", hint="Is it running? Try: glyph-compress doctor"
            )
            # A certificate does not become valid by asking again.
            passing = not any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))
            return FailedError(unreachable, transient=passing, lost=passing)
        if kind in ("ReadTimeout", "WriteTimeout", "PoolTimeout"):
            what = "sent" if kind == "ReadTimeout" else "took"
            stalled = ReadError(
                f"The server at {url} {what} nothing for {self.read_timeout:g} s.",
                transient=True,
                hint="Allow more time, or look at its log.",
            )
            return FailedError(stalled, transient=True)
        return self.broken_off(url, words)

    def _refused(self, url: str, status: int, words: str, wait: float | None = None) -> FailedError:
        if status == 400 and any(phrase in words.lower() for phrase in _CONTEXT_WORDS):
            named = _CONTEXT_LIMIT.search(words.lower())
            limit = int(named[1]) if named else None
            hint = "Draw denser, or serve with a larger --max-model-len."
            return FailedError(ContextLengthError(f"The server refused the pages as too long: {words}", limit=limit, hint=hint))
        if status == 404 and "model" in words:
            message = f"The server at {url} does not serve {self.model!r}: {words}"
            return FailedError(WrongModelError(message, hint="Name a served model with --model."))
        transient = status in PASSING_STATUS
        hints = {401: "Give its key with --api-key or GLYPH_API_KEY.", 429: "Ask less at once, or allow more time."}
        refused = ReadError(
            f"The server at {url} refused the request (HTTP {status}): {words}",
            status=status,
            transient=transient,
            retry_after=wait if transient else None,
            hint=hints.get(401 if status == 403 else status, "Look at the server's log." if transient else None),
        )
        return FailedError(refused, transient=transient, lost=transient and status >= 500)

    def broken_off(self, url: str, what: str, *, gave_up: bool = False) -> FailedError:
        """The answer ended before its end."""
        message = f"The server at {url} broke off its answer: {what}."
        hint = "Ask again; if it stays so, look at the server's log."
        return FailedError(ReadError(message, transient=True, hint=hint), transient=True, lost=True, gave_up=gave_up)


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
