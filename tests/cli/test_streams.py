"""Standard streams in every state, and odd paths: a clear message and the documented exit code, never a traceback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.command import COMMAND, SAMPLE, environment, glyph_compress
from tests.support.fake_openai import Fake, running, says


def shell(line: str, state: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash; its exit code is that of the first command of its pipe."""
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, env=environment(state), check=False)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{COMMAND} {SAMPLE} --json --quiet | true", 0),
        (f"{COMMAND} serve --profile nvidia --print-command | true", 0),
        (f"{COMMAND} --help | true", 0),
        (f"{COMMAND} {SAMPLE} --json --quiet > /dev/full", 11),
        (f"{COMMAND} - <&-", 4),
        (f"{COMMAND} {SAMPLE} --quiet >&-", 0),
    ],
)
def test_streams_that_are_closed_full_or_left(tmp_path: Path, line: str, code: int) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert ("Error:" in done.stderr) == (code != 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--encoding", "undefined"], 4),
        (["--font", "~nosuchuser/x.ttf"], 5),
        (["--font", "x" * 300], 5),
        (["-q", "?", "--model", "~nosuchuser/x"], 3),
        (["-q", "?", "--model", "./" + "x" * 300], 3),
        (["-q", "?", "--model", "a/b", "--profile", "~nosuchuser/x.toml"], 3),
        (["--model", "a/b"], 2),
        (["--reader", "ocr"], 2),
        (["--profile", "cpu", "--port", "8000"], 2),
    ],
)
def test_odd_values_are_mistakes_not_bugs(tmp_path: Path, arguments: list[str], code: int) -> None:
    done = glyph_compress(SAMPLE, *arguments, state=tmp_path, GLYPH_VLLM_PYTHON=str(COMMAND.with_name("python")))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_doctor_takes_only_ports(tmp_path: Path) -> None:
    assert glyph_compress("doctor", "--port", "99999", state=tmp_path).returncode == 2


def test_json_is_json_in_every_locale(tmp_path: Path) -> None:
    with running(Fake(says([{"content": "café Ω"}]))) as fake:
        asked = [SAMPLE, "-q", "Où?", "--base-url", fake.base_url, "--json", "--quiet"]
        for encoding in ("utf-8", "latin-1", "koi8-r", "ascii"):
            done = subprocess.run([COMMAND, *asked], capture_output=True, env=environment(tmp_path, PYTHONIOENCODING=encoding), check=True)
            assert json.loads(done.stdout.decode("utf-8"))["text"] == "café Ω"


def test_an_answer_the_terminal_cannot_show_is_shown_as_escapes(tmp_path: Path) -> None:
    with running(Fake(says([{"content": "café Ω"}]))) as fake:
        asked = [SAMPLE, "-q", "What?", "--base-url", fake.base_url, "--quiet"]
        done = subprocess.run([COMMAND, *asked], capture_output=True, env=environment(tmp_path, PYTHONIOENCODING="latin-1"), check=True)
    assert done.stdout == "café \\u03a9\n".encode("latin-1")


def test_pages_of_a_former_run_do_not_stay(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("One page.", "utf-8")
    out = tmp_path / "out"
    assert glyph_compress("render", SAMPLE, "-o", out, state=tmp_path).returncode == 0
    (out / "mine.png").write_bytes(b"not ours")
    assert glyph_compress("render", short, "-o", out, state=tmp_path).returncode == 0
    assert {path.name for path in out.iterdir()} == {"page_0001.png", "pages.json", "mine.png"}
