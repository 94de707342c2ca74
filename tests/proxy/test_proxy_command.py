"""glyph-compress proxy as a user runs it: a process that says its URL, and ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.proxy.proxied import KEY, LONG
from tests.proxy.recorder import Recorder
from tests.support.command import COMMAND, environment, glyph_compress
from tests.support.fake_openai import Fake, Held, running
from tests.support.processes import _heed_interrupts


@contextmanager
def started(tmp_path: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [COMMAND, "proxy", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, **env),
        preexec_fn=_heed_interrupts,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_draws_and_ends_cleanly(tmp_path: Path, upstream: Recorder, number: int) -> None:
    with started(tmp_path, "--upstream", upstream.base_url, "--dpi", "96", "--workers", "1") as (process, url):
        response = httpx.post(f"{url}/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": LONG}]}, timeout=60)
        assert int(response.headers["x-glyph-pages"]) > 0
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == f"Forwarding to {upstream.base_url}; Ctrl-C stops it.\n"


def test_requests_under_way_may_end_first(tmp_path: Path) -> None:
    held = Held([{"content": "first"}])
    with running(Fake(held)) as fake, started(tmp_path, "--upstream", fake.base_url, "--grace", "60") as (process, url):
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            assert "first" in next(lines)
            process.terminate()
            held.release()
            assert [line for line in lines if line][-1] == "data: [DONE]"
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (0, False)


def test_requests_that_do_not_end_are_ended(tmp_path: Path) -> None:
    held = Held([{"content": "first"}])
    with running(Fake(held)) as fake, started(tmp_path, "--upstream", fake.base_url, "--grace", "1") as (process, url):
        try:
            body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
            with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=60) as response:
                lines = response.iter_lines()
                assert "first" in next(lines)
                process.terminate()
                _, err = process.communicate(timeout=60)
                with pytest.raises(httpx.RemoteProtocolError):
                    list(lines)
            assert (process.returncode, "Traceback" in err) == (0, False)
            assert held.left.wait(60)
        finally:
            held.release()


def test_keys_come_from_the_environment_and_are_not_shown(tmp_path: Path, upstream: Recorder) -> None:
    keys = {"GLYPH_PROXY_API_KEY": KEY, "GLYPH_UPSTREAM_API_KEY": "upstreams-own", "OPENAI_API_KEY": "not-ours"}
    with started(tmp_path, "--upstream", upstream.base_url, "--host", "0.0.0.0", **keys) as (process, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        assert httpx.post(f"{url}/chat/completions", json=body).status_code == 401
        headers = {"Authorization": f"Bearer {KEY}", "Host": "proxy.example"}
        assert httpx.post(f"{url}/chat/completions", json=body, headers=headers).status_code == 200
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert upstream.chats[0].header("authorization") == ["Bearer upstreams-own"]
    assert KEY not in out + err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--upstream"),
        (["--upstream", "http://127.0.0.1:1", "--host", "0.0.0.0"], 2, "there is no key"),
        (["--upstream", "nowhere"], 3, "only http:// and https://"),
        (["--upstream", "http://127.0.0.1:1", "--min-tokens", "0"], 3, "min_tokens is 0"),
        (["--upstream", "http://127.0.0.1:1", "--set", "nonesuch=1"], 3, "nonesuch"),
        (["--upstream", "http://127.0.0.1:1", "--font", "No Such Font"], 5, "No Such Font"),
        (["--upstream", "http://127.0.0.1:1", "--host", "192.0.2.1", "--api-key", KEY], 7, "can't listen"),
    ],
)
def test_what_cannot_work_says_so_at_once(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = glyph_compress("proxy", *arguments, state=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
