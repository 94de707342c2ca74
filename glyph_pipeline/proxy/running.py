"""ProxyServer: the proxy on a socket until it is told to end. Knows uvicorn and signals, no requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from glyph_pipeline.errors import ServerStartError
from glyph_pipeline.proxy.app import create_app
from glyph_pipeline.proxy.settings import ProxySettings

# Longer than clients keep unused connections, so that it is they who close them, and never on a request just sent.
_KEEP_ALIVE_S = 75
_HEAD_BYTES = 64 * 1024
_BACKLOG = 2048
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ProxyServer:
    """Listens from the moment it is made. Raises ServerStartError if the address can't be listened on."""

    def __init__(self, settings: ProxySettings) -> None:
        self.settings = settings
        self._socket = _listening(settings.host, settings.port)
        config = uvicorn.Config(
            create_app(settings),
            http=_protocol(settings.client_timeout),
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.grace)),
            h11_max_incomplete_event_size=_HEAD_BYTES,
            backlog=_BACKLOG,
        )
        # It would show tracebacks; what there is to say the proxy says itself.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = _Server(config)

    @property
    def base_url(self) -> str:
        """The URL for clients, with ``/v1``."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or :meth:`stop`. Requests under way get ``grace`` seconds; a second signal ends them at once."""
        with contextlib.closing(self._socket):
            asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """End :meth:`run`, from any thread."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the serving and nothing else; uvicorn would raise them again afterwards, for its own caller to die of."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._told) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def _protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which closes connections whose client takes longer than this to send the head of a request."""

    class Punctual(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.trailing_data[0]:  # the next head has begun already
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._late is None:
                self._late = self.loop.call_later(seconds, self._close_late)

        def _unwatch(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close_late(self) -> None:
            self._late = None
            if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()

    return Punctual


def _listening(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # Made with its protocol named: asyncio sends small pieces at once (TCP_NODELAY) only where it knows that it is TCP, and
        # a response is two pieces, of which the second would wait 40 ms for the first one's acknowledgement.
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as e:  # UnicodeError: a name that can't be one
        raise _cannot(host, port, e) from e
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as e:
        listening.close()
        raise _cannot(host, port, e) from e
    listening.setblocking(False)
    return listening


def _cannot(host: str, port: int, error: OSError | UnicodeError) -> ServerStartError:
    return ServerStartError(
        f"The proxy can't listen on {host} port {port}: {getattr(error, 'strerror', None) or error}.",
        hint="Name another --host or --port (0: any free one).",
    )
