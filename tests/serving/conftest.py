"""Fixtures of the serving tests: a stand-in for vLLM, folders of their own for state and logs, and waiting with a deadline."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from glyph_pipeline.serving import GlyphServer, VLLMInstallation

FAKE_VLLM = Path(__file__).with_name("fake_vllm.py")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves anything in, the user's folders; no setting of the user reaches a test."""
    for variable in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("GLYPH_STATE_DIR", str(tmp_path / "state"))
    for variable in ("GLYPH_VLLM_PYTHON", "GLYPH_VLLM_CPU_HOME", "VLLM_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def fake_vllm(tmp_path: Path) -> VLLMInstallation:
    """A ``vllm`` command that is the stand-in."""
    command = tmp_path / "bin" / "vllm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_VLLM}" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return VLLMInstallation(None, command, "0.0", "a test")


@pytest.fixture
def stand_in() -> Callable[[str], list[str]]:
    """The command line of the stand-in with that behaviour."""
    return lambda behaviour, *more: [sys.executable, str(FAKE_VLLM), "serve", "m", "--behaviour", behaviour, *more]


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits until something is true, and fails when it is not after some seconds."""

    def wait(condition: Callable[[], object], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def running() -> Callable[[Iterable[int | psutil.Process]], list[psutil.Process]]:
    """Those of some processes that still run; zombies, which nobody in a container may collect, do not."""

    def still(processes: Iterable[int | psutil.Process]) -> list[psutil.Process]:
        found = []
        for process in processes:
            try:
                process = psutil.Process(process) if isinstance(process, int) else process
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                pass
        return found

    return still


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "glm4v"}), encoding="utf-8")
    return folder


@pytest.fixture
def launch(fake_vllm: VLLMInstallation, model_folder: Path) -> Callable[..., GlyphServer]:
    """Launches the stand-in, with that behaviour and more flags."""

    def start(behaviour: str = "ready", *more: str, **options: Any) -> GlyphServer:
        options = {"timeout": 120, "vllm": fake_vllm, **options}
        return GlyphServer.launch(model_folder, "nvidia", extra_args=["--behaviour", behaviour, *more], **options)

    return start


@pytest.fixture
def no_process_left() -> Any:
    """Fails a test that leaves a process behind."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [child for child in set(psutil.Process().children(recursive=True)) - before if child.status() != psutil.STATUS_ZOMBIE]
    assert left == []
