"""The real proxy in a thread of this process, and texts that it draws."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from glyph_pipeline.proxy.running import ProxyServer
from glyph_pipeline.proxy.settings import ProxySettings
from tests.support.command import SAMPLE

QUESTION = "Who cleared the ice off the dome?"
DOCUMENT = SAMPLE.read_text("utf-8")[:6000]
LONG = f"Read the following text.\n\n{DOCUMENT}\n\nQuestion: {QUESTION}"
KEY = "only-for-tests-1"


@contextmanager
def proxied(upstream: str, **settings: Any) -> Iterator[ProxyServer]:
    """A proxy on a free port of 127.0.0.1 until the block ends."""
    server = ProxyServer(ProxySettings(upstream, port=0, **{"workers": 0, "grace": 2.0, **settings}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()
