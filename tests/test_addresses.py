"""Which hosts are this machine, told without asking anybody."""

from __future__ import annotations

import socket

import pytest

from glyph_pipeline.addresses import is_loopback, uses_environment_proxies


@pytest.fixture(autouse=True)
def _no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        pytest.fail("no name may be looked up")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, never)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1"),
        *("0.0.0.0", "::", "[::]", "127.1", "127.0.1", "0", "0x7f.1", "0177.0.0.1", "2130706433"),
    ],
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert not uses_environment_proxies(f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:8000/v1")


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "localhost.example.com", "localhost..", "127.0.0.1.example.com", "127.1.example", "cafe", "10.1", "1"),
        *("10.0.0.1", "192.168.1.1", "fe80::1", "::2", "::ffff:10.0.0.1", "127.0.0.1 example.com", "127.1\n", "256.0.0.1", "127.0.0.0.1"),
    ],
)
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


def test_a_url_elsewhere_may_go_through_a_proxy() -> None:
    assert uses_environment_proxies("https://example.com/v1")
