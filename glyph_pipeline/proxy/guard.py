"""Guard: who may ask, how many at a time, and every failure as an error object. Knows addresses and keys, no documents."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from glyph_pipeline.proxy.bodies import ClientGoneError, Receive
from glyph_pipeline.proxy.metrics import ProxyMetrics
from glyph_pipeline.proxy.refusal import RefusalError
from glyph_pipeline.proxy.relay import BrokenOffError, Send, refuse
from glyph_pipeline.proxy.settings import ProxySettings

App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_log = logging.getLogger("glyph_pipeline.proxy")
# What a metric may call an endpoint: a client's own path never becomes a label.
PATHS = frozenset({"/v1/models", "/v1/chat/completions", "/health", "/metrics", "/openapi.json"})
# Names by which this machine reaches itself. A web page of elsewhere whose name is made to point here has another.
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_RETRY_AFTER_S = 1


class Guard:
    """An ASGI application around another: refuses what may not pass, and lets no exception out."""

    def __init__(self, app: App, settings: ProxySettings, metrics: ProxyMetrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._under_way = 0
        own = settings.host.lower().strip("[]")
        self._names = _LOCAL_NAMES | {f"[{own}]" if ":" in own else own}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request; anything but HTTP is passed on as it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        refusal: RefusalError | None = None
        try:
            await self._admitted(scope, receive, noted)
        except RefusalError as e:
            refusal = e
        except ClientGoneError:
            self._metrics.error("client_gone")
        except BrokenOffError:
            pass  # returning without an end makes the server close the connection
        except asyncio.CancelledError:
            # Only the end of the proxy cancels this. What is cancelled with an exception is logged with a traceback.
            refusal = RefusalError(503, "The proxy is being stopped.", kind="stopping", code="stopping", headers={"connection": "close"})
        except Exception as e:
            # Where it happened, and no message: that might hold what was asked.
            where = traceback.extract_tb(e.__traceback__)[-1]
            _log.error("A bug: %s in %s, line %s. Please report it.", type(e).__name__, where.name, where.lineno)
            refusal = RefusalError(500, "The proxy failed. Its log says where.", kind="internal", code="internal_error")
        if refusal is not None:
            self._metrics.error(refusal.kind)
            if not status:
                await refuse(noted, refusal)
        self._metrics.request(scope["path"] if scope["path"] in PATHS else "other", status)

    async def _admitted(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self._settings.is_local:
            self._check_host(headers.get("host"))
        if self._settings.api_key is not None and scope["path"] != "/health":
            self._check_key(headers.get("authorization", ""), self._settings.api_key)
        if not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._settings.max_concurrency:
            raise RefusalError(
                503,
                f"The proxy has {self._settings.max_concurrency} requests under way already.",
                kind="busy",
                code="busy",
                headers={"retry-after": str(_RETRY_AFTER_S), "connection": "close"},
            )
        self._under_way += 1
        try:
            with self._metrics.under_way():
                await self._app(scope, receive, send)
        finally:
            self._under_way -= 1

    def _check_host(self, host: str | None) -> None:
        match = _HOST.fullmatch(host or "")
        if match is None or match[1].lower() not in self._names:
            raise RefusalError(
                403,
                "The Host header is not a name of this machine: use 127.0.0.1, localhost or [::1].",
                kind="host",
                code="host_not_allowed",
            )

    def _check_key(self, authorization: str, key: str) -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
            raise RefusalError(
                401,
                "The proxy wants its key: Authorization: Bearer KEY.",
                kind="unauthorized",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
