"""Measures what the proxy adds to a request, beside the same requests sent directly, in one run. Judges nothing.

Usage: ``bench_proxy.py [--requests N] [--concurrency N]``, run by a Python that has the package and the extra ``dev``. Starts an upstream
that answers at once and a proxy, each a process of its own on 127.0.0.1, and sends short chat requests in turns to both, one at a time;
then as many at a time as ``--concurrency`` says; then one long text, drawn for the first time and again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
SHORT = "What is the capital of France?"
LONG = (ROOT / "docs" / "sample.txt").read_text("utf-8") + "\n\nQuestion: Who cleared the ice off the dome?"
ANSWER = json.dumps(
    {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}], "usage": {}}
).encode()


async def answer_at_once(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """An upstream without /tokenize."""
    while (await receive()).get("more_body"):
        pass
    known = scope["path"] == "/v1/chat/completions"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200 if known else 404, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def serve_upstream() -> None:
    import socket

    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sets TCP_NODELAY
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(answer_at_once, lifespan="off", http="h11", ws="none", log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def process(*command: str) -> Iterator[str]:
    """A process that prints its URL first."""
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert started.stdout is not None
        yield started.stdout.readline().strip()
    finally:
        started.terminate()
        started.communicate()


async def ask(client: httpx.AsyncClient, url: str, content: str) -> float:
    began = time.perf_counter()
    response = await client.post(f"{url}/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": content}]})
    assert response.status_code == 200, response.text
    return (time.perf_counter() - began) * 1000


def row(name: str, times: dict[str, list[float]]) -> None:
    middle = {place: statistics.median(found) for place, found in times.items()}
    late = {place: statistics.quantiles(found, n=20)[-1] for place, found in times.items()}
    print(
        f"| {name} | {middle['direct']:.2f} | {middle['proxy']:.2f} | {middle['proxy'] - middle['direct']:.2f} | {late['direct']:.2f} | {late['proxy']:.2f} |"
    )


async def measure(urls: dict[str, str], requests: int, concurrency: int) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
    async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as client:
        for url in urls.values():
            for _ in range(20):
                await ask(client, url, SHORT)
        print("| ms a request | direct, median | proxy, median | difference | direct, 95 % | proxy, 95 % |")
        print("| --- | --- | --- | --- | --- | --- |")
        one: dict[str, list[float]] = {place: [] for place in urls}
        for _ in range(requests):
            for place, url in urls.items():
                one[place].append(await ask(client, url, SHORT))
        row("one at a time", one)
        many = {
            place: [
                taken
                for _ in range(5)
                for taken in await asyncio.gather(*(ask(client, url, SHORT) for _ in range(concurrency)))
            ]
            for place, url in urls.items()
        }  # fmt: skip
        row(f"{concurrency} at a time, {len(many['proxy'])} of {5 * concurrency} answered", many)
        first = await ask(client, urls["proxy"], LONG)
        again = statistics.median([await ask(client, urls["proxy"], LONG) for _ in range(20)])
        direct = statistics.median([await ask(client, urls["direct"], LONG) for _ in range(20)])
        print(
            f"\na text of {len(LONG):,} characters: drawn {first:.0f} ms (its process starts), from the cache {again:.1f} ms, directly {direct:.1f} ms"
        )


def main() -> None:
    """Start both, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_upstream()
        return
    command = str(Path(sys.executable).with_name("glyph-compress"))
    with (
        process(sys.executable, __file__, "--serve") as upstream,
        process(command, "proxy", "--upstream", upstream, "--port", "0") as proxy,
    ):
        asyncio.run(measure({"direct": upstream, "proxy": proxy}, options.requests, options.concurrency))


if __name__ == "__main__":
    main()
