"""The Python of README and quickstart, run as it stands but for the server's address, against the real vLLM."""

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


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_python_of_the_page_runs(page: str, tiny_server: GlyphServer, tiny_model: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    code = block.replace("http://127.0.0.1:8000/v1", tiny_server.base_url)
    code = code.replace('GlyphServer.launch("zai-org/Glyph")', f"GlyphServer.adopt({tiny_server.base_url!r})")
    (tmp_path / "report.txt").write_text(SAMPLE.read_text("utf-8"), "utf-8")
    before = 'from pathlib import Path\n\ntext = Path("report.txt").read_text("utf-8")\n'
    done = subprocess.run(
        [sys.executable, "-c", before + code],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))["answer"]
    assert answer in done.stdout
    if page == "README.md":
        assert sorted(done.stdout.splitlines()[-2:]) == ["1 ok", "2 ok"]
    else:
        assert done.stdout.startswith("3922 1344 2.9")
