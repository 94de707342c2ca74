"""An upstream that records, and a proxy before it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from glyph_pipeline.proxy.running import ProxyServer
from tests.proxy.proxied import proxied
from tests.proxy.recorder import Recorder, recording


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx's own timeout of 5 s is too short for a busy machine, unless a test names one."""
    for name in ("get", "post", "request", "stream"):
        monkeypatch.setattr(httpx, name, functools.partial(getattr(httpx, name), timeout=60))


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    with recording(Recorder(tokens=lambda text: len(text) // 4)) as recorder:
        yield recorder


@pytest.fixture
def proxy(upstream: Recorder) -> Iterator[ProxyServer]:
    with proxied(upstream.base_url) as server:
        yield server


class Poster:
    """Sends chat requests to a proxy."""

    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/chat/completions"

    def __call__(self, messages: Any, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return httpx.post(self.url, json={"model": "m", "messages": messages, **more}, headers=headers, timeout=60)


@pytest.fixture
def post(proxy: ProxyServer) -> Poster:
    return Poster(proxy.base_url)
