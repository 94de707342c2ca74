"""Who may ask, and what the proxy makes of requests that mean it harm: an OpenAI error object, never a 500, and nothing leaks."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from glyph_pipeline.errors import ConfigError, ServerStartError, UsageError
from glyph_pipeline.proxy.running import ProxyServer
from glyph_pipeline.proxy.settings import DrawPolicy, ProxySettings
from tests.proxy.conftest import Poster
from tests.proxy.proxied import KEY, LONG, proxied
from tests.proxy.recorder import Recorder, Reply
from tests.support.fake_openai import Fake, Held, running

JSON = {"content-type": "application/json"}
SHORT = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def guarded(upstream: Recorder) -> Iterator[ProxyServer]:
    with proxied(upstream.base_url, api_key=KEY, upstream_api_key="upstreams-own-key") as server:
        yield server


def address(server: ProxyServer) -> tuple[str, int]:
    host, port = server.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    return host, int(port)


def raw(server: ProxyServer, data: bytes) -> bytes:
    """What comes back for these very bytes, until the proxy closes the connection."""
    with socket.create_connection(address(server), timeout=60) as client:
        client.sendall(data)
        back = b""
        while piece := client.recv(65536):
            back += piece
        return back


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer \u00e9"])
def test_without_the_key_nothing_is_forwarded(guarded: ProxyServer, upstream: Recorder, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode())]
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/nope")):
        url = guarded.base_url.removesuffix("/v1") + path
        response = httpx.request(method, url, json={"messages": SHORT}, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert upstream.chats == []
    assert httpx.get(guarded.base_url.replace("/v1", "/health")).status_code == 200


def test_the_proxys_key_stays_and_the_upstreams_goes(guarded: ProxyServer, upstream: Recorder) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "api-key": KEY, "X-Api-Key": f"Bearer {KEY}", "x-request-id": "7"}
    assert Poster(guarded.base_url)([{"role": "user", "content": LONG}], headers).status_code == 200
    for taken in (*upstream.chats, *upstream.tokenized):
        assert taken.header("authorization") == ["Bearer upstreams-own-key"]
        assert KEY not in str(taken.headers)
    assert upstream.chats[0].header("x-request-id") == ["7"]


def test_a_clients_own_key_is_forwarded_where_there_is_no_other(post: Poster, upstream: Recorder) -> None:
    post(SHORT, {"Authorization": "Bearer the-clients-own"})
    assert upstream.chats[0].header("authorization") == ["Bearer the-clients-own"]


def test_a_header_that_is_not_ascii_passes(post: Poster, upstream: Recorder) -> None:
    headers = [(b"X-Name", "Zo\u00eb".encode("latin-1")), (b"Authorization", "Bearer \u00e9".encode("latin-1"))]
    response = httpx.post(post.url, json={"model": "m", "messages": [{"role": "user", "content": LONG}]}, headers=headers, timeout=60)
    assert (response.status_code, response.headers["x-glyph-pages"]) == (200, "1")
    (taken,) = upstream.chats
    assert (taken.header("x-name"), taken.header("authorization")) == (["Zo\u00eb"], ["Bearer \u00e9"])
    assert upstream.tokenized[0].header("authorization") == ["Bearer \u00e9"]


def test_headers_of_a_hop_stay_there(proxy: ProxyServer, upstream: Recorder) -> None:
    upstream.reply = lambda taken: Reply(
        headers={
            "content-type": "application/json",
            "set-cookie": "who=someone",
            "access-control-allow-origin": "*",
            "x-glyph-pages": "9",
            "server": "upstream",
            "connection": "x-hop",
            "x-hop": "1",
            "x-kept": "1",
        }
    )
    post = Poster(proxy.base_url)
    sent = {
        "Connection": "keep-alive, X-Private",
        "X-Private": "1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
        "Cookie": "who=someone",
        "X-Forwarded-For": "192.0.2.1",
        "Origin": "http://127.0.0.1",
        "X-Kept": "1",
    }
    back = post(SHORT, sent)
    post(SHORT)
    got = {name for name, _ in upstream.chats[0].headers}
    assert got & {name.lower() for name in sent} == {"x-kept"}
    assert upstream.chats[1].header("cookie") == []  # nobody else's either
    assert {"set-cookie", "access-control-allow-origin", "server", "x-hop"} & set(back.headers) == set()
    assert (back.headers["x-glyph-pages"], back.headers["x-kept"]) == ("0", "1")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", "", "[::2]", "127.0.0.1:80:80"]
)
def test_a_foreign_host_is_refused(proxy: ProxyServer, upstream: Recorder, host: str) -> None:
    response = httpx.post(f"{proxy.base_url}/chat/completions", json={"messages": SHORT}, headers={"Host": host})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "host_not_allowed")
    assert upstream.chats == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8100"])
def test_names_of_this_machine_are_not(proxy: ProxyServer, host: str) -> None:
    assert httpx.get(f"{proxy.base_url}/models", headers={"Host": host}).status_code == 200


def test_no_target_leads_anywhere_else(proxy: ProxyServer, upstream: Recorder) -> None:
    targets = [
        b"http://192.0.2.1/v1/models",
        b"//192.0.2.1/v1/models",
        b"/v1/../tokenize",
        b"/v1/models/..%2f..%2ftokenize",
        b"/v1/chat/completions/../../../tokenize",
        b"/v1/completions",
        b"/v1/models/",
        b"/tokenize",
        b"/",
        b"*",
        b"/v1/models%00",
    ]
    for target in targets:
        back = raw(proxy, b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        head, _, body = back.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404"), (target, back)
        assert json.loads(body)["error"]["code"] == "not_found"
    assert upstream.tokenized == []
    httpx.post(f"{proxy.base_url}/chat/completions?x=http://192.0.2.1", json={"messages": SHORT})
    assert upstream.chats[0].target == b"/v1/chat/completions"


DEEP = 100_000
BOMBS: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "no JSON": (b"{", 400),
    "an array": (b"[]", 400),
    "a string": (b'"x"', 400),
    "null": (b"null", 400),
    "deep arrays": (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", 400),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, 400),
    "deep and open": (b'{"a":' + b"[" * DEEP, 400),
    "a long integer": (b'{"a":' + b"9" * 100_000 + b"}", 400),
    "an endless float": (b'{"a":1e999}', 400),
    "NaN": (b'{"a":NaN}', 400),
    "Infinity": (b'{"a":-Infinity}', 400),
    "a key twice": (b'{"messages":[],"messages":[]}', 400),
    "a key twice, inside": (b'{"messages":[{"role":"user","role":"system","content":"x"}]}', 400),
    "no UTF-8": (b'{"a":"\xff"}', 400),
    "UTF-16": ('{"a":1}'.encode("utf-16"), 400),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400),
    "many values": (b'{"a":[' + b"[]," * 600_000 + b"[]]}", 400),
    "many quotes without an end": (b'{"a":"' + b'\\"[' * 600_000, 400),
    "a control character": (b'{"a":"\x00"}', 400),
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_bodies_are_refused(post: Poster, upstream: Recorder, name: str) -> None:
    body, status = BOMBS[name]
    response = httpx.post(post.url, content=body, headers=JSON, timeout=60)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert upstream.chats == []
    assert post(SHORT).status_code == 200  # and it lives


@pytest.mark.parametrize(
    "messages",
    [
        None,
        5,
        "text",
        {},
        [None, 5, "x", []],
        [{}],
        [{"role": "user"}],
        [{"role": ["user"], "content": LONG}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [
            {
                "role": "user",
                "content": [None, 5, LONG, {}, {"type": "text"}, {"type": "text", "text": None}, {"type": ["text"], "text": LONG}],
            }
        ],
        [{"role": "user", "content": "\ud800" * 5000 + "\n\nWhat?"}],
        [{"role": "user", "content": "\x00" * 5000 + "\n\nWhat?"}],
    ],
)
def test_what_is_no_message_is_the_upstreams_to_judge(post: Poster, upstream: Recorder, messages: Any) -> None:
    body = json.dumps({"model": ["m"], "messages": messages, "stream_options": 5})
    response = httpx.post(post.url, content=body, headers=JSON, timeout=60)
    assert response.status_code == 200
    assert len(upstream.chats) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": ""},
        {**JSON, "content-encoding": "gzip"},
    ],
)
def test_another_kind_of_body_is_refused(post: Poster, upstream: Recorder, headers: dict[str, str]) -> None:
    response = httpx.post(post.url, content=b"{}", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert upstream.chats == []


def test_bodies_have_a_limit_whether_or_not_they_say_how_long_they_are(upstream: Recorder) -> None:
    with proxied(upstream.base_url, max_body_bytes=10_000) as server:
        url = f"{server.base_url}/chat/completions"
        fits = json.dumps({"messages": [{"role": "user", "content": "x" * 900}], "y": "y" * 8000}).encode()
        pieces = [fits[:5000], fits[5000:]]
        assert httpx.post(url, content=fits, headers=JSON).status_code == 200
        assert httpx.post(url, content=iter(pieces), headers=JSON).status_code == 200
        assert upstream.chats[1].body == fits
        for content in (b"x" * 10_001, b"x" * 50_000, iter([b"x" * 1000] * 200)):
            response = httpx.post(url, content=content, headers=JSON)
            assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        waits = raw(server, head + b"Content-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n")
        assert waits.startswith(b"HTTP/1.1 413")
    assert len(upstream.chats) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_4xx(proxy: ProxyServer, data: bytes) -> None:
    back = raw(proxy, data)
    assert back.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")), back[:200]


def test_slow_heads_and_slow_bodies_are_given_up(upstream: Recorder) -> None:
    with proxied(upstream.base_url, client_timeout=0.3) as server:
        assert raw(server, b"GET /v1/models HTT") == b""
        kept = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert raw(server, kept + b"GET /v1").count(b"HTTP/1.1 200") == 1
        body = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        assert raw(server, body).startswith(b"HTTP/1.1 408")
    assert upstream.chats == []


def test_a_client_that_leaves_before_its_body_has_come(proxy: ProxyServer, upstream: Recorder) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    with socket.create_connection(address(proxy)) as client:
        client.sendall(head)
    assert Poster(proxy.base_url)(SHORT).status_code == 200
    assert len(upstream.chats) == 1


def test_more_than_it_may_do_at_a_time_is_told_to_come_back() -> None:
    held = Held([{"content": "first"}])
    with running(Fake(held)) as fake, proxied(fake.base_url, max_concurrency=1) as server:
        url = f"{server.base_url}/chat/completions"
        try:
            with httpx.stream("POST", url, json={"messages": SHORT, "stream": True}, timeout=60) as first:
                lines = first.iter_lines()  # kept: when it goes, the response is closed
                assert "first" in next(lines)
                second = httpx.post(url, json={"messages": SHORT})
                assert (second.status_code, second.headers["retry-after"]) == (503, "1")
                assert second.json()["error"]["code"] == "busy"
                assert httpx.get(server.base_url.replace("/v1", "/health")).status_code == 200
        finally:
            held.release()


def test_nothing_of_a_document_is_in_logs_metrics_or_errors(upstream: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "xyzzy" * 2000
    told = []
    with proxied(upstream.base_url, draw_timeout=1e-9) as server:
        url = f"{server.base_url}/chat/completions"
        message = {"role": "user", "content": f"{secret}\n\n{secret}\n\nplugh?"}
        told.append(httpx.post(url, json={"messages": [message]}))
        told.append(httpx.post(url, json={"messages": [message], "glyph": {"xyzzy": secret}}))
        told.append(httpx.post(url, content=f'{{"{secret}": 1, "{secret}": 2}}', headers=JSON))
        told.append(httpx.post(url, content=f'{{"a": {secret}}}', headers=JSON))
        told.append(httpx.get(server.base_url.replace("/v1", "/xyzzy")))
        told.append(httpx.get(server.base_url.replace("/v1", "/metrics")))
    assert [response.status_code for response in told] == [200, 400, 400, 400, 404, 200]
    assert not any("xyzzy" in response.text or "plugh" in response.text for response in told)
    ours = [record for record in caplog.records if record.name.startswith(("glyph_pipeline", "uvicorn"))]
    assert ours
    assert not any("xyzzy" in record.getMessage() or record.exc_info for record in ours)


def test_a_bug_is_a_500_without_a_traceback(proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(body: bytes) -> dict[str, Any]:
        raise ZeroDivisionError(body)

    monkeypatch.setattr("glyph_pipeline.proxy.app.parse_object", broken)
    response = Poster(proxy.base_url)([{"role": "user", "content": "xyzzy"}])
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "ZeroDivisionError in broken" in caplog.text
    assert "xyzzy" not in caplog.text + response.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_need_a_key(host: str) -> None:
    with pytest.raises(UsageError, match="there is no key"):
        ProxySettings("http://127.0.0.1:1", host=host)
    assert not ProxySettings("http://127.0.0.1:1", host=host, api_key=KEY).is_local


@pytest.mark.parametrize(
    "settings",
    [
        {"upstream": "ftp://x"},
        {"upstream": "http://user:secret@x"},
        {"port": 70000},
        {"api_key": "a b"},
        {"upstream_api_key": "a\nb"},
        {"api_key": ""},
        {"family": "gpt"},
        {"max_concurrency": 0},
        {"read_timeout": 0.0},
        {"grace": float("inf")},
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ProxySettings(**{"upstream": "http://127.0.0.1:1", **settings})
    assert "user:secret" not in str(caught.value)
    assert KEY not in repr(ProxySettings("http://127.0.0.1:1", api_key=KEY))


@pytest.mark.parametrize("policy", [{"min_tokens": 0}, {"min_ratio": float("nan")}, {"max_chars": -1}])
def test_policies_that_cannot_be_used(policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(policy))):
        DrawPolicy(**policy)


def test_an_address_that_can_be_none() -> None:
    with pytest.raises(ServerStartError, match=r"can't listen on a\.\.b"):
        ProxyServer(ProxySettings("http://127.0.0.1:1", host="a..b", api_key=KEY, port=0))


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServerStartError, match="can't listen"):
        ProxyServer(ProxySettings("http://127.0.0.1:1", port=taken.getsockname()[1]))
