"""GlyphServer and the real vLLM: it starts, answers, fails with vLLM's own words, and never leaves a process behind."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from glyph_pipeline.errors import ServerStartError, WrongModelError
from glyph_pipeline.serving import GlyphServer, ServerProcess, probe
from tests.support.processes import wait_for

pytestmark = pytest.mark.vllm

START_SECONDS = 600.0


def running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]


@pytest.fixture(autouse=True)
def _nothing_left(tiny_server: GlyphServer) -> Any:
    """No test adds a process to those of the shared server."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert running(set(psutil.Process().children(recursive=True)) - before) == []


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerProcess]:
    """The processes that launches have started, also those that failed."""
    started: list[ServerProcess] = []

    class Noted(ServerProcess):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr("glyph_pipeline.serving.keeper.ServerProcess", Noted)
    return started


def post(server: GlyphServer, content: Any) -> httpx.Response:
    body = {"model": server.model, "messages": [{"role": "user", "content": content}], "max_tokens": 300, "temperature": 0}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=300, trust_env=False)


def ask(server: GlyphServer, content: Any = "What?") -> dict[str, Any]:
    response = post(server, content)
    assert response.status_code == 200, response.text
    return dict(response.json()["choices"][0])


def page_file(folder: Path) -> list[dict[str, Any]]:
    """A question about a small white page in that folder, by its URL."""
    path = folder / "page 1.png"
    Image.new("L", (112, 112), 255).save(path)
    return [{"type": "image_url", "image_url": {"url": path.as_uri()}}, {"type": "text", "text": "What?"}]


def test_the_guides_flags_serve_and_answer(tiny_server: GlyphServer, tiny_model: Path) -> None:
    expected = json.loads((tiny_model / "tiny_glyph.json").read_text(encoding="utf-8"))
    assert tiny_server.model == str(tiny_model)
    assert tiny_server.info.require().max_model_len == 131072
    assert tiny_server.info.version
    assert probe(tiny_server.base_url) == tiny_server.info
    choice = ask(tiny_server)
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["reasoning"].strip() == expected["reasoning"].strip()


def test_adopting_leaves_it_running(tiny_server: GlyphServer) -> None:
    with GlyphServer.adopt(tiny_server.base_url) as adopted:
        assert (adopted.model, adopted.owned, adopted.pid) == (tiny_server.model, False, None)
    assert tiny_server.is_alive()
    wait_for(adopted.is_alive, "an answer to /health within two seconds", 60)
    with pytest.raises(WrongModelError, match=r"does not serve 'zai-org/Glyph'"):
        GlyphServer.adopt(tiny_server.base_url, "zai-org/Glyph")


def test_options_reach_it_killed_it_comes_back_as_before_and_stop_leaves_nothing(
    tiny_server: GlyphServer, tiny_model: Path, vllm_python: Path, tmp_path: Path, started: list[ServerProcess]
) -> None:
    """One server for all three: starting it takes most of a minute each time."""
    with GlyphServer.launch(
        tiny_model,
        "cpu",
        vllm=vllm_python,
        timeout=START_SECONDS,
        served_model_name="glyph",
        max_model_len=8192,
        max_num_batched_tokens=8192,
        extra_args=["--max-num-seqs", "2"],
        announce=True,
        page_folder=True,
    ) as server:
        assert server.base_url != tiny_server.base_url
        assert server.info.models[0].max_model_len == 8192
        assert server.model == "glyph"
        found = GlyphServer.find("glyph")
        assert found is not None
        assert found.base_url == server.base_url
        url, folder = server.base_url, server.page_folder
        assert folder is not None
        answer = ask(server, page_file(folder))["message"]
        refused = post(server, page_file(tmp_path))
        assert refused.status_code == 400
        assert "allowed-local-media-path" in refused.text
        assert server.revive() is False
        old = started[0].members()
        assert len(old) >= 2  # the API server and its engine
        started[0]._child.popen.kill()
        assert server.revive() is True
        assert len(started) == 2
        assert running(old) == []
        assert (server.base_url, server.page_folder) == (url, folder)
        assert ask(server, page_file(folder))["message"] == answer
        # The engine alone dies: the API server answers 5xx, and ends by itself or is ended.
        (engine,) = (member for member in started[1].members() if "EngineCore" in " ".join([member.name(), *member.cmdline()]))
        engine.kill()
        with contextlib.suppress(httpx.TransportError):  # or it is not there any more: it looks every five seconds
            assert post(server, "What?").status_code >= 500
        assert server.revive() is True
        assert ask(server, page_file(folder))["message"] == answer
        last = started[2].members()
        assert len(last) >= 2
    assert running([*last, *started[1].members(), *started[2].members()]) == []
    assert not folder.exists()
    assert GlyphServer.find("glyph") is None


def test_a_folder_that_is_no_model_fails_with_vllms_words(
    tiny_model: Path, vllm_python: Path, tmp_path: Path, started: list[ServerProcess]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model" / "config.json").write_text('{"model_type": "nonsense", "architectures": ["None"]}', encoding="utf-8")
    with pytest.raises(ServerStartError) as caught:
        GlyphServer.launch(tmp_path / "model", "cpu", vllm=vllm_python, timeout=START_SECONDS)
    assert "exit code 1" in caught.value.message
    assert "nonsense" in caught.value.message
    assert caught.value.log_tail
    assert running(started[0].members()) == []


def test_a_flag_that_vllm_does_not_know(tiny_model: Path, vllm_python: Path, started: list[ServerProcess]) -> None:
    with pytest.raises(ServerStartError, match=r"unrecognized arguments: --no-such-flag") as caught:
        GlyphServer.launch(tiny_model, "cpu", vllm=vllm_python, timeout=START_SECONDS, extra_args=["--no-such-flag"])
    assert "exit code 2" in caught.value.message
    assert running(started[0].members()) == []


def test_ctrl_c_while_it_loads_leaves_nothing(tiny_model: Path, vllm_python: Path, started: list[ServerProcess]) -> None:
    seen: list[psutil.Process] = []

    def interrupt_once_the_engine_runs(seconds: float, line: str) -> None:
        if "EngineCore" in line:
            seen.extend(started[0].members())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GlyphServer.launch(tiny_model, "cpu", vllm=vllm_python, timeout=START_SECONDS, on_wait=interrupt_once_the_engine_runs)
    assert len(seen) >= 2
    assert running(seen) == []
