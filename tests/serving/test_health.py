"""Waiting for a server, asking it what it serves, and the words for everything that can be wrong with it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError, ServerStartError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving import ServedModel, ServerInfo, ServerProcess, is_healthy, normalize_base_url, probe, wait_until_ready

Command = Callable[..., list[str]]


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


@pytest.fixture
def start(stand_in: Command) -> Iterator[Callable[[str], tuple[ServerProcess, str]]]:
    processes: list[ServerProcess] = []

    def begin(behaviour: str, port: int | None = None) -> tuple[ServerProcess, str]:
        port = port or free_port()
        processes.append(ServerProcess(stand_in(behaviour, "--port", str(port))))
        return processes[-1], f"http://127.0.0.1:{port}/v1"

    yield begin
    for process in processes:
        process.stop(grace=5)


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """A server in this process that gives the same answer to everything."""
    servers: list[ThreadingHTTPServer] = []

    def begin(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


class TestWaiting:
    def test_returns_when_it_is_ready(self, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody's: asking it would fail
        process, url = start("late")
        calls: list[tuple[float, str]] = []
        wait_until_ready(process, url, timeout=120, on_wait=lambda seconds, line: calls.append((seconds, line)))
        assert is_healthy(url)
        assert calls
        assert [seconds for seconds, _ in calls] == sorted(seconds for seconds, _ in calls)
        assert "stand-in" in calls[-1][1]

    def test_notices_at_once_that_it_died(self, start: Any) -> None:
        process, url = start("dies")
        started = time.monotonic()
        with pytest.raises(ServerStartError) as caught:
            wait_until_ready(process, url, timeout=600)
        assert time.monotonic() - started < 30
        assert caught.value.message == "The server stopped while starting (exit code 3): ValueError: no such model architecture"
        assert "stand-in" in caught.value.log_tail
        assert str(process.log_path) in str(caught.value)
        assert caught.value.__cause__ is None

    def test_names_the_signal_that_killed_it(self, start: Any) -> None:
        with pytest.raises(ServerStartError, match="killed by SIGKILL, as the system does when memory runs out"):
            wait_until_ready(*start("killed"), timeout=60)

    def test_gives_up_in_time(self, start: Any) -> None:
        process, url = start("never")
        started = time.monotonic()
        with pytest.raises(ServerStartError, match=r"not ready after 0\.5 seconds"):
            wait_until_ready(process, url, timeout=0.5)
        assert 0.5 <= time.monotonic() - started < 20
        assert process.is_alive()  # stopping it is the owner's

    def test_another_server_on_the_port_is_not_taken_for_it(self, start: Any) -> None:
        first, url = start("ready")
        wait_until_ready(first, url, timeout=120)
        second, _ = start("never")
        with pytest.raises(ServerStartError, match="not ready"):
            wait_until_ready(second, url, timeout=0.5)


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        ("http://h:1", "http://h:1/v1"),
        (" http://h:1/ ", "http://h:1/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/glyph", "https://h/glyph/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_base_urls(given: str, base_url: str) -> None:
    assert normalize_base_url(given) == base_url


@pytest.mark.parametrize(
    "url", ["", "h:1", "ftp://h", "file:///etc/passwd", "http://", "http://h:x", "http://h:99999", "http://h/?a=1", "http://h h"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        normalize_base_url(url)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        normalize_base_url("http://user:geheim@h:1")
    assert "geheim" not in str(caught.value)


def models(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": entries}).encode()


class TestProbe:
    def test_tells_models_and_version(self, start: Any) -> None:
        process, url = start("ready")
        wait_until_ready(process, url, timeout=120)
        info = probe(url.removesuffix("/v1"))
        assert info == ServerInfo(url, (ServedModel("m", 4096, "m"),), "0.0.stand-in")

    def test_a_server_that_is_not_vllm(self, answering: Any) -> None:
        info = probe(answering(200, models({"id": "gpt"})))
        assert (info.models, info.version) == ((ServedModel("gpt", None, None),), None)

    def test_nobody_there(self) -> None:
        url = f"http://127.0.0.1:{free_port()}/v1"
        with pytest.raises(ServerUnreachableError, match=rf"Nothing answers at {url}.*refused.*glyph-compress serve"):
            probe(url)

    def test_no_answer(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(ServerUnreachableError, match=r"did not answer within 0.2 seconds"):
                probe(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)

    def test_not_http(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()

            def greet() -> None:
                connection, _ = other.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

            thread = threading.Thread(target=greet)
            thread.start()
            with pytest.raises(ServerUnreachableError, match="does not speak HTTP"):
                probe(f"http://127.0.0.1:{other.getsockname()[1]}")
            thread.join()

    @pytest.mark.parametrize("status", [401, 403])
    def test_keys(self, answering: Any, status: int) -> None:
        url = answering(status, b"")
        with pytest.raises(ServerUnreachableError, match=rf"wants an API key \(HTTP {status}\)"):
            probe(url)
        with pytest.raises(ServerUnreachableError, match="refused the API key") as caught:
            probe(url, api_key="geheim")
        assert "geheim" not in str(caught.value)

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"data": 1}', b'{"data": ["x"]}', b'{"data": [{}]}', b"\xff"])
    def test_something_else_entirely(self, answering: Any, body: bytes) -> None:
        with pytest.raises(ServerUnreachableError, match="not an OpenAI-compatible server"):
            probe(answering(200, body))

    def test_other_status(self, answering: Any) -> None:
        with pytest.raises(ServerUnreachableError, match=r"/v1/models with HTTP 404"):
            probe(answering(404, b""))


def test_require() -> None:
    info = ServerInfo("http://h/v1", (ServedModel("a", 1), ServedModel("b", 2)))
    assert info.require() is info.require("a") is info.models[0]
    assert info.require("b").max_model_len == 2
    with pytest.raises(WrongModelError, match=r"http://h/v1 does not serve 'c'. It serves: a, b\."):
        info.require("c")
    with pytest.raises(WrongModelError, match="serves no model"):
        ServerInfo("http://h/v1", ()).require()
