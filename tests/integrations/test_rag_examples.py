"""The examples of docs/examples answer with their sources, and neither they nor their frameworks reach out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integrations.corpus import EXAMPLES, FERRET
from tests.support.command import environment

SEALED = Path(__file__).with_name("sealed_run.py")
FRAMEWORKS = ("langchain", "llama_index", "haystack")


def sealed(file: Path, tmp_path: Path, *arguments: str, **more: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """The file's run, and what it would have sent had it not been sealed."""
    log = tmp_path / "reached_out"
    # A home of its own: nothing is cached there, and what a library writes on first use it writes now.
    known = environment(tmp_path / "state", HOME=str(tmp_path / "home"), **more)
    known = {
        name: value
        for name, value in known.items()
        if not name.startswith(("HAYSTACK_", "LANGSMITH_", "LANGCHAIN_", "TIKTOKEN_")) or name in more
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", SEALED, log, file, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=known,
        check=False,
    )
    return done, log.read_text() if log.exists() else ""


@pytest.mark.ocr
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_answers_with_its_sources_and_sends_nothing(framework: str, tmp_path: Path) -> None:
    done, reached = sealed(EXAMPLES / f"rag_{framework}.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert FERRET["must_quote"][0] in done.stdout
    assert "source: sample.txt, page 1: characters " in done.stdout
    assert "ratio: " in done.stdout
    assert reached == ""
    assert not (tmp_path / "home" / ".haystack").exists()


def test_the_seal_sees_what_haystack_sends_when_it_is_let(tmp_path: Path) -> None:
    program = tmp_path / "telling.py"
    program.write_text(
        "import posthog\n"
        "from haystack import Document, Pipeline\n"
        "from glyph_pipeline.integrations.haystack import GlyphPages\n"
        "pipeline = Pipeline()\n"
        "pipeline.add_component('pages', GlyphPages())\n"
        "pipeline.run({'pages': {'documents': [Document(content='A text.')]}})\n"
        "posthog.flush()\n"
    )
    assert sealed(program, tmp_path)[1] == ""  # our import has switched it off, although it came second
    done, reached = sealed(program, tmp_path, HAYSTACK_TELEMETRY_ENABLED="true")
    assert done.returncode == 0, done.stderr
    assert "posthog" in reached  # the user's own word counts; and without it this test would prove nothing


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_importing_an_integration_and_making_its_reader_sends_nothing(framework: str, tmp_path: Path) -> None:
    made = {"langchain": "GlyphReader", "llama_index": "GlyphSynthesizer", "haystack": "GlyphReader"}[framework]
    program = tmp_path / "importing.py"
    program.write_text(f"from glyph_pipeline.integrations.{framework} import {made}\n{made}(reader='ocr')\n")
    # With this set, LlamaIndex would not find the tokenizer that comes with it, and load one.
    done, reached = sealed(program, tmp_path, TIKTOKEN_CACHE_DIR=str(tmp_path / "empty"))
    assert (done.returncode, reached, done.stderr) == (0, "", "")
    assert not (tmp_path / "home" / ".haystack").exists()
