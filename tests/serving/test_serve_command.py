"""glyph-compress serve with the stand-in: it starts its server again, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glyph_pipeline.serving import GlyphServer, VLLMInstallation

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def serve(fake_vllm: VLLMInstallation, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the command; its standard error is a pipe."""
    monkeypatch.setenv("GLYPH_VLLM_PYTHON", str(fake_vllm.executable))
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "glyph_pipeline.cli.main",
            "serve",
            "--model",
            str(model_folder),
            "--profile",
            "nvidia",
            *arguments,
        ]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str], beginning: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line begins with {beginning!r}")


def kill_server(before: int | None, eventually: Callable[..., None]) -> int:
    """SIGKILL the announced server as soon as it is another one than ``before``."""
    found: list[GlyphServer] = []

    def appears() -> bool:
        server = GlyphServer.find()
        found[:] = [server] if server and server.pid != before else []
        return bool(found)

    eventually(appears)
    pid = found[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_it_starts_it_again_until_it_has_died_too_often(serve: Any, tmp_path: Path, eventually: Callable[..., None]) -> None:
    log = tmp_path / "server.log"
    process = serve("--restarts", "2", "--log", str(log))
    pid: int | None = None
    next_line(process, "Serving ")
    for restart in (1, 2):
        pid = kill_server(pid, eventually)
        line = next_line(process, "The server died (killed by SIGKILL")
        assert line.endswith(f"and is started again ({restart} of at most 2 within 600 s). Log: {log}\n")
    kill_server(pid, eventually)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "died 3 times within" in err
    assert "stand-in for" in err
    assert str(log) in err
    assert out.startswith("http://127.0.0.1:")
    assert len(out.splitlines()) == 1


def test_never(serve: Any, eventually: Callable[..., None]) -> None:
    process = serve("--restarts", "0")
    next_line(process, "Serving ")
    kill_server(None, eventually)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "The server ended by itself (killed by SIGKILL" in err
    assert "started again" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_ends_as_before_while_it_starts_again(
    serve: Any, tmp_path: Path, number: int, code: int, running: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    starts = tmp_path / "starts"
    process = serve("--", "--behaviour", "ready,never", "--starts", str(starts))
    next_line(process, "Serving ")
    kill_server(None, eventually)
    eventually(lambda: starts.stat().st_size == 2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(running(children)) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not running(children)


def test_the_number_of_restarts_is_checked(serve: Any) -> None:
    process = serve("--restarts", "-1")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--restarts" in err
