"""Upstream: the one server that requests are forwarded to, which headers pass each way, and what it says of its models. Knows no pages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from glyph_pipeline.addresses import is_loopback
from glyph_pipeline.errors import ConfigError
from glyph_pipeline.proxy.refusal import RefusalError
from glyph_pipeline.proxy.settings import ProxySettings
from glyph_pipeline.tokens.vision import FAMILIES, GLM_4V, VisionArithmetic

Headers = list[tuple[str, str]]

# RFC 9110, 7.6.1, and what old proxies send.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Made anew for the upstream, or none of its business: where a client comes from, what a browser keeps for this host.
_NOT_SENT = frozenset({"host", "content-length", "expect", "accept-encoding", "cookie", "origin", "referer", "forwarded", "via"})
# Made anew for the client; a cookie would be one for all clients, and which web pages may read answers is not the upstream's to say.
_NOT_RETURNED = frozenset({"content-length", "date", "server", "set-cookie", "alt-svc", "strict-transport-security"})
_OURS = "x-glyph-"
# vLLM closes a connection that nobody used for 5 s: one that is older might be closed just as a request is sent.
_KEPT_S = 2.0
# Each may find one kept connection dead.
_ATTEMPTS = 5
_TOKENIZE_TIMEOUT_S = 120.0
_SMALL_TIMEOUT_S = 5.0
# How long an upstream without /tokenize is not asked for it again.
_ASK_AGAIN_S = 60.0
_MODELS_REMEMBERED = 256


class Upstream:
    """A pool of connections to ``settings.upstream`` and to nowhere else. Bound to the event loop it is used in; close it."""

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEPT_S),
            trust_env=False,
            follow_redirects=False,
            # No jar: a cookie that one client is given must not be sent for another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._client.headers.clear()
        self._no_tokenize_until = 0.0
        self._vision: dict[str, VisionArithmetic] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, method: str, path: str, headers: Headers, body: bytes | None = None) -> httpx.Response:
        """The response to a request to ``/v1`` + ``path``, its body still to be read, as it comes; close it.

        Raises RefusalError 502 or 504 if there is none.
        """
        for attempt in range(_ATTEMPTS):
            fresh = False

            async def trace(event: str, info: object) -> None:
                nonlocal fresh
                fresh = fresh or event == "connection.connect_tcp.started"

            request = self._client.build_request(
                method, self._settings.upstream + path, headers=_raw(headers), content=body, extensions={"trace": trace}
            )
            try:
                return await self._client.send(request, stream=True)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as e:
                # A kept connection that the upstream was closing meanwhile. Asking for an answer changes nothing there, so it may be asked again.
                if fresh or attempt == _ATTEMPTS - 1:
                    raise self.failed(e) from e
            except httpx.HTTPError as e:
                raise self.failed(e) from e
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def failed(self, error: httpx.HTTPError) -> RefusalError:
        """What to tell a client of a request that failed."""
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return RefusalError(
                502,
                f"The upstream server can't be reached ({type(error).__name__}). Is it running, and is --upstream its URL?",
                kind="unreachable",
                code="upstream_unreachable",
            )
        if isinstance(error, httpx.TimeoutException):
            return RefusalError(
                504,
                f"The upstream server said nothing for {self._settings.read_timeout:g} s.",
                kind="upstream_timeout",
                code="upstream_timeout",
            )
        return RefusalError(
            502, f"The upstream server broke the request off ({type(error).__name__}).", kind="upstream_broken", code="upstream_broken"
        )

    async def answers(self) -> bool:
        """Whether anything answers there that doesn't say it is sick."""
        try:
            response = await self._client.get(f"{self._settings.root}/health", timeout=_SMALL_TIMEOUT_S)
        except httpx.HTTPError:
            return False
        return response.status_code < 500

    async def count(self, model: str, text: str, headers: Headers) -> int | None:
        """Tokens of ``text`` by the upstream's /tokenize, None where it can't say."""
        if time.monotonic() < self._no_tokenize_until:
            return None
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        try:
            response = await self._client.post(
                f"{self._settings.root}/tokenize", json=body, headers=_authorization(headers), timeout=_TOKENIZE_TIMEOUT_S
            )
            if response.status_code in (404, 405, 501) and b"model" not in response.content:
                self._no_tokenize_until = time.monotonic() + _ASK_AGAIN_S
            count = response.json()["count"] if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        return count if isinstance(count, int) and count >= 0 else None

    async def vision(self, model: str, headers: Headers) -> VisionArithmetic:
        """The image arithmetic of a model: the one named in the settings, else the model folder's where that is on this machine."""
        if self._settings.family is not None:
            return FAMILIES[self._settings.family]
        if not is_loopback(urlsplit(self._settings.upstream).hostname or ""):
            return GLM_4V
        if model not in self._vision:
            try:
                response = await self._client.get(
                    f"{self._settings.upstream}/models", headers=_authorization(headers), timeout=_SMALL_TIMEOUT_S
                )
                roots = {entry["id"]: entry.get("root") for entry in response.json()["data"]}
            except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
                return GLM_4V
            if model not in roots:  # a client may name anything, of any length: that is not kept
                return GLM_4V
            if len(self._vision) >= _MODELS_REMEMBERED:
                self._vision.clear()
            self._vision[model] = _of_folder(roots.get(model))
        return self._vision[model]

    def request_headers(self, given: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers of a client's request as the upstream gets them: nothing about this hop, and never the proxy's own key."""
        own, theirs = self._settings.api_key, self._settings.upstream_api_key
        passing = _end_to_end(given, _NOT_SENT)
        if own is not None:
            passing = [(name, value) for name, value in passing if name != "authorization" and own not in value.split()]
        if theirs is not None:
            passing = [(name, value) for name, value in passing if name != "authorization"]
            passing.append(("authorization", f"Bearer {theirs}"))
        # Answers are passed on and added to as they are: they must not come compressed.
        return [*passing, ("accept-encoding", "identity")]


def response_headers(response: httpx.Response) -> Headers:
    """The headers of the upstream's response as the client gets them."""
    kept = _end_to_end(response.headers.raw, _NOT_RETURNED)
    return [(name, value) for name, value in kept if not name.startswith("access-control-")]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]], dropped: frozenset[str]) -> Headers:
    plain: Sequence[tuple[str, str]] = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = {word.strip().lower() for name, value in plain if name == "connection" for word in value.split(",")}
    return [
        (name, value)
        for name, value in plain
        if name not in _HOP_BY_HOP and name not in named and name not in dropped and not name.startswith((_OURS, "x-forwarded-"))
    ]


def _authorization(headers: Headers) -> list[tuple[bytes, bytes]]:
    return _raw([(name, value) for name, value in headers if name == "authorization"])


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    """As bytes: of strings httpx takes ASCII alone, and a client may send others."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _of_folder(root: object) -> VisionArithmetic:
    if isinstance(root, str) and Path(root).is_absolute():
        try:
            return VisionArithmetic.from_model(root)
        except ConfigError:  # it serves, so what it reads is sound; the folder may have changed since
            pass
    return GLM_4V
