"""Ending a child with everything it started: asked, unasked, and when our own process is killed."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glyph_pipeline.errors import ServerStartError
from glyph_pipeline.serving import ServerProcess, ServerRecord, exit_on_sigterm, logs, registry
from glyph_pipeline.serving import process as process_module
from glyph_pipeline.serving.signals import hold_signals

Command = Callable[..., list[str]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stubborn(stand_in: Command, eventually: Callable[..., None]) -> Any:
    """A process with a child in its group and a grandchild in a session of its own, none of which heeds SIGTERM."""
    with ServerProcess(stand_in("stubborn")) as process:
        eventually(lambda: process.last_log_line() == "stubborn")
        assert len(process.members()) == 3
        yield process


def test_log_goes_to_a_private_file(stand_in: Command, tmp_path: Path, eventually: Callable[..., None]) -> None:
    path = tmp_path / "logs" / "server.log"
    path.parent.mkdir()
    path.write_text("ValueError: of yesterday\n", encoding="utf-8")
    with ServerProcess(stand_in("dies"), log_path=path) as process:
        assert process.wait(60) == 3
        assert process.last_log_line().endswith("ValueError: no such model architecture")
        assert process.failure() == "ValueError: no such model architecture"
        assert "yesterday" not in process.log_tail()
    with ServerProcess(stand_in("never")) as other:
        eventually(lambda: other.last_log_line() == "loading, 1 %")
        assert other.log_path.stat().st_mode & 0o777 == 0o600
        assert str(tmp_path) in str(other.log_path)


def test_old_logs_are_cleared_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_KEPT_LOGS", 3)
    first = process_module.default_log_path()
    for number in range(5):
        (first.parent / f"vllm-0{number}.log").touch()
    assert process_module.default_log_path().name > "vllm-04.log"
    assert sorted(path.name for path in first.parent.iterdir()) == ["vllm-03.log", "vllm-04.log"]


def test_logs_that_may_still_be_written_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_KEPT_LOGS", 1)
    with subprocess.Popen(["true"]) as ended:
        pass
    folder = process_module.default_log_path().parent
    dead, living, announced = (folder / f"vllm-20200101-00000{n}-{pid}-a1.log" for n, pid in enumerate((ended.pid, os.getpid(), ended.pid)))
    for path in (dead, living, announced):
        path.touch()
    registry.remember(ServerRecord.of(os.getpid(), base_url="http://127.0.0.1:9/v1", model="m", profile="cpu", log_path=announced))
    (folder / "vllm-99.log").touch()
    monkeypatch.setattr(process_module, "_KEPT_LOGS", 2)
    process_module.default_log_path()
    assert sorted(folder.iterdir()) == [living, announced, folder / "vllm-99.log"]


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match=r"/no/such/vllm could not be started: No such file"):
        ServerProcess(["/no/such/vllm"])
    (tmp_path / "file").touch()
    with pytest.raises(ServerStartError, match=r"log file .* cannot be written"):
        ServerProcess(["true"], log_path=tmp_path / "file" / "log")
    assert not own_watchdogs()


def own_watchdogs() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "tree.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_stop_is_polite_first(stand_in: Command, eventually: Callable[..., None]) -> None:
    process = ServerProcess(stand_in("ready"))
    eventually(lambda: "stand-in" in process.last_log_line())
    started = time.monotonic()
    assert process.stop(grace=60) == -signal.SIGTERM
    assert time.monotonic() - started < 30
    assert process.stop() == -signal.SIGTERM  # again
    assert not process.is_alive()
    assert not own_watchdogs()


def test_stop_kills_what_does_not_heed_it(stubborn: ServerProcess, running: Callable[..., Any]) -> None:
    members = stubborn.members()
    assert stubborn.stop(grace=0.2) == -signal.SIGKILL
    assert not running(members)


def test_orphans_of_a_killed_parent_are_ended(stubborn: ServerProcess, running: Callable[..., Any]) -> None:
    members = stubborn.members()
    os.kill(stubborn.pid, signal.SIGKILL)
    assert stubborn.wait(60) == -signal.SIGKILL
    assert len(running(members)) == 2
    stubborn.stop(grace=0.2)
    assert not running(members)


def test_a_second_ctrl_c_cuts_the_patience_short(
    stubborn: ServerProcess, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = stubborn.members()
    tree, send = stubborn._child.tree, stubborn._child.tree.signal

    def interrupted_after(number: int, *rest: Any) -> Any:
        sent = send(number, *rest)
        if number == signal.SIGTERM:
            signal.raise_signal(signal.SIGINT)
        return sent

    monkeypatch.setattr(tree, "signal", interrupted_after)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stubborn.stop(grace=120)
    assert time.monotonic() - started < 60
    assert not running(members)


def test_a_process_without_its_main_thread_is_not_over(stand_in: Command, eventually: Callable[..., None]) -> None:
    """What a large process looks like for a while when it is killed: gone is only what has been collected."""
    process = ServerProcess(stand_in("headless"))
    eventually(lambda: process.last_log_line() == "headless" and psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert process.is_alive()
    assert process.members()
    assert process.stop(grace=0.2) == -signal.SIGKILL


def test_stop_from_several_threads(stubborn: ServerProcess, running: Callable[..., Any]) -> None:
    members = stubborn.members()
    left: list[Any] = []
    threads = [threading.Thread(target=lambda: (stubborn.stop(grace=0.2), left.extend(running(members)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not left
    assert not any(thread.is_alive() for thread in threads)


def test_a_forgotten_process_is_ended(stand_in: Command, eventually: Callable[..., None], running: Callable[..., Any]) -> None:
    process = ServerProcess(stand_in("never"))
    pid = process.pid
    del process
    gc.collect()
    eventually(lambda: not running([pid]))


def test_a_fork_of_ours_does_not_end_it(stand_in: Command) -> None:
    with ServerProcess(stand_in("never")) as process:
        child = os.fork()
        if child == 0:
            process._child.stop(0)
            os._exit(0)
        os.waitpid(child, 0)
        assert process.is_alive()


def test_a_recycled_number_is_left_alone(stand_in: Command) -> None:
    """After the end, the system may give process id and group id to somebody else."""
    process = ServerProcess(stand_in("dies"))
    assert process.wait(60) == 3
    tree = process._child.tree
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        tree.root._pid = stranger.pid  # type: ignore[attr-defined]  # the number has gone round
        assert tree.alive() == []
        process.stop(grace=1)
        assert stranger.poll() is None
    finally:
        stranger.communicate()


OWNER = """
import os, sys, time
from pathlib import Path
from glyph_pipeline.serving import ServerProcess, exit_on_sigterm
process = ServerProcess(sys.argv[3:])
while process.last_log_line() != "stubborn":
    time.sleep(0.02)
