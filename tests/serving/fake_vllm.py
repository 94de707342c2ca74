"""Stands in for `vllm serve` in tests: takes its arguments and answers its small endpoints, or misbehaves as --behaviour says.

ready     answers at once                        late      answers after it has been asked a few times
dies      reports an error and exits with 3      killed    ends by SIGKILL
never     runs, and never answers                stubborn  ignores SIGTERM, and so do its child and a grandchild in a session of its own
orphans   answers; killed, it leaves a child behind that ignores SIGTERM
headless  ignores SIGTERM; its main thread has ended, so that it looks like a zombie, and another goes on
broken    answers; from the first GET /break on its /health is 503       brittle  the same, and then it ends by itself

--behaviour a,b --starts FILE: the first start behaves as a, those after it as b; FILE counts them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('asleep', flush=True); time.sleep(600)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--behaviour", default="ready")
    parser.add_argument("--starts")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--served-model-name")
    parser.add_argument("--api-key")
    options, _ = parser.parse_known_args()
    options.api_key = options.api_key or os.environ.get("VLLM_API_KEY")  # as vLLM does
    model = options.words[1] if len(options.words) > 1 else "model"
    print(f"(APIServer pid={os.getpid()}) INFO 11-23 05:52:53 [api_utils.py:347] stand-in for {model}", flush=True)
    behaviours = options.behaviour.split(",")
    start = 0
    if options.starts:
        with Path(options.starts).open("ab") as count:
            start = count.tell()
            count.write(b".")
    globals()[behaviours[min(start, len(behaviours) - 1)]](options, options.served_model_name or model)


def ready(options: argparse.Namespace, name: str, refusals: int = 0, *, ends_when_broken: bool = False) -> None:
    class Handler(BaseHTTPRequestHandler):
        remaining = refusals
        is_broken = False

        def do_GET(self) -> None:
            status, body = self.respond()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def respond(self) -> tuple[int, bytes]:
            if self.path == "/health":
                Handler.remaining -= 1
                if Handler.is_broken and ends_when_broken and Handler.remaining < -3:
                    os._exit(4)
                return (503 if Handler.remaining >= 0 or Handler.is_broken else 200), b""
            if self.path == "/break":
                Handler.is_broken, Handler.remaining = True, 0
                return 200, b""
            if self.path == "/v1/models":
                if options.api_key and self.headers.get("Authorization") != f"Bearer {options.api_key}":
                    return 401, b'{"error": "Unauthorized"}'
                return 200, json.dumps({"object": "list", "data": [{"id": name, "max_model_len": 4096, "root": name}]}).encode()
            if self.path == "/version":
                return 200, b'{"version": "0.0.stand-in"}'
            if self.path == "/environment":
                return 200, json.dumps(dict(os.environ)).encode()
            if self.path == "/argv":
                return 200, json.dumps(sys.argv[1:]).encode()
            return 404, b""

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()


def late(options: argparse.Namespace, name: str) -> None:
    ready(options, name, refusals=3)


def broken(options: argparse.Namespace, name: str) -> None:
    ready(options, name)


def brittle(options: argparse.Namespace, name: str) -> None:
    ready(options, name, ends_when_broken=True)


def dies(options: argparse.Namespace, name: str) -> None:
    print("Traceback (most recent call last):\n  File ...\n(APIServer pid=7) ValueError: no such model architecture", flush=True)
    sys.exit(3)


def killed(options: argparse.Namespace, name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never(options: argparse.Namespace, name: str) -> None:
    print("loading, 0 %\rloading, 1 %", flush=True)
    time.sleep(600)


def stubborn(options: argparse.Namespace, name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spawn_sleeper()
    spawn_sleeper(start_new_session=True)
    print("stubborn", flush=True)
    time.sleep(600)


def headless(options: argparse.Namespace, name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(600,)).start()
    print("headless", flush=True)
    ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)  # exit(2): this thread only


def orphans(options: argparse.Namespace, name: str) -> None:
    spawn_sleeper()
    ready(options, name)


def spawn_sleeper(*, start_new_session: bool = False) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=start_new_session)
    assert sleeper.stdout is not None
    sleeper.stdout.readline()  # from here on it ignores SIGTERM


if __name__ == "__main__":
    main()
