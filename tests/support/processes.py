"""The command in a process group of its own, as a shell starts it, and everything that descends from it, found by a mark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from tests.support.command import COMMAND, environment

MARK = "GLYPH_TEST_MARK"


def marked(mark: str) -> list[psutil.Process]:
    """Every process on this machine that descends from one started with the mark: the environment is inherited."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill_marked(mark: str) -> None:
    """Kill them all; some may end by themselves when the first is gone."""
    for process in marked(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)


@contextmanager
def command(*arguments: str | Path, state: Path, python: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with a mark of its own, in a process group of its own, as a shell starts it; at the end nothing may be left."""
    mark = uuid.uuid4().hex
    env = environment(state, **{MARK: mark, "GLYPH_VLLM_PYTHON": str(python)})
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )
    try:
        yield process, mark
        # One that has ended may be seen for a moment until its parent has collected it.
        wait_for(lambda: not [left for left in marked(mark) if left.pid != os.getpid()], f"the end of {marked(mark)}", 120)
    finally:
        kill_marked(mark)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _heed_interrupts() -> None:
    # A test run in the background of a script ignores SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: the terminal sends SIGINT to the foreground group, which the server does not belong to."""
    os.killpg(process.pid, signal.SIGINT)


def text_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()
