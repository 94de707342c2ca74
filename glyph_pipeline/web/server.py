"""Serves the page: uvicorn on one address, which answers under its own name only and lets the page load nothing from elsewhere."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import ipaddress
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout, suppress
from typing import Any
from urllib.parse import urlsplit

from glyph_pipeline.errors import UsageError
from glyph_pipeline.web.page import CSS, Settings, build, gradio

USER = "glyph"
"""The name that goes with a password."""

# The page's own scripts are inline and its workers are blobs; everything comes from this server, whatever gradio's template names.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; form-action 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)
_REMOTE_FILE = re.compile(r"/(?:file[=/]|proxy=)https?:/", re.IGNORECASE)
_MAX_FILE = "50mb"


def check_address(host: str, password: str | None) -> None:
    """Raises UsageError for an address that others can reach, without a password."""
    if not _is_ours(host) and not password:
        raise UsageError(f"--host {host}: others could use the page and read what is asked.", hint="Give --password, or leave --host out.")


def _is_ours(host: str) -> bool:
    """Whether only this machine can reach what listens there. 0 and 0.0 mean all networks, as 0.0.0.0 does: no other spelling is taken."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class _Guard:
    """Adds the headers that bind the browser to every response, and refuses what a page of elsewhere sends or embeds.

    Such a page could not read the answers, but it could fill the disk with files, or ask. Nor is anything fetched from elsewhere for a
    client: gradio would hand on what lies behind a URL, and the policy that allows this server alone would allow that.
    """

    _HEADERS = (
        (b"content-security-policy", _POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Any, names: frozenset[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        status = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if status is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await send(
                {"type": "http.response.body", "body": b"Not for other web pages, and nothing from elsewhere. Open the page itself."}
            )
            return

        async def bound(message: Any) -> None:
            if message["type"] == "http.response.start":
                # Gradio lets pages of any origin read along, unless it is reached as localhost or 127.0.0.1.
                headers = [pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(b"access-control-")]
                message = {**message, "headers": [*headers, *self._HEADERS]}
            await send(message)

        await self._app(scope, receive, bound)

    def _refusal(self, scope: Any) -> int | None:
        """The HTTP status of a refusal, None if there is none."""
        # Not starlette's TrustedHostMiddleware, which in 1.0 takes no IPv6 address for a name.
        if self._names is not None and _host(scope) not in self._names:
            return 400
        return 403 if _is_foreign(scope) or _REMOTE_FILE.search(scope["path"]) else None


def _host(scope: Any) -> str | None:
    """The name under which this server was asked, without port and brackets; None if there is none that can be one."""
    given = [value for name, value in scope["headers"] if name == b"host"]
    try:
        return urlsplit(f"//{given[0].decode('ascii')}").hostname if len(given) == 1 else None
    except ValueError:  # not ASCII, or half a bracket
        return None


def _is_foreign(scope: Any) -> bool:
    """Whether a browser says that a page of elsewhere asks; following a link there is no more than opening this page."""
    headers = {name: value for name, value in scope["headers"] if name.startswith(b"sec-fetch-")}
    if headers.get(b"sec-fetch-site") != b"cross-site":
        return False
    return scope.get("method") not in ("GET", "HEAD") or headers.get(b"sec-fetch-mode") != b"navigate"


def application(settings: Settings, host: str, password: str | None) -> Any:
    """The ASGI application. Raises MissingExtraError and UsageError (see :func:`check_address`)."""
    gr = gradio()
    fastapi: Any = importlib.import_module("fastapi")
    check_address(host, password)
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(_Guard, names=_LOCAL_NAMES | {host.lower().strip("[]")} if _is_ours(host) else None)
    # Fonts of the system: a theme's own would be fetched from a font server.
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    # Newer than the oldest gradio that will do: what was run is not to be kept.
    later = {"run_history": False} if "run_history" in inspect.signature(gr.mount_gradio_app).parameters else {}
    return gr.mount_gradio_app(
        app,
        build(settings),
        "/",
        server_name=host,
        footer_links=[],
        **later,
        auth=(USER, password) if password else None,
        allowed_paths=[str(settings.folder)],
        show_error=True,
        max_file_size=_MAX_FILE,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(**fonts),
        css=CSS,
    )


def run(settings: Settings, host: str, port: int, password: str | None, on_ready: Callable[[str], object]) -> None:
    """Serve until SIGINT or SIGTERM; ``port`` 0 is any free one. ``on_ready`` is told the page's URL.

    Raises UsageError, also for an address that can't be listened on, and MissingExtraError.
    """
    uvicorn: Any = importlib.import_module("uvicorn")
    with redirect_stdout(sys.stderr):  # some releases of gradio print there
        app = application(settings, host, password)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except (OSError, UnicodeError) as e:  # UnicodeError: a name that can't be one
        listening.close()
        raise UsageError(
            f"{host}:{port} can't be listened on: {getattr(e, 'strerror', None) or e}.", hint="Give another --port; 0 is any free one."
        ) from e
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3, server_header=False))

    async def serve() -> None:
        serving = asyncio.ensure_future(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.05)
        if server.started:
            shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
            on_ready(f"http://{shown}:{listening.getsockname()[1]}/")
        await serving

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