pids = " ".join(str(member.pid) for member in process.members())
if sys.argv[2] == "forks" and os.fork() == 0:
    time.sleep(60)
    os._exit(0)
def note():
    Path(sys.argv[1]).with_suffix(".part").write_text(pids)
    Path(sys.argv[1]).with_suffix(".part").rename(sys.argv[1])
if sys.argv[2] == "leaves":
    note()
    sys.exit(0)  # without having stopped it
with exit_on_sigterm():
    note()
    time.sleep(600)
"""


@pytest.fixture
def owner(stand_in: Command, tmp_path: Path, eventually: Callable[..., None]) -> Any:
    """Starts a Python program that owns a stubborn process; gives it and the ids of that process's tree."""
    started: list[subprocess.Popen[bytes]] = []

    def start(manner: str) -> tuple[subprocess.Popen[bytes], list[int]]:
        note = tmp_path / "pids"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        program = "import glyph_pipeline.serving.process as p; p.DEFAULT_GRACE = 0.3\n" + OWNER
        arguments = [sys.executable, "-c", program, str(note), manner, *stand_in("stubborn")]
        started.append(subprocess.Popen(arguments, env=environment, start_new_session=True))
        eventually(note.exists)
        pids = [int(pid) for pid in note.read_text(encoding="utf-8").split()]
        assert len(pids) == 3
        return started[0], pids

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_ended_when_python_exits(owner: Any, running: Callable[..., Any]) -> None:
    process, pids = owner("leaves")
    assert process.wait(60) == 0
    assert not running(pids)


def test_ended_on_sigterm(owner: Any, running: Callable[..., Any]) -> None:
    process, pids = owner("stays")
    process.terminate()
    assert process.wait(60) == 143
    assert not running(pids)


@pytest.mark.parametrize("manner", ["stays", "forks"])
def test_ended_when_python_is_killed(owner: Any, manner: str, eventually: Callable[..., None], running: Callable[..., Any]) -> None:
    process, pids = owner(manner)
    process.kill()
    process.wait(60)
    eventually(lambda: not running(pids))


def test_a_watchdog_later_than_its_owner(
    stand_in: Command, tmp_path: Path, running: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    """On a busy machine it is seconds late; a fork holds the pipe open, so that no end of it is seen."""
    (tmp_path / "pages").mkdir()
    with ServerProcess(stand_in("never")) as server:
        eventually(lambda: server.last_log_line() == "loading, 1 %")
        nobody = "1" if os.getpid() != 1 else "2"
        arguments = [sys.executable, process_module.tree.__file__, "0.3", nobody, str(tmp_path / "pages")]
        told, telling = os.pipe()
        with os.fdopen(told, "rb") as told_file, os.fdopen(telling, "wb", 0) as telling_file:
            telling_file.write(b"%d\n" % server.pid)
            subprocess.run(arguments, stdin=told_file, check=True, timeout=60)
        assert not running([server.pid])
    assert not (tmp_path / "pages").exists()


def test_sigterm_becomes_an_orderly_exit_and_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, exit_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_somebody_elses_handler_is_kept() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with exit_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signal_helpers_do_nothing_outside_the_main_thread() -> None:
    def use() -> None:
        with exit_on_sigterm(), hold_signals():
            done.append(signal.getsignal(signal.SIGTERM))

    done: list[Any] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]


def test_signals_are_put_off_not_lost() -> None:
    steps: list[str] = []

    def interrupted() -> None:
        with hold_signals():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("went on")
        steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["went on"]


def test_failure_is_the_cause_not_the_consequence(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(EngineCore pid=2) ERROR 11-23 05:36:00 [core.py:1123] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n"
        + "(APIServer pid=1) INFO 11-23 05:36:00 [x.py:1] errors: none\n" * 40
        + "\x1b[36m(APIServer pid=1)\x1b[0m RuntimeError: Engine core initialization failed. See root cause above.\n",
        encoding="utf-8",
    )
    assert logs.failure(log) == "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"
    report = logs.report(log, 5).splitlines()
    assert len(report) == 7
    assert report[0].endswith("Tried 2 GiB")
    assert report[1] == "[...]"
    assert report[-1].startswith("(APIServer pid=1) RuntimeError")
    log.write_text(
        "(APIServer pid=1) pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, bad\n", encoding="utf-8"
    )
    assert logs.failure(log).endswith("ModelConfig: Value error, bad")
    log.write_text("usage: api_server.py ...\napi_server.py: error: unrecognized arguments: --x\n", encoding="utf-8")
    assert logs.failure(log) == "api_server.py: error: unrecognized arguments: --x"
    assert logs.tail(tmp_path / "none") == logs.failure(tmp_path / "none") == ""
