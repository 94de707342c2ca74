"""A server that dies is started again: at the same place, not too often, by one thread for all, and never after it was stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from glyph_pipeline.errors import ConfigError, GlyphError, ServerStartError
from glyph_pipeline.serving import GlyphServer, VLLMInstallation, keeper, registry

pytestmark = pytest.mark.usefixtures("no_process_left")

ROOT = Path(__file__).resolve().parents[2]
Launch = Callable[..., GlyphServer]


def kill(server: GlyphServer) -> int:
    """SIGKILL its process; the number that it had."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def ask(server: GlyphServer, path: str) -> httpx.Response:
    return httpx.get(server.base_url.replace("/v1", path), trust_env=False)


@pytest.fixture
def counted(launch: Launch, tmp_path: Path) -> Any:
    """Launches a stand-in whose starts behave differently; gives it and the number of its starts so far."""
    file = tmp_path / "starts"

    def start(behaviours: str, **options: Any) -> tuple[GlyphServer, Callable[[], int]]:
        return launch(behaviours, "--starts", str(file), **options), lambda: file.stat().st_size

    return start


def test_a_killed_server_comes_back_at_the_same_place(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_LAUNCH", "yes")
    said: list[str] = []
    with launch("late", announce=True, on_restart=said.append, served_model_name="glyph") as server:
        monkeypatch.delenv("OF_THE_LAUNCH")
        before = (server.base_url, server.log_path, ask(server, "/argv").json())
        assert server.revive() is False  # it is alive
        old = kill(server)
        seen: list[str] = []
        assert server.revive(on_wait=lambda seconds, line: seen.append(line)) is True
        assert (server.base_url, server.log_path, ask(server, "/argv").json()) == before
        assert ask(server, "/environment").json()["OF_THE_LAUNCH"] == "yes"
        assert (server.restarted, server.is_alive(), server.wait(0)) == (1, True, None)
        assert server.pid != old
        assert seen
        assert server.log_path is not None
        assert said == [
            "The server died (killed by SIGKILL, as the system does when memory runs out) and is started again "
            f"(1 of at most 3 within 600 s). Log: {server.log_path}"
        ]
        log = server.log_path.read_text(encoding="utf-8")
        assert (
            log.index(f"pid={old}") < log.index("--- glyph-pipeline: the server died (killed by SIGKILL") < log.index(f"pid={server.pid}")
        )
        assert f"pid={old}" not in server.log_tail()
        found = GlyphServer.find("glyph")
        assert found is not None
        assert (found.pid, found.base_url) == (server.pid, server.base_url)
        assert len(list(registry.state_dir().glob("*.json"))) == 1
    assert not server.is_alive()
    assert GlyphServer.find() is None


def test_what_the_dead_one_left_is_gone_first(launch: Launch, running: Callable[..., Any]) -> None:
    members: list[psutil.Process] = []
    left: list[Any] = [None]
    with launch("orphans", on_restart=lambda sentence: left.__setitem__(slice(None), running(members))) as server:
        assert server.pid is not None
        members.extend(psutil.Process(server.pid).children())
        assert len(members) == 1
        kill(server)
        assert server.revive()
        assert left == []
        server.stop(grace=0.2)


def test_it_is_given_up_when_it_dies_too_often(launch: Launch) -> None:
    with launch(restarts=2, restart_window=500) as server:
        for _ in range(2):
            kill(server)
            assert server.revive()
        kill(server)
        words = r"died 3 times within \d+ s and is not started again: at most 2 restarts within 500 s .*killed by SIGKILL"
        for _ in range(2):  # asked again, it says the same
            with pytest.raises(ServerStartError, match=words) as caught:
                server.revive()
            assert "stand-in" in caught.value.log_tail
            assert str(server.log_path) in str(caught.value.hint)
        assert server.restarted == 2


def test_deaths_of_long_ago_do_not_count(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    with launch(restarts=1, restart_window=0.001) as server:
        for _ in range(3):
            kill(server)
            assert server.revive()


def test_no_restarts_at_all(launch: Launch) -> None:
    with launch(restarts=0) as server:
        kill(server)
        with pytest.raises(ServerStartError, match=r"^The server ended by itself \(killed by SIGKILL"):
            server.revive()


@pytest.mark.parametrize("options", [{"restarts": -1}, {"restart_window": 0}, {"restart_window": float("nan")}])
def test_limits_that_cannot_be(launch: Launch, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} = .* cannot be used"):
        launch(**options)


def test_a_death_while_it_starts_again_counts_too(counted: Any) -> None:
    server, starts = counted("ready,dies,ready")
    with server:
        kill(server)
        assert server.revive()
        assert (starts(), server.restarted) == (3, 1)


def test_one_that_cannot_start_any_more(counted: Any) -> None:
    server, starts = counted("ready,dies")
    with server:
        kill(server)
        with pytest.raises(
            ServerStartError, match=r"died 4 times .*exit code 3, while starting\): ValueError: no such model arch"
        ) as caught:
            server.revive()
        assert starts() == 4
        assert "Traceback" in caught.value.log_tail


def test_one_that_is_not_ready_in_time(counted: Any) -> None:
    server, _ = counted("ready,never", timeout=120)
    with server:
        server._keeper._timeout = 0.5
        kill(server)
        with pytest.raises(ServerStartError, match=r"not ready after 0\.5 seconds"):
            server.revive()
        assert not server.is_alive()
        assert server.log_path.read_text("utf-8").count("is started again ---") == 1


def test_many_threads_one_restart(counted: Any) -> None:
    server, starts = counted("ready,late,dies")
    outcomes: list[Any] = []

    def revive(barrier: threading.Barrier) -> None:
        barrier.wait(60)
        try:
            outcomes.append(server.revive())
        except GlyphError as error:
            outcomes.append(error)

    def all_at_once() -> list[Any]:
        outcomes.clear()
        kill(server)
        server.wait(60)
        barrier = threading.Barrier(6)
        threads = [threading.Thread(target=revive, args=(barrier,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return list(outcomes)

    with server:
        assert all_at_once().count(True) >= 1  # one that came too late found it alive
        assert len(outcomes) == 6
        assert all(outcome in (True, False) for outcome in outcomes)
        assert (starts(), server.restarted) == (2, 1)
        assert server.is_alive()
        assert all(isinstance(outcome, ServerStartError) for outcome in all_at_once())
        assert starts() == 4  # three restarts are allowed, one of them was used before


def test_those_who_wait_get_the_same_outcome(counted: Any) -> None:
    server, starts = counted("ready,late")
    joined, outcomes = threading.Event(), []

    def follow() -> None:
        outcomes.append(server.revive(on_wait=lambda seconds, line: joined.set()))

    follower = threading.Thread(target=follow)

    def lead(seconds: float, line: str) -> None:
        if not follower.ident:
            follower.start()
            assert joined.wait(60)

    with server:
        kill(server)
        assert server.revive(on_wait=lead)
        follower.join(120)
        assert outcomes == [True]
        assert starts() == 2


def test_one_who_breaks_off_leaves_it_to_the_others(counted: Any) -> None:
    server, starts = counted("ready,never,ready")
    joined, outcomes = threading.Event(), []
    follower = threading.Thread(target=lambda: outcomes.append(server.revive(on_wait=lambda seconds, line: joined.set())))

    def lead(seconds: float, line: str) -> None:
        if "loading" in line:
            follower.start()
            assert joined.wait(60)
            raise KeyboardInterrupt

    with server:
        kill(server)
        with pytest.raises(KeyboardInterrupt):
            server.revive(on_wait=lead)
        follower.join(120)
        assert outcomes == [True]
        assert starts() == 3


@pytest.mark.parametrize("followers", [0, 2])
def test_stop_wins_over_a_revival(counted: Any, running: Callable[..., Any], followers: int) -> None:
    server, starts = counted("ready,never", announce=True)
    loading = threading.Barrier(1 + 1 + followers)
    outcomes: list[bool] = []

    def revive() -> None:
        met: list[int] = []

        def wait(seconds: float, line: str) -> None:
            if "loading" in line and not met:
                met.append(loading.wait(60))

        outcomes.append(server.revive(on_wait=wait))

    threads = [threading.Thread(target=revive) for _ in range(1 + followers)]
    kill(server)
    for thread in threads:
        thread.start()
    loading.wait(60)
    assert server.is_alive()
    server.stop()
    members = psutil.Process().children(recursive=True)
    assert not running(members)
    for thread in threads:
        thread.join(120)
    assert outcomes == [False] * (1 + followers)
    assert server.revive() is False
    assert starts() == 2
    assert not server.is_alive()
    assert not list(registry.state_dir().glob("*.json"))


def test_stop_before_it_is_started_again(counted: Any) -> None:
    server, starts = counted("ready", on_restart=lambda sentence: server.stop())
    kill(server)
    assert server.revive() is False
    assert starts() == 1
    assert not server.is_alive()


def test_one_that_is_ill_is_stopped_and_started_again(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_SICK_SECONDS", 0.3)
    said: list[str] = []
    with launch("broken", on_restart=said.append) as server:
        old = server.pid
        ask(server, "/break")
        assert server.is_alive()
        assert server.revive()
        assert server.pid != old
        assert "its process ran, but /health did not answer 200" in said[0]


def test_one_that_is_ill_may_end_by_itself(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_SICK_SECONDS", 120)  # however slow the machine, it is not stopped before
    said: list[str] = []
    with launch("brittle", on_restart=said.append) as server:
        ask(server, "/break")
        assert server.revive()
        assert "(exit code 4)" in said[0]


def test_one_that_recovers_is_left_alone(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([keeper.Health.SILENT, keeper.Health.SICK, keeper.Health.WELL])
    with launch() as server:
        old = server.pid
        monkeypatch.setattr(keeper, "look", lambda url, timeout: next(answers))
        assert server.revive() is False
        assert (server.pid, server.is_alive(), server.restarted) == (old, True, 0)


def test_silence_is_borne_longer_than_illness(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_SICK_SECONDS", -1.0)
    answers = iter([keeper.Health.SILENT, keeper.Health.WELL])
    with launch() as server:
        monkeypatch.setattr(keeper, "look", lambda url, timeout: next(answers))
        assert server.revive() is False


def test_others_servers_are_nobodys_business(launch: Launch) -> None:
    with launch() as server:
        adopted = GlyphServer.adopt(server.base_url)
        kill(server)
        server.wait(60)
        assert (adopted.revive(), adopted.restarted, adopted.page_folder) == (False, 0, None)


def test_a_port_that_is_held_for_a_moment(launch: Launch) -> None:
    holder = socket.socket()

    def hold(sentence: str) -> None:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", httpx.URL(server.base_url).port or 0))
        holder.listen()

    with holder, launch(on_restart=hold, restarts=1) as server:
        kill(server)
        server.wait(60)
        held: list[bool] = []
        assert server.revive(on_wait=lambda seconds, line: (held.append(holder.fileno() >= 0), holder.close()))
        assert held[0]
        assert server.is_alive()


def test_open_connections_to_the_dead_one_do_not_hold_the_port(launch: Launch) -> None:
    with launch(restarts=1) as server, httpx.Client(trust_env=False) as client:
        url = server.base_url + "/models"
        assert client.get(url).status_code == 200
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)):
            kill(server)
            waits: list[float] = []
            assert server.revive(on_wait=lambda seconds, line: waits.append(seconds))
        assert client.get(url).status_code == 200


def test_children_that_nobody_can_end(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    with launch() as server:
        kill(server)
        server.wait(60)
        with monkeypatch.context() as patched:
            patched.setattr(keeper, "_REMAINS_SECONDS", 0.3)
            patched.setattr(keeper.ServerProcess, "members", lambda process: [psutil.Process()])
            with pytest.raises(ServerStartError, match=rf"cannot be ended: {os.getpid()} \([a-z-]+, \d+ threads\)\."):
                server.revive()
        assert server.revive()


def test_children_that_take_their_time_to_end(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started beside them, and nothing is given up because of them."""
    with launch() as server:
        old = kill(server)
        server.wait(60)
        looks = [[psutil.Process()], [psutil.Process()], []]
        waits: list[int | None] = []
        real = keeper.ServerProcess.members
        with monkeypatch.context() as patched:
            patched.setattr(keeper.ServerProcess, "members", lambda process: looks.pop(0) if looks else real(process))
            assert server.revive(on_wait=lambda seconds, line: waits.append(server.pid) if looks else None)
        assert waits == [old, old]
        assert server.restarted == 1


def test_stop_does_not_wait_for_children_that_nobody_can_end(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    server = launch()
    kill(server)
    server.wait(60)
    with monkeypatch.context() as patched:
        patched.setattr(keeper.ServerProcess, "members", lambda process: [psutil.Process()])
        assert server.revive(on_wait=lambda seconds, line: server.stop()) is False
    assert server.restarted == 0


OWNER = """
import os, signal, sys, time
from pathlib import Path
from glyph_pipeline.serving import GlyphServer, VLLMInstallation
import glyph_pipeline.serving.process as process
process.DEFAULT_GRACE = 0.3
GlyphServer.stop.__defaults__ = (0.3,)
vllm = VLLMInstallation(None, Path(sys.argv[1]), "0", "a test")
args = ["--behaviour", sys.argv[3], "--starts", sys.argv[4]]
with GlyphServer.launch(sys.argv[2], "nvidia", vllm=vllm, extra_args=args, announce=True, page_folder=True) as server:
    (server.page_folder / "page.png").touch()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    server.revive(on_wait=lambda seconds, line: "loading" in line and print(server.page_folder, flush=True))
    print(server.page_folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("behaviours", ["orphans", "ready,never"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_when_we_end_the_second_one_ends_too(
    fake_vllm: VLLMInstallation,
    model_folder: Path,
    tmp_path: Path,
    behaviours: str,
    number: int,
    code: int,
    running: Callable[..., Any],
    eventually: Callable[..., None],
) -> None:
    """While it is started again, and after."""
    arguments = [sys.executable, "-c", OWNER, str(fake_vllm.executable), str(model_folder), behaviours, str(tmp_path / "starts")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().decode().strip())
        assert (folder / "page.png").is_file()
        children = psutil.Process(owner.pid).children(recursive=True)
        assert len(children) == (3 if behaviours == "orphans" else 2)  # the server, perhaps its child, and one watchdog
        owner.send_signal(number)
        assert owner.wait(60) == code
    eventually(lambda: not running(children))
    eventually(lambda: not folder.exists())
    assert registry.running_servers() == []
