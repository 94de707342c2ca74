"""The Python of README and the pages, run as it stands but for the server's address, against the real vLLM."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline import GlyphServer
from tests.support.command import REPOSITORY, SAMPLE, environment

pytestmark = pytest.mark.vllm

# What a page takes for granted, because its reader has it.
BEFORE = """
from pathlib import Path

from glyph_pipeline import GlyphPipeline, GlyphServer

text = Path("report.txt").read_text("utf-8")
other, model = text[:3000], MODEL
"""


def run(page: str, tmp_path: Path, model: Path, python: Path, url: str) -> list[str]:
    """The lines that the page's only block of Python prints."""
    (block,) = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    code = block.replace("http://127.0.0.1:8000/v1", url).replace('GlyphServer.launch("zai-org/Glyph")', f"GlyphServer.adopt({url!r})")
    (tmp_path / "report.txt").write_text(SAMPLE.read_text("utf-8"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", BEFORE.replace("MODEL", repr(str(model))) + code],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
        env=environment(tmp_path, GLYPH_VLLM_PYTHON=str(python)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/batch.md", "docs/benchmarks.md", "docs/serving.md"])
def test_the_python_of_the_page_runs(page: str, tiny_server: GlyphServer, tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    lines = run(page, tmp_path, tiny_model, vllm_python, tiny_server.base_url)
    answer = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))["answer"]
    if page == "README.md":
        assert lines[0].startswith(answer)
        assert sorted(lines[-2:]) == ["1 ok", "2 ok"]
    elif page == "docs/quickstart.md":
        assert lines[0].startswith("3922 1344 2.9")
        assert lines[1].startswith(answer)
    elif page == "docs/batch.md":
        assert sorted(lines) == [f"1 ok {answer}", f"2 ok {answer}"]
        assert json.loads((tmp_path / "answers.jsonl").read_text("utf-8"))["answer"] == answer
    elif page == "docs/benchmarks.md":
        assert [line.split()[:2] for line in lines] == [["1000", "1"], ["4000", "3"], ["16000", "10"], ["64000", "37"], ["128000", "73"]]
